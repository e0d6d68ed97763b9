"""Whether this member should lead: judged by what its own disk and loop do.

A leader whose disk hangs still sends heartbeats, so nobody else takes over; one whose
loop stands still hurts everybody. Each tick hands in what was measured, and gets the
advice. Pure: times are arguments.

Rules: T is the election timeout.

* A write that is under way for more than T/2: hand over; for more than T: step down.
* A loop that comes more than T late: step down. More than T/2 late twice within 10 T:
  hand over (once, and over, tells little).
* A full disk: hand over.
* Writes that take, over a window of them, four times what the quickest follower's
  take, and T/10 on average: hand over, before anything stands still.
* Unfit is who was in one of the first three for the last T; what is merely slow may
  still lead if nobody else does.

Source: RELIABILITY.md rules 14 and 51.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import Final

__all__ = ["Advice", "Fitness", "Pace"]

_STALLS_WITHIN: Final = 10
_PACE_WRITES: Final = 32
_PACE_RATIO: Final = 4
_PACE_PART: Final = 10


class Advice(enum.Enum):
    """What a leader should do; for others only ``Fitness.is_fit`` counts."""

    STAY = "stay"
    HAND_OVER = "hand over"
    STEP_DOWN = "step down"


class Pace:
    """Compares the leader's writes with those of its quickest follower."""

    __slots__ = ("_index", "_others_s", "_pairs", "_since_s")

    def __init__(self) -> None:
        self._pairs: Final[deque[tuple[float, float]]] = deque(maxlen=_PACE_WRITES)
        self._index = 0
        self._since_s = 0.0
        self._others_s: float | None = None

    @property
    def is_asking(self) -> bool:
        """Whether the followers' progress is wanted now."""
        return self._index > 0 and self._others_s is None

    def begin(self, index: int, since_s: float) -> None:
        """Note a write of this leader up to an entry that was sent at an instant."""
        self._index, self._since_s, self._others_s = index, since_s, None

    def follower_at(self, index: int, now_s: float) -> None:
        """Note how far the quickest follower is."""
        if self._index and index >= self._index and self._others_s is None:
            self._others_s = now_s - self._since_s

    def end(self, now_s: float, *, is_leader: bool) -> None:
        """Note that the write is durable here."""
        if self._index and is_leader:
            own_s = now_s - self._since_s
            others_s = own_s if self._others_s is None else self._others_s
            self._pairs.append((own_s, others_s))
        self._index = 0

    def forget(self) -> None:
        """Begin anew: another leads, or was asked to."""
        self._pairs.clear()

    def is_slow(self, election_ms: int) -> bool:
        """Tell whether this disk is far slower than a follower's, again and again."""
        if len(self._pairs) < _PACE_WRITES:
            return False
        own_s = sum(own_s for own_s, _ in self._pairs)
        others_s = sum(others_s for _, others_s in self._pairs)
        mean_ms = own_s / _PACE_WRITES * 1000
        return own_s > _PACE_RATIO * others_s and mean_ms > election_ms / _PACE_PART


class Fitness:
    """See the module's rules."""

    __slots__ = ("_election_ms", "_fit_again_ms", "_stalls_ms", "pace", "reason")

    def __init__(self, election_ms: int) -> None:
        self.pace: Final = Pace()
        self.reason = ""
        self._election_ms: Final = election_ms
        self._fit_again_ms = 0
        self._stalls_ms: Final[deque[int]] = deque(maxlen=2)

    @property
    def is_fit(self) -> bool:
        """Whether this member may ask for votes."""
        return not self._fit_again_ms

    def judge(
        self, now_ms: int, *, write_age_ms: int, lag_ms: int, is_full: bool
    ) -> Advice:
        """Take in one tick's measures.

        Args:
            now_ms: Monotonic.
            write_age_ms: For how long the disk has been at its oldest write.
            lag_ms: How late the loop came to this tick.
            is_full: Whether writes fail for lack of room.
        """
        # What the loop was late to see was not the disk's doing.
        advice, reason = self._advise(now_ms, write_age_ms - lag_ms, lag_ms, is_full)
        if advice is not Advice.STAY:
            self._fit_again_ms = now_ms + self._election_ms
            self.reason = reason
            return advice
        if now_ms >= self._fit_again_ms:
            self._fit_again_ms = 0
            self.reason = ""
        if self.pace.is_slow(self._election_ms):
            self.reason = "the disk is far slower than a follower's"
            return Advice.HAND_OVER
        return Advice.STAY

    def _advise(
        self, now_ms: int, write_age_ms: int, lag_ms: int, is_full: bool
    ) -> tuple[Advice, str]:
        election_ms = self._election_ms
        if write_age_ms > election_ms:
            return Advice.STEP_DOWN, f"a log write takes {write_age_ms} ms"
        if lag_ms > election_ms:
            return Advice.STEP_DOWN, f"the process stood still for {lag_ms} ms"
        if is_full:
            return Advice.HAND_OVER, "the disk is full"
        if 2 * write_age_ms > election_ms:
            return Advice.HAND_OVER, f"a log write takes {write_age_ms} ms"
        if 2 * lag_ms > election_ms and self._is_stalling(now_ms):
            return Advice.HAND_OVER, f"the process stood still for {lag_ms} ms again"
        return Advice.STAY, ""

    def _is_stalling(self, now_ms: int) -> bool:
        stalls = self._stalls_ms
        stalls.append(now_ms)
        within_ms = _STALLS_WITHIN * self._election_ms
        return len(stalls) == stalls.maxlen and now_ms - stalls[0] <= within_ms
