"""What watches that are far behind want of the past: found for all of them at once.

When clients come back, their watches go on where they stood: thousands of them, each
some thousand entries behind, and most want none of these. If each looked through them
by itself, that would be as many looks as there are watches times entries. Here one walk
through the history finds, for each that waits, the first entry that it wants.

Rules: one walk at a time, from the oldest revision that anybody wants, in slices with
turns of the loop between. Who comes when the walk is beyond what it wants waits for the
next one. Nobody is told that there is nothing before a walk has come to the end.

Source: SEMANTICS.md section 2 (watch); PERFORMANCE.md, rules (indexes for every query).
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from raftd.node.watch_index import About, WatchIndex
from raftd.statemachine.events import Event, HistoryRecord, revision_of
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Refusal

__all__ = ["Behind", "CatchUp"]

_RECORDS: Final = 64
"""Read at once."""

_SLICE_EVENTS: Final = 256
"""Looked at in one turn of the loop: around half a millisecond. A count, not a time,
so that a simulated member does the same each time."""

_REST_S: Final = 0.0005


class Behind(Protocol):
    """One who has to look through the past."""

    @property
    def next_rev(self) -> int:
        """The first revision that it has not looked at."""

    @property
    def about(self) -> About | None:
        """What it is found by."""

    def wants(self, event: Event) -> bool:
        """Tell whether it wants an event."""

    def go_to(self, revision: int, *, is_wanted: bool) -> None:
        """Go on at a revision: before it there is nothing wanted.

        Args:
            revision: Never below ``next_rev``.
            is_wanted: The entry there is wanted; else the past ends here.
        """


class CatchUp:
    """The walks through one machine's history; for use on one loop."""

    def __init__(self, machine: Machine) -> None:
        """Walk nowhere yet."""
        self._machine: Final = machine
        self._index: WatchIndex[Behind] = WatchIndex()
        self._walking: dict[Behind, asyncio.Future[None]] = {}
        self._waiting: dict[Behind, asyncio.Future[None]] = {}
        self._seen_rev = 0
        self._is_walking = False
        self._task: asyncio.Task[None] | None = None

    async def wait(self, behind: Behind) -> None:
        """Wait until ``go_to`` was called, or the history has to be asked again.

        That is when the part that one of those who wait wants is forgotten, and for who
        was dropped.
        """
        future = asyncio.get_running_loop().create_future()
        if self._is_walking and self._seen_rev < behind.next_rev:
            self._join(behind, future)
        else:
            self._waiting[behind] = future
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        try:
            await future
        finally:
            self.drop(behind)

    def drop(self, behind: Behind) -> None:
        """Let it wait no longer; may be called for anybody."""
        future = self._waiting.pop(behind, None) or self._walking.pop(behind, None)
        self._index.discard(behind, behind.about)
        if future is not None and not future.done():
            future.set_result(None)

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting) + len(self._walking)

    def _join(self, behind: Behind, future: asyncio.Future[None]) -> None:
        self._walking[behind] = future
        self._index.add(behind, behind.about)

    async def _run(self) -> None:
        """Walk until nobody waits."""
        try:
            while self._waiting:
                self._seen_rev = min(each.next_rev for each in self._waiting) - 1
                while self._waiting:
                    self._join(*self._waiting.popitem())
                self._is_walking = True
                await self._walk()
                self._is_walking = False
        except Exception as error:
            for future in (*self._walking.values(), *self._waiting.values()):
                if not future.done():
                    future.set_exception(error)
            raise
        finally:
            self._is_walking, self._task = False, None

    async def _walk(self) -> None:
        """Go through what there is, until everybody is told."""
        left = _SLICE_EVENTS
        while self._walking:
            records = self._machine.history.read(self._seen_rev + 1, _RECORDS)
            if isinstance(records, Refusal):
                self._release()
                return
            if not records:
                self._end()
                return
            for record in records:
                self._look_at(record)
                self._seen_rev = record.last_rev
                left -= 1 + len(record.events)
                if left <= 0:
                    left = _SLICE_EVENTS
                    await asyncio.sleep(_REST_S)

    def _look_at(self, record: HistoryRecord) -> None:
        for event in record.events:
            for behind in [*self._index.find(event)]:
                if revision_of(event) >= behind.next_rev and behind.wants(event):
                    behind.go_to(max(behind.next_rev, record.first_rev), is_wanted=True)
                    self.drop(behind)

    def _end(self) -> None:
        """Nothing is left to look at."""
        end_rev = self._machine.revision + 1
        for behind in [*self._walking]:
            behind.go_to(max(behind.next_rev, end_rev), is_wanted=False)
            self.drop(behind)

    def _release(self) -> None:
        """Have everybody ask the history: some of it is forgotten."""
        for behind in [*self._walking]:
            self.drop(behind)
