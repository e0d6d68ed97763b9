"""Runs, and what is computed from them: medians, ranges, ratios round by round.

Rules: nothing is dropped and nothing averaged. A ratio is taken between the two runs of
one round, which met the machine in the same mood; the median and range of those ratios
are what is told. A ratio of two medians would mix rounds.

Source: PERFORMANCE.md (figures hold only as ratios taken side by side).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from tests.bench.goals import Figure, Goal, figure_of, goal_of

__all__ = ["OURS", "Comparison", "Results", "Spread", "Turn", "spread_of"]

OURS: Final = "raftd"


class Turn(msgspec.Struct, frozen=True):
    """One run of one workload on one system.

    Attributes:
        system: By name; ``raftd`` is ours.
        measure: The workload.
        round: From 0; runs with the same number belong together.
        operations: That ended within the measured time.
        rate: Operations per second.
        p50_us: Of an operation, as its task saw it.
        p99_us: Of the slowest hundredth.
        cpu_us: Processor time per operation, by process as far as it is known.
    """

    system: str
    measure: str
    round: int
    operations: int
    rate: float
    p50_us: float
    p99_us: float
    cpu_us: dict[str, float]

    @property
    def cpu_total_us(self) -> float:
        """Processor time per operation of client and servers together."""
        return sum(self.cpu_us.values())

    def figure(self, figure: Figure) -> float:
        """Return what is compared."""
        match figure:
            case Figure.RATE:
                return self.rate
            case Figure.P50:
                return self.p50_us


class Spread(msgspec.Struct, frozen=True):
    """A median with its range, and of how many."""

    median: float
    low: float
    high: float
    count: int


class Comparison(msgspec.Struct, frozen=True):
    """Ours beside a peer's, for one measure.

    Attributes:
        ours: Over the rounds in which both ran.
        theirs: Over the same rounds.
        ratio: Ours / theirs, of the ratios of those rounds.
    """

    measure: str
    peer: str
    ours: Spread
    theirs: Spread
    ratio: Spread

    @property
    def figure(self) -> Figure:
        """What was compared."""
        return figure_of(self.measure)

    @property
    def goal(self) -> Goal | None:
        """What was to be reached, if anything was."""
        return goal_of(self.measure, self.peer)

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is met by the median; None without a goal."""
        goal = self.goal
        return None if goal is None else goal.is_met_by(self.ratio.median)


def spread_of(values: Iterable[float]) -> Spread:
    """Return the median and range of at least one value."""
    ordered = sorted(values)
    assert ordered, "a spread is of something"
    return Spread(
        statistics.median(ordered), ordered[0], ordered[-1], count=len(ordered)
    )


class Results:
    """All runs of one benchmark, in the order they were made."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        """Keep the runs."""
        self.turns: Final = tuple(turns)

    @property
    def measures(self) -> list[str]:
        """Each measure once, in the order of its first run."""
        return list(dict.fromkeys(turn.measure for turn in self.turns))

    @property
    def peers(self) -> list[str]:
        """Each system that is not ours, in the order of its first run."""
        systems = dict.fromkeys(turn.system for turn in self.turns)
        return [system for system in systems if system != OURS]

    def of(self, measure: str, system: str) -> dict[int, Turn]:
        """Return a system's runs of a measure by round."""
        return {
            turn.round: turn
            for turn in self.turns
            if (turn.measure, turn.system) == (measure, system)
        }

    def spread(
        self, measure: str, system: str, figure: Callable[[Turn], float]
    ) -> Spread:
        """Return the median and range of a figure; there has been a run."""
        return spread_of(map(figure, self.of(measure, system).values()))

    def comparisons(self) -> list[Comparison]:
        """Compare ours with each peer, measure by measure, where both have run."""
        found = []
        for measure in self.measures:
            for peer in self.peers:
                comparison = self._compare(measure, peer)
                if comparison is not None:
                    found.append(comparison)
        return found

    def _compare(self, measure: str, peer: str) -> Comparison | None:
        figure = figure_of(measure)
        ours, theirs = self.of(measure, OURS), self.of(measure, peer)
        pairs = [
            (ours[number].figure(figure), theirs[number].figure(figure))
            for number in ours
            if number in theirs and theirs[number].figure(figure) > 0
        ]
        if not pairs:
            return None
        return Comparison(
            measure,
            peer,
            ours=spread_of(own for own, _ in pairs),
            theirs=spread_of(their for _, their in pairs),
            ratio=spread_of(own / their for own, their in pairs),
        )
