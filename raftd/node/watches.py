"""Watches of one member: each reads the one history at its own pace.

Rules: ordered, complete, no revision split or repeated. A watch keeps nothing but the
revision it wants next; a slow one just reads older history, and one that fell below
the compaction gets a RESYNC with a fresh list. Only watches that care are woken.

Source: SEMANTICS.md section 2 (watch).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from raftd.node.service import WatchBatch, WatchKind, WatchSpec
from raftd.statemachine.events import Event, HistoryRecord
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Refusal

__all__ = ["Watch", "Watches"]

_EVENTS_MAX: Final = 1000
"""In one batch; a revision is never split for it."""

_PROGRESS_S: Final = 1.0
"""An idle watch hears how far it is at least so often."""


class Watches:
    """All watches of one member."""

    def __init__(self, machine: Machine) -> None:
        self._machine: Final = machine
        self._watches: Final[dict[Watch, None]] = {}

    def open(self, spec: WatchSpec) -> Watch:
        """Begin a watch on the state as it is now."""
        watch = Watch(self._machine, spec, self)
        self._watches[watch] = None
        return watch

    def forget(self, watch: Watch) -> None:
        """Drop a closed watch."""
        self._watches.pop(watch, None)

    def publish(self, record: HistoryRecord) -> None:
        """Wake the watches that care for an entry's events."""
        for watch in self._watches:
            watch.hear(record)

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
        self._machine: Final = machine
        self._spec: Final = spec
        self._owner: Final = owner
        self._next_rev = spec.from_rev or machine.revision + 1
        self._ready: list[WatchBatch] = []
        self._wake = asyncio.Event()
        self._is_closed = False
        if spec.wants_initial:
            self._list(WatchKind.INITIAL)

    def hear(self, record: HistoryRecord) -> None:
        """Wake up if an event is wanted; called once per entry with events."""
        if self._wake.is_set():
            return
        keep = self._spec.keep
        for event in record.events:
            if keep(event):
                self._wake.set()
                return
        if self._next_rev >= record.first_rev:
            self._next_rev = max(self._next_rev, record.last_rev + 1)

    def wake(self) -> None:
        """Have the history read on, whatever was heard."""
        self._wake.set()

    async def next(self) -> WatchBatch:
        """Wait for the next batch."""
        while not self._is_closed:
            if self._ready:
                return self._ready.pop(0)
            self._wake.clear()
            batch = self._read()
            if batch is not None:
                return batch
            if self._ready:
                continue
            try:
                async with asyncio.timeout(_PROGRESS_S):
                    await self._wake.wait()
            except TimeoutError:
                delivered = min(self._next_rev - 1, self._machine.revision)
                return WatchBatch(WatchKind.PROGRESS, delivered, ())
        raise asyncio.CancelledError

    def close(self) -> None:
        """End it."""
        self._is_closed = True
        self._wake.set()
        self._owner.forget(self)

    def _read(self) -> WatchBatch | None:
        """Read on in the history; None if there is nothing to tell."""
        machine = self._machine
        while self._next_rev <= machine.revision:
            records = machine.history.read(self._next_rev, _EVENTS_MAX)
            if isinstance(records, Refusal):
                self._list(WatchKind.RESYNC)
                return None
            if not records:
                self._next_rev = machine.revision + 1
                return None
            items = self._items(records)
            self._next_rev = max(self._next_rev, records[-1].last_rev + 1)
            if items:
                return WatchBatch(WatchKind.EVENTS, self._next_rev - 1, items)
        return None

    def _items(self, records: Sequence[HistoryRecord]) -> list[Any]:
        spec, machine, first_rev = self._spec, self._machine, self._next_rev
        keep, prepare = spec.keep, spec.prepare
        kept: list[Event] = [
            event
            for record in records
            for event in record.events
            if keep(event) and _revision_of(event) >= first_rev
        ]
        if prepare is None:
            return list(kept)
        return [prepare(machine, event) for event in kept]

    def _list(self, kind: WatchKind) -> None:
        revision = self._machine.revision
        items = self._spec.snapshot(self._machine)
        if kind is WatchKind.RESYNC:
            self._ready.append(WatchBatch(WatchKind.RESYNC, revision, ()))
        self._ready.append(WatchBatch(WatchKind.INITIAL, revision, items))
        self._ready.append(WatchBatch(WatchKind.SYNCED, revision, ()))
        self._next_rev = revision + 1


def _revision_of(event: Event) -> int:
    """Return the revision of an event (a key's event is its version record)."""
    rev: int = event.mod_rev if hasattr(event, "mod_rev") else event.rev
    return rev
