"""Who watches what: finds the watches of an event without asking all of them.

Rules: a watch of one key, of the keys with one prefix, of one election, queue or job is
found by its subject; any other is asked about every event. What is found may still not
want the event; what is not found never does. Prefixes cost a look-up for each length
that is watched, however many there are.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

from raftd.statemachine.events import ElectionEvent, Event, JobEvent
from raftd.statemachine.schema.kv import KeyValue

__all__ = ["About", "Subject", "WatchIndex"]


class Subject(enum.Enum):
    """What kind of thing is watched."""

    KEY = enum.auto()
    PREFIX = enum.auto()
    ELECTION = enum.auto()
    QUEUE = enum.auto()
    JOB = enum.auto()


About = tuple[Subject, bytes | str | int]
"""The one subject of a watch: a key or prefix, a name, the id of a job."""

_W = TypeVar("_W")


class WatchIndex(Generic[_W]):
    """Watches by their subjects."""

    def __init__(self) -> None:
        # A dict as an ordered set: who began first is woken first.
        self._by_subject: Final[dict[About, dict[_W, None]]] = {}
        self._others: Final[dict[_W, None]] = {}
        self._prefix_lengths: Final[Counter[int]] = Counter()

    def add(self, watch: _W, about: About | None) -> None:
        """Have a watch found; once each."""
        if about is None:
            self._others[watch] = None
            return
        if about not in self._by_subject:
            self._by_subject[about] = {}
            self._count_prefix(about, 1)
        self._by_subject[about][watch] = None

    def discard(self, watch: _W, about: About | None) -> None:
        """Forget a watch; may be called twice."""
        if about is None:
            self._others.pop(watch, None)
            return
        watches = self._by_subject.get(about)
        if watches is None:
            return
        watches.pop(watch, None)
        if not watches:
            del self._by_subject[about]
            self._count_prefix(about, -1)

    def find(self, event: Event) -> Iterator[_W]:
        """Return the watches that may want an event, each once."""
        yield from self._others
        if not self._by_subject:
            return
        for about in self._subjects(event):
            yield from self._by_subject.get(about, ())

    def _subjects(self, event: Event) -> Iterator[About]:
        match event:
            case KeyValue():
                key = event.key
                yield Subject.KEY, key
                for length in self._prefix_lengths:
                    if length <= len(key):
                        yield Subject.PREFIX, key[:length]
            case ElectionEvent():
                yield Subject.ELECTION, event.name
            case JobEvent():
                yield Subject.QUEUE, event.queue
                yield Subject.JOB, event.job
            case _:
                pass  # a lost lock is told to its holder, and watched by nobody alone

    def _count_prefix(self, about: About, count: int) -> None:
        subject, prefix = about
        if subject is Subject.PREFIX:
            assert isinstance(prefix, bytes), "a prefix is of keys"
            lengths = self._prefix_lengths
            lengths[len(prefix)] += count
            if not lengths[len(prefix)]:
                del lengths[len(prefix)]
