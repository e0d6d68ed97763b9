"""The registry of corruptions: one wrong thing each, which one checker must refuse.

A corruption changes a copy of a legal history as a bug would show in it, and nothing
else. Where a history has nothing that it could change, it says so (`Unable`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from tests.checkers.history import History
    from tests.checkers.parts import Applied
    from tests.checkers.records import Entry

__all__ = [
    "CORRUPTIONS",
    "Corruption",
    "Request",
    "Unable",
    "change_request",
    "corruption",
    "pick",
    "requests",
]

T = TypeVar("T")


class Unable(Exception):
    """The history has nothing that this corruption could change."""


class Corruption(msgspec.Struct, frozen=True):
    """One way to make a history wrong.

    Attributes:
        checker: Which must refuse it.
        what: In a sentence.
        change: Changes the history given, whose lists are its own.
    """

    checker: str
    what: str
    change: Callable[[History, random.Random], None]


CORRUPTIONS: Final[dict[str, Corruption]] = {}
"""All of them by name."""


def corruption(
    checker: str, what: str
) -> Callable[
    [Callable[[History, random.Random], None]],
    Callable[[History, random.Random], None],
]:
    """Register the decorated function, by its name with dashes."""

    def register(
        change: Callable[[History, random.Random], None],
    ) -> Callable[[History, random.Random], None]:
        name = change.__name__.strip("_").replace("_", "-")
        CORRUPTIONS[name] = Corruption(checker, what, change)
        return change

    return register


def pick(rng: random.Random, found: Sequence[T], what: str) -> T:
    """Return one of the things that could be changed.

    Raises:
        Unable: There is none.
    """
    if not found:
        raise Unable(f"there is no {what} in this history")
    return rng.choice(found)


Request = tuple[int, int]
"""Place of an entry in the history, place of a request in the entry."""


def requests(
    history: History, wanted: Callable[[Entry, Applied], bool]
) -> list[Request]:
    """Return the places of requests of the log."""
    return [
        (at, place)
        for at, entry in enumerate(history.entries)
        for place, applied in enumerate(entry.requests)
        if wanted(entry, applied)
    ]


def change_request(history: History, request: Request, applied: Applied | None) -> None:
    """Put another request in the place of one of the log; None = take it out."""
    at, place = request
    entry = history.entries[at]
    changed = list(entry.requests)
    changed[place : place + 1] = [] if applied is None else [applied]
    history.entries[at] = msgspec.structs.replace(entry, requests=changed)
