"""What a checker says: legal, illegal with one sentence, or unknown.

A checker raises `Illegal` at the first contradiction, or `Undecided` where it cannot
judge: what cannot be judged was set up wrongly, and is not a pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.checkers.history import History

__all__ = ["Illegal", "Undecided", "Verdict", "judged"]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What one checker says of one history.

    Attributes:
        checker: Its name.
        outcome: What it says.
        sentence: Of an illegal one what is wrong, naming operations; of an unknown one
            why; of a legal one what was looked at.
        pair: Ids of the operations that contradict each other, if it is about some.
        count: How many things were looked at.
    """

    checker: str
    outcome: Literal["legal", "illegal", "unknown"]
    sentence: str
    pair: tuple[int, ...] = ()
    count: int = 0


class Illegal(Exception):
    """The history breaks a promise.

    Args:
        sentence: One sentence, without a final stop, that names the operations.
        ops: Their ids; 0 = not a client's, left out.
    """

    def __init__(self, sentence: str, *ops: int) -> None:
        super().__init__(sentence)
        self.sentence: Final = sentence
        self.ops: Final = tuple(op for op in ops if op)


class Undecided(Exception):
    """The history cannot be judged, for a reason in one sentence."""


def judged(
    checker: str, what: str, check: Callable[[History], int], history: History
) -> Verdict:
    """Return what a check comes to.

    Args:
        checker: Name of it.
        what: What it counts, in the plural.
        check: Returns how many of them it looked at.
        history: To be judged.
    """
    try:
        count = check(history)
    except Illegal as found:
        return Verdict(
            checker=checker, outcome="illegal", sentence=found.sentence, pair=found.ops
        )
    except Undecided as found:
        return Verdict(checker=checker, outcome="unknown", sentence=str(found))
    sentence = f"{count} {what}"
    return Verdict(checker=checker, outcome="legal", sentence=sentence, count=count)
