"""What was read in the end, compared where in the log it was read.

Others may write on after the last read of a load: what it saw is the state of its own
revision, not of the last one.

Source: RELIABILITY.md section 5 (final reads).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.checkers.history import History
    from tests.checkers.records import Entry, FinalState

__all__ = ["replay_with_finals"]

T = TypeVar("T")


def replay_with_finals(
    history: History,
    take: Callable[[Entry], None],
    check: Callable[[T], None],
    told_of: Callable[[FinalState], T | None],
) -> None:
    """Replay the whole log, and compare each final read with the state it was made of.

    Args:
        history: Its log and its final reads; revision 0 is that of the whole log.
        take: Takes in an entry.
        check: Compares the state after those so far with what was read, and raises.
        told_of: The part of a final read that this replay knows; None = not read.
    """
    newest = history.entries[-1].revision if history.entries else 0
    finals = sorted(
        (final.revision or newest, place, told)
        for place, final in enumerate(history.finals)
        if (told := told_of(final)) is not None and final.revision <= newest
    )
    for entry in history.entries:
        while finals and finals[0][0] < entry.revision:
            check(finals.pop(0)[2])
        take(entry)
    for _, _, told in finals:
        check(told)
