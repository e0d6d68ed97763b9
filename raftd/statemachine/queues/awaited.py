"""Queues that somebody outside waits for, and which of them may have more to give.

It is no part of the state: no row, no digest and no answer depends on it. Where nobody
waits, as on every follower, nothing is noted.

Rules: a queue is noted whenever a reserve might get something that it would not have
got before; once too often does no harm.
"""

from typing import Final

__all__ = ["Awaited"]


class Awaited:
    """Who waits says so by a queue's name, which need not exist yet."""

    __slots__ = ("_names", "_stirred")

    def __init__(self) -> None:
        self._names: Final[dict[str, None]] = {}
        self._stirred: dict[str, None] = {}

    def add(self, name: str) -> None:
        """Note from now on when this queue may have more; may be called twice."""
        self._names[name] = None

    def discard(self, name: str) -> None:
        """Note it no longer."""
        self._names.pop(name, None)
        self._stirred.pop(name, None)

    def stir(self, name: str) -> None:
        """Note that a queue may have more to give than before, if it is awaited."""
        if name in self._names:
            self._stirred[name] = None

    def take(self) -> dict[str, None]:
        """Return what was noted since the last call."""
        stirred = self._stirred
        if stirred:
            self._stirred = {}
        return stirred
