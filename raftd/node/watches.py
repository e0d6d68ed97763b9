"""Watches of one member: each reads the one history at its own pace.

Rules: ordered, complete, no revision split or repeated. A watch keeps nothing but the
revision it wants next; a slow one just reads older history, and one that fell below
the compaction gets a RESYNC with a fresh list. Only watches that care are woken, and
the others are not even asked: one that has read everything, and was not woken since,
has missed nothing up to what was published last. One that is far behind does not look
for itself (``catch_up``), unless it found something where it looked last.

Source: SEMANTICS.md section 2 (watch).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from raftd.node.catch_up import CatchUp
from raftd.node.service import WatchBatch, WatchKind, WatchSpec
from raftd.node.watch_clock import WatchClock
from raftd.node.watch_index import About, WatchIndex
from raftd.statemachine.events import Event, HistoryRecord, revision_of
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Refusal

__all__ = ["Watch", "Watches"]

_RECORDS_MAX: Final = 1000
"""Of the history, read for one batch at the most."""

_RECORDS_FIRST: Final = 16
"""The same for the first batch, and after a look that found nothing. With more than
that ahead, a watch is far behind."""

_PROGRESS_S: Final = 1.0
"""An idle watch hears how far it is at least so often."""


class Watches:
    """All watches of one member."""

    def __init__(self, machine: Machine) -> None:
        self._machine: Final = machine
        self._watches: Final[dict[Watch, None]] = {}
        self._index: Final[WatchIndex[Watch]] = WatchIndex()
        self.clock: Final = WatchClock(_PROGRESS_S)
        self.catch_up: Final = CatchUp(machine)
        self.published_rev = 0
        """The last revision that watches were woken for, if they wanted it."""

    def open(self, spec: WatchSpec) -> Watch:
        """Begin a watch on the state as it is now."""
        watch = Watch(self._machine, spec, self)
        self._watches[watch] = None
        self._index.add(watch, spec.about)
        return watch

    def forget(self, watch: Watch) -> None:
        """Drop a closed watch."""
        self._watches.pop(watch, None)
        self.catch_up.drop(watch)
        self._index.discard(watch, watch.spec.about)

    def publish(self, record: HistoryRecord) -> None:
        """Wake the watches that care for an entry's events."""
        if self._watches:
            find = self._index.find
            for event in record.events:
                for watch in find(event):
                    watch.hear(event, record)
        self.published_rev = record.last_rev

    def leap(self) -> None:
        """Another state took the machine's place: wake all that have to read on.

        Those whose history it no longer holds find out when they read.
        """
        for watch in self._watches:
            watch.wake()

    def __len__(self) -> int:
        """Return how many watches are open."""
        return len(self._watches)


class Watch:
    """One watch; see ``WatchStream``."""

    def __init__(self, machine: Machine, spec: WatchSpec, owner: Watches) -> None:
        self.spec: Final = spec
        self._machine: Final = machine
        self._owner: Final = owner
        self._next_rev = spec.from_rev or machine.revision + 1
        self._has_read_all = self._next_rev > machine.revision
        self._records_max = _RECORDS_FIRST
        self._is_wanted_next = False
        """Whether there is something wanted where it reads next."""
        self._ready: list[WatchBatch] = []
        self._is_woken = False
        self._waiter: asyncio.Future[None] | None = None
        self._is_closed = False
        if spec.wants_initial:
            self._list(WatchKind.INITIAL)

    # --- what is far behind ---------------------------------------------------------

    @property
    def next_rev(self) -> int:
        """The first revision that it has not read."""
        return self._next_rev

    @property
    def about(self) -> About | None:
        """The one subject of what it wants."""
        return self.spec.about

    def wants(self, event: Event) -> bool:
        """Tell whether it wants an event."""
        return self.spec.keep(event)

    def go_to(self, revision: int, *, is_wanted: bool) -> None:
        """Read on at a revision: nothing before it is wanted."""
        self._next_rev, self._is_wanted_next = revision, is_wanted

    # --- what happens ---------------------------------------------------------------

    def hear(self, event: Event, record: HistoryRecord) -> None:
        """Wake up if an event is wanted."""
        if self._is_woken or not self.spec.keep(event):
            return
        if self._has_read_all:
            # Nothing before this entry was wanted.
            self.go_to(max(self._next_rev, record.first_rev), is_wanted=True)
        self.wake()

    def wake(self) -> None:
        """Have the history read on, whatever was heard."""
        self._is_woken = True
        self.ring()

    def ring(self) -> None:
        """Have whoever waits told how far this is, if there is no more to tell."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self) -> WatchBatch:
        """Wait for the next batch."""
        while not self._is_closed:
            if self._ready:
                return self._ready.pop(0)
            self._skip_unwanted()
            self._is_woken = False
            batch = self._read()
            self._has_read_all = self._next_rev > self._machine.revision
            if batch is not None:
                return batch
            if self._ready:
                continue
            if not self._has_read_all:
                await self._owner.catch_up.wait(self)
                continue
            await self._idle()
            if not self._is_woken:
                self._skip_unwanted()
                delivered = min(self._next_rev - 1, self._machine.revision)
                return WatchBatch(WatchKind.PROGRESS, delivered, ())
        raise asyncio.CancelledError

    def close(self) -> None:
        """End it."""
        self._is_closed = True
        self.wake()
        self._owner.forget(self)

    async def _idle(self) -> None:
        """Wait until something happens that is wanted, or the clock rings."""
        clock = self._owner.clock
        self._waiter = asyncio.get_running_loop().create_future()
        clock.begin(self)
        try:
            await self._waiter
        finally:
            self._waiter = None
            clock.end(self)

    def _skip_unwanted(self) -> None:
        """Leave out what was published since all was read, and not wanted."""
        if self._has_read_all and not self._is_woken:
            self._next_rev = max(self._next_rev, self._owner.published_rev + 1)

    def _read(self) -> WatchBatch | None:
        """Read on in the history; None if nothing is found near by."""
        machine = self._machine
        while self._next_rev <= machine.revision:
            records = machine.history.read(self._next_rev, self._records_max)
            if isinstance(records, Refusal):
                self._list(WatchKind.RESYNC)
                return None
            if not records:
                self._next_rev = machine.revision + 1
                return None
            is_far = len(records) == self._records_max
            if is_far and not self._is_wanted_next:
                return None
            items = self._items(records)
            self._next_rev = max(self._next_rev, records[-1].last_rev + 1)
            self._is_wanted_next = bool(items)
            if items:
                self._records_max = min(2 * self._records_max, _RECORDS_MAX)
                return WatchBatch(WatchKind.EVENTS, self._next_rev - 1, items)
            self._records_max = _RECORDS_FIRST
        return None

    def _items(self, records: Sequence[HistoryRecord]) -> list[Any]:
        spec, machine, first_rev = self.spec, self._machine, self._next_rev
        keep, prepare = spec.keep, spec.prepare
        kept: list[Event] = [
            event
            for record in records
            for event in record.events
            if keep(event) and revision_of(event) >= first_rev
        ]
        if prepare is None:
            return list(kept)
        return [prepare(machine, event) for event in kept]

    def _list(self, kind: WatchKind) -> None:
        revision = self._machine.revision
        items = self.spec.snapshot(self._machine)
        if kind is WatchKind.RESYNC:
            self._ready.append(WatchBatch(WatchKind.RESYNC, revision, ()))
        self._ready.append(WatchBatch(WatchKind.INITIAL, revision, items))
        self._ready.append(WatchBatch(WatchKind.SYNCED, revision, ()))
        self._next_rev = revision + 1
