"""The goals of PERFORMANCE.md that are ratios of rates or latencies, as data.

Rules: a ratio is ours / theirs of one figure; a goal on a rate is a least ratio, one on
a latency a greatest. What a measure is called is fixed in ``workloads``; who a peer is,
in ``peers``.

Source: PERFORMANCE.md, the table of goals.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Final

__all__ = ["GOALS", "Figure", "Goal", "figure_of", "goal_of"]


class Figure(enum.StrEnum):
    """What is compared of a measure."""

    RATE = "op/s"
    P50 = "p50"


@dataclasses.dataclass(frozen=True, slots=True)
class Goal:
    """A ratio to reach.

    Attributes:
        measure: Of which workload.
        peer: Against whom.
        ratio: Ours / theirs: at least this for rates, at most this for latencies.
    """

    measure: str
    peer: str
    ratio: float

    def is_met_by(self, ratio: float) -> bool:
        """Tell whether a ratio reaches the goal."""
        match figure_of(self.measure):
            case Figure.RATE:
                return ratio >= self.ratio
            case Figure.P50:
                return ratio <= self.ratio

    def __str__(self) -> str:
        sign = ">=" if figure_of(self.measure) is Figure.RATE else "<="
        return f"{sign} {self.ratio:g}x"


_BY_LATENCY: Final = frozenset({"put-1", "handover"})

GOALS: Final = (
    Goal("put-1", "etcd", 0.8),
    Goal("put-1", "zookeeper", 1.0),
    Goal("put-64", "etcd", 5),
    Goal("put-64", "zookeeper", 2.5),
    Goal("put-1000", "etcd", 5),
    Goal("put-1000", "zookeeper", 4),
    Goal("get-64", "etcd", 3),
    Goal("get-1000", "etcd", 3),
    Goal("lock-64", "etcd", 5),
    Goal("handover", "etcd", 0.5),
    Goal("handover", "zookeeper", 0.5),
    Goal("handover", "kazoo", 0.5),
    Goal("job-64", "beanstalkd -f0", 5),
    Goal("job-64", "beanstalkd", 1),
    Goal("job-64-connections", "beanstalkd -f0", 1),
)


def figure_of(measure: str) -> Figure:
    """Return what is compared: one in flight is about latency, many about the rate."""
    return Figure.P50 if measure in _BY_LATENCY else Figure.RATE


def goal_of(measure: str, peer: str) -> Goal | None:
    """Return the goal against a peer, or None: it is shown for orientation."""
    found = (goal for goal in GOALS if (goal.measure, goal.peer) == (measure, peer))
    return next(found, None)
