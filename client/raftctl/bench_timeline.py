"""When operations were acknowledged, and the pauses between, in bounded memory.

Rules: acknowledgements are counted by bins of the measured time, and of the pauses only
the longest are kept. It is right at any moment, so that a run which was stopped still
says what it measured.

Source: PERFORMANCE.md (what is told of a workload).
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter
from dataclasses import dataclass
from typing import Final

__all__ = ["Pause", "Steps", "Timeline"]

_BINS: Final = 3000
"""Of the measured time; many, so that a run which is stopped early has some, too."""
_STEPS_MAX: Final = 150
_STEPS_MIN: Final = 10
_PAUSES_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class Steps:
    """Values from one edge to the next; there is one edge more than values."""

    edges: list[float]
    values: list[float]


@dataclass(frozen=True, slots=True, order=True)
class Pause:
    """A time without an acknowledgement; longer ones are greater.

    Attributes:
        length_s: How long it was.
        begin_s: After the measurement began.
    """

    length_s: float
    begin_s: float


class Timeline:
    """The measured time of one workload so far.

    Attributes:
        operations: That ended within it.
        lasted_s: How much of it is over; known at its end.
        errors: Of the warm-up too, by reason.
    """

    def __init__(self, measured_s: float) -> None:
        """Begin to count.

        Args:
            measured_s: How long it shall last; more than 0.
        """
        self.operations = 0
        self.lasted_s = 0.0
        self.errors: Final[Counter[str]] = Counter()
        self._measured_s: Final = measured_s
        self._bin_s: Final = measured_s / _BINS
        self._bins: Final = [0] * _BINS
        self._longest: Final[list[Pause]] = []
        self._last_s = 0.0

    def acknowledge(self, at_s: float) -> None:
        """Count an operation, by the seconds after the measurement began.

        One that ended too late ends a pause and no more, unless it is the only one.
        """
        self._pause_until(at_s)
        self._last_s = at_s
        if at_s < self._measured_s or not self.operations:
            self.operations += 1
            self._bins[min(int(at_s / self._bin_s), _BINS - 1)] += 1

    def end(self, at_s: float) -> None:
        """Take note that the load ended: all its time is over, or it was stopped."""
        self.lasted_s = max(0.0, min(at_s, self._measured_s))
        self._pause_until(self.lasted_s)

    def _pause_until(self, at_s: float) -> None:
        length_s = at_s - self._last_s
        if len(self._longest) < _PAUSES_MAX:
            heapq.heappush(self._longest, Pause(length_s, self._last_s))
        elif length_s > self._longest[0].length_s:
            heapq.heapreplace(self._longest, Pause(length_s, self._last_s))

    @property
    def rate(self) -> float:
        """Operations per second."""
        return self.operations / self.lasted_s if self.lasted_s else 0.0

    @property
    def pauses(self) -> list[Pause]:
        """The longest times without an acknowledgement, the longest first."""
        return sorted(self._longest, reverse=True)

    def rates(self, operations_per_step: int) -> Steps:
        """Return operations per second, by seconds, for all that is over.

        Args:
            operations_per_step: About so many, if that makes neither too few steps nor
                too many.
        """
        used = min(int(self.lasted_s / self._bin_s) + 1, _BINS)
        wanted = self.operations // operations_per_step
        size = math.ceil(used / min(max(wanted, _STEPS_MIN), _STEPS_MAX))
        bounds = [*range(0, used, size), used]
        last_s = self.lasted_s - bounds[-2] * self._bin_s
        if len(bounds) > 2 and last_s < size * self._bin_s / 2:
            del bounds[-2]  # a sliver would show chance
        edges = [*(number * self._bin_s for number in bounds[:-1]), self.lasted_s]
        values = [
            sum(self._bins[low:high]) / (end_s - begin_s)
            for (low, high), (begin_s, end_s) in zip(
                itertools.pairwise(bounds), itertools.pairwise(edges), strict=True
            )
        ]
        return Steps(edges, values)
