"""The two clocks that the leader stamps into entries.

Rules: the lease clock starts where the log's last stamp stood, moves by capped ticks,
stands still without a leader and never goes back: a leader that was stopped for a
minute does not expire everyone when it wakes. The wall stamp never goes back either,
and one clock that runs ahead cannot drag it along: it is held to the median of the
voters' clocks plus a second.

Source: RELIABILITY.md section 0 finding 4 and rule 35; DESIGN.md section 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

__all__ = ["CLOCK_APART_MS_MAX", "LeaseClock", "median_ms"]

_AHEAD_OF_MEDIAN_MS: Final = 1000

CLOCK_APART_MS_MAX: Final = 10_000
"""A node further off the median than this does not lead."""


class LeaseClock:
    """Stamps for one term of leadership."""

    __slots__ = ("_cap_ms", "_last_monotonic_ms", "now_ms", "wall_ms")

    def __init__(self, heartbeat_ms: int) -> None:
        """Stand still until ``start``.

        Args:
            heartbeat_ms: Two of them cap one tick.
        """
        self._cap_ms: Final = 2 * heartbeat_ms
        self._last_monotonic_ms = 0
        self.now_ms = 0
        self.wall_ms = 0

    def start(self, *, now_ms: int, wall_ms: int, monotonic_ms: int) -> None:
        """Go on from the log's last stamps, at the begin of a leadership."""
        self.now_ms = max(self.now_ms, now_ms)
        self.wall_ms = max(self.wall_ms, wall_ms)
        self._last_monotonic_ms = monotonic_ms

    def tick(self, monotonic_ms: int) -> None:
        """Move by the time since the last tick, two heartbeats at most."""
        elapsed_ms = monotonic_ms - self._last_monotonic_ms
        self._last_monotonic_ms = monotonic_ms
        self.now_ms += max(0, min(elapsed_ms, self._cap_ms))

    def tick_wall(self, own_ms: int, others_ms: Sequence[int]) -> None:
        """Move the wall stamp towards the own clock, within the voters' reason."""
        limit_ms = median_ms(own_ms, others_ms) + _AHEAD_OF_MEDIAN_MS
        self.wall_ms = max(self.wall_ms, min(own_ms, limit_ms))


def median_ms(own_ms: int, others_ms: Sequence[int]) -> int:
    """Return the (lower) median of all clocks that are known."""
    known = sorted([own_ms, *(ms for ms in others_ms if ms)])
    return known[(len(known) - 1) // 2]
