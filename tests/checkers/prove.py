"""Prove that the checkers say no: each corrupted copy must be judged illegal.

Source: RELIABILITY.md section 4.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import msgspec

from tests.checkers.corrupt import CORRUPTIONS, Unable, corrupt
from tests.checkers.judge import CHECKERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.checkers.history import History

__all__ = ["Proof", "prove"]


class Proof(msgspec.Struct, frozen=True):
    """What became of one corruption.

    Attributes:
        how: Its name.
        checker: Which had to refuse the copy.
        outcome: What that checker said; empty = nothing could be corrupted so.
        sentence: Of the verdict, or why not.
    """

    how: str
    checker: str
    outcome: str
    sentence: str

    @property
    def is_done(self) -> bool:
        """Whether there was something to corrupt."""
        return bool(self.outcome)

    @property
    def is_good(self) -> bool:
        """Whether nothing was corrupted, or the checker refused it."""
        return self.outcome in {"", "illegal"}


def prove(history: History, seed: int) -> Iterator[Proof]:
    """Corrupt a legal history in every way, and judge each copy.

    Args:
        history: Every checker has called it legal.
        seed: Chooses what is corrupted.
    """
    for how, each in CORRUPTIONS.items():
        try:
            copy = corrupt(history, how, random.Random(f"{seed}/{how}"))
        except Unable as why:
            yield Proof(how, each.checker, "", str(why))
            continue
        verdict = CHECKERS[each.checker](copy)
        yield Proof(how, each.checker, verdict.outcome, verdict.sentence)
