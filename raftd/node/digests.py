"""Comparing members at each mark: a difference is an alarm, never a shrug.

Rules: every member tells the others its digest at a mark. A member that differs from
a majority which agrees stops; without such a majority all raise the alarm and refuse
writes. Of each member the newest marks that it told are kept: whatever one tells, it
pushes out nothing of the others'.

Source: DESIGN.md section 5 (marked entries); RELIABILITY.md rule 52.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Iterable
from typing import Final

__all__ = ["Digests", "Verdict"]

_MARKS_MAX: Final = 8
"""Marks that are remembered of each member while others are behind."""


class Verdict(enum.Enum):
    """What the digests known so far say of this member."""

    OPEN = "too few are known"
    AGREED = "a majority agrees with this member"
    DIVERGED = "this member differs from a majority"
    SPLIT = "no majority agrees"


class Digests:
    """The digests of all members at the newest marks."""

    def __init__(self, node_id: int, voters: Iterable[int]) -> None:
        self._node_id: Final = node_id
        self._voters = tuple(voters)
        self._told: Final[dict[int, dict[int, bytes]]] = {}
        self.compared_index = 0
        self._compared_s: float | None = None

    def note_voters(self, voters: Iterable[int]) -> None:
        """Count these from now on; a learner's digest is judged and never counted."""
        self._voters = tuple(voters)
        for gone in self._told.keys() - {self._node_id, *self._voters}:
            del self._told[gone]

    def note(self, node_id: int, index: int, digest: bytes) -> Verdict:
        """Take in a member's digest at a mark, and judge that mark."""
        marks = self._told.setdefault(node_id, {})
        marks[index] = digest
        while len(marks) > _MARKS_MAX:
            del marks[min(marks)]
        verdict = self._judge(
            {
                teller: told[index]
                for teller, told in self._told.items()
                if index in told
            }
        )
        if verdict is Verdict.AGREED:
            self.compared_index = max(self.compared_index, index)
            self._compared_s = time.monotonic()
        return verdict

    def age_ms(self) -> int:
        """Return how long ago a majority agreed, -1 if it has not yet."""
        if self._compared_s is None:
            return -1
        return int((time.monotonic() - self._compared_s) * 1000)

    def _judge(self, told: dict[int, bytes]) -> Verdict:
        own = told.get(self._node_id)
        majority = len(self._voters) // 2 + 1
        counts: dict[bytes, int] = {}
        for voter in self._voters:
            if voter in told:
                counts[told[voter]] = counts.get(told[voter], 0) + 1
        best = max(counts.values(), default=0)
        if own is not None and counts.get(own, 0) >= majority:
            return Verdict.AGREED
        if best >= majority:
            return Verdict.DIVERGED if own is not None else Verdict.OPEN
        if sum(counts.values()) == len(self._voters):
            return Verdict.SPLIT
        return Verdict.OPEN
