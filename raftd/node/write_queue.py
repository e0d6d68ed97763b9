"""The writes of one log, in order, one under way at a time.

Rules: what waits behind a write and only appends is merged with what follows it; a
write that sets term or vote, cuts, or installs a state begins anew. An install is
never merged: ``on_install`` carries it out alone, when all before it is durable. A
write that found no room is kept and tried again, with nothing passing it; any other
error is final.

Each write begins in a round of the loop of its own, so that what is sent beside it has
left. There it may be made durable at once (``write_here``); else the task hands it to
the log's thread and waits.

Source: RELIABILITY.md rules 23, 29, 49 and 51; DESIGN.md section 3.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from raftd.consensus.messages import Message
from raftd.consensus.ready import Write
from raftd.node.ports import LogPort
from raftd.node.sync_times import SyncTimes
from raftd.storage.errors import DiskFull

__all__ = ["Pending", "WriteQueue"]


class Pending(msgspec.Struct, frozen=True, gc=False):
    """A write that waits.

    Attributes:
        send_after: Leaves when the write is durable.
        since_s: When it, or the last one merged into it, was asked for, by
            ``time.perf_counter``.
    """

    write: Write
    send_after: Sequence[Message]
    since_s: float


class WriteQueue:
    """See the module's rules."""

    def __init__(
        self,
        log: LogPort,
        stored: Callable[[Write, Sequence[Message]], None],
        fail: Callable[[str, BaseException | None], None],
    ) -> None:
        """Wire it; ``run`` writes.

        Args:
            log: Where to.
            stored: Told each write that is durable, in order.
            fail: Ends the node.
        """
        self.sync_times: Final = SyncTimes()
        self.on_install: Callable[[Write], Awaitable[None]] = _no_install
        self.on_full: Callable[[DiskFull], Awaitable[None]] = _no_room
        self.on_begin: Callable[[Pending], None] = _ignore
        self.write_here: Callable[[Write], bool] = _not_here
        """Makes a write durable before it returns, or does nothing and says so."""
        self._log: Final = log
        self._stored: Final = stored
        self._fail: Final = fail
        self._waiting: Final[deque[Pending]] = deque()
        self._loop: Final = asyncio.get_running_loop()
        self._is_busy = False
        """A write is under way, or is to begin in the next round."""
        self._is_over = False
        self._handed: Pending | None = None
        """What the task is to write, or is at."""
        self._wake: Final = asyncio.Event()
        self._begin_s: float | None = None

    def put(self, write: Write, send_after: Sequence[Message]) -> None:
        """Queue a write behind those under way."""
        self._waiting.append(Pending(write, send_after, time.perf_counter()))
        if not self._is_busy:
            self._is_busy = True
            self._loop.call_soon(self._begin)

    @property
    def age_ms(self) -> int:
        """For how long the disk has been at a write; 0 while it only lacks room."""
        if self._begin_s is None:
            return 0
        return int((time.perf_counter() - self._begin_s) * 1000)

    async def run(self) -> None:
        """Write what cannot be written at once, until cancelled or failed."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                pending = self._handed
                assert pending is not None, "it is woken for a write"
                await self._write(pending.write)
                self._end(pending)
        except Exception as error:  # any failed write is final
            self._fail_for(error)
        finally:
            self._is_over = True

    def _begin(self) -> None:
        """Write the next one here and now, or have the task do it."""
        if self._is_over:
            return
        pending = self._take()
        self.on_begin(pending)
        begin_s = time.perf_counter()
        try:
            is_stored = self.write_here(pending.write)
        except Exception as error:  # any failed write is final
            self._fail_for(error)
            return
        if is_stored:
            self.sync_times.add(time.perf_counter() - begin_s)
            self._end(pending)
        else:
            self._handed = pending
            self._wake.set()

    def _end(self, pending: Pending) -> None:
        """One write is durable; the next one may begin."""
        self._is_busy = bool(self._waiting)
        if self._is_busy:
            self._loop.call_soon(self._begin)
        self._stored(pending.write, pending.send_after)

    def _fail_for(self, error: Exception) -> None:
        self._fail(f"the log cannot be written: {error}", error)

    async def _write(self, write: Write) -> None:
        carry_out = self._log.write if write.install is None else self.on_install
        while True:
            self._begin_s = begin_s = time.perf_counter()
            try:
                await carry_out(write)
                break
            except DiskFull as error:
                self._begin_s = None
                await self.on_full(error)
        self._begin_s = None
        if write.install is None:
            self.sync_times.add(time.perf_counter() - begin_s)

    def _take(self) -> Pending:
        """Take the next write, with those behind it that only append."""
        waiting = self._waiting
        first = waiting.popleft()
        if first.write.install is not None or not _may_join(waiting):
            return first
        entries, after = list(first.write.entries), list(first.send_after)
        last, since_s = first.write, first.since_s
        while _may_join(waiting):
            more = waiting.popleft()
            last, since_s = more.write, more.since_s
            entries.extend(last.entries)
            after.extend(more.send_after)
        merged = msgspec.structs.replace(
            first.write, id=last.id, entries=tuple(entries), commit=last.commit
        )
        return Pending(merged, after, since_s)


def _may_join(waiting: deque[Pending]) -> bool:
    """Tell whether the next write only appends to what is before it."""
    if not waiting:
        return False
    write = waiting[0].write
    return (
        write.hard_state is None
        and write.truncate_from is None
        and write.install is None
    )


def _ignore(_: Pending) -> None:
    return


def _not_here(_: Write) -> bool:
    return False


async def _no_room(error: DiskFull) -> None:
    raise error


async def _no_install(write: Write) -> None:
    raise AssertionError(f"nobody installs what write {write.id} brings")
