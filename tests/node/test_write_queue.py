"""The order of writes: what is merged, what stands alone, what is tried again.

Source: RELIABILITY.md rules 23, 29, 49 and 51.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from raftd.consensus.messages import Message
from raftd.consensus.ready import Write
from raftd.consensus.types import (
    Entry,
    EntryKind,
    HardState,
    Index,
    Install,
    NodeId,
    Term,
)
from raftd.node.write_queue import WriteQueue
from raftd.storage.errors import DiskFailed, DiskFull
from tests.node.trio import FaultyDisk, sync_failed

TERM = Term(1)


def write(
    number: int,
    *,
    hard_state: HardState | None = None,
    truncate_from: int | None = None,
    install: Install | None = None,
) -> Write:
    """Make the write of this number; its entry, if it has one, has its index."""
    entry = Entry(Index(number), TERM, EntryKind.NORMAL, b"%d" % number)
    return Write(
        number,
        hard_state,
        None if truncate_from is None else Index(truncate_from),
        () if install is not None else (entry,),
        Index(number - 1),
        install,
    )


class Queue:
    """A queue over a disk that hangs until all that the test wants is queued."""

    def __init__(self) -> None:
        self.disk = FaultyDisk()
        self.disk.hang()
        self.installed: list[int] = []
        self.stored: list[int] = []
        self.failures: list[str] = []
        self.has_stored = asyncio.Event()
        self.has_failed = asyncio.Event()
        self.queue = WriteQueue(self.disk, self._on_stored, self._on_failed)
        self.queue.on_install = self._install
        self.task = asyncio.create_task(self.queue.run())

    async def _install(self, write: Write) -> None:
        assert all(earlier.id < write.id for earlier in self.disk.writes)
        self.installed.append(write.id)

    def _on_stored(self, write: Write, send_after: Sequence[Message]) -> None:
        self.stored.append(write.id)
        self.has_stored.set()

    def _on_failed(self, sentence: str, error: BaseException | None) -> None:
        self.failures.append(sentence)
        self.has_failed.set()

    async def put(self, *writes: Write) -> None:
        """Queue writes while the disk is at the first of them."""
        for one in writes:
            self.queue.put(one, ())
            await asyncio.sleep(0)
        self.disk.go_on()

    async def until(self, last: int) -> None:
        async with asyncio.timeout(30):
            while not self.stored or self.stored[-1] != last:
                self.has_stored.clear()
                await self.has_stored.wait()
        self.task.cancel()

    @property
    def written(self) -> list[list[int]]:
        """The indexes of the entries of each write that reached the disk."""
        return [[entry.index for entry in one.entries] for one in self.disk.writes]


async def test_what_only_appends_is_merged_behind_a_write_under_way() -> None:
    queue = Queue()
    await queue.put(*map(write, range(1, 6)))
    await queue.until(5)
    assert queue.written == [[1], [2, 3, 4, 5]]
    assert queue.stored == [1, 5]
    assert queue.disk.writes[-1].commit == 4


async def test_term_vote_and_cuts_begin_a_write_and_take_what_follows() -> None:
    queue = Queue()
    await queue.put(
        write(1),
        write(2),
        write(3, hard_state=HardState(Term(2), NodeId(1))),
        write(4),
        write(5, truncate_from=5),
        write(6),
    )
    await queue.until(6)
    assert queue.written == [[1], [2], [3, 4], [5, 6]]
    assert queue.disk.writes[2].hard_state == HardState(Term(2), NodeId(1))
    assert queue.disk.writes[3].truncate_from == 5


async def test_an_install_is_never_merged_and_keeps_its_place() -> None:
    queue = Queue()
    install = Install(Index(9), TERM)
    await queue.put(write(1), write(2), write(3, install=install), write(4), write(5))
    await queue.until(5)
    assert queue.installed == [3]
    assert queue.written == [[1], [2], [4, 5]]
    assert queue.stored == [1, 2, 3, 5]


async def test_a_write_without_room_keeps_its_place_until_there_is() -> None:
    queue = Queue()
    queue.disk.fill_up()
    told: list[str] = []

    async def on_full(error: DiskFull) -> None:
        told.append(str(error))
        assert queue.queue.age_ms == 0, "the disk is not at it"
        if len(told) == 3:
            queue.disk.free_bytes = 1 << 30

    queue.queue.on_full = on_full
    await queue.put(write(1), write(2), write(3))
    await queue.until(3)
    assert len(told) == 3
    assert queue.written == [[1], [2, 3]]
    assert not queue.failures


async def test_nobody_to_ask_for_room_makes_a_full_disk_final() -> None:
    queue = Queue()
    queue.disk.fill_up()
    await queue.put(write(1))
    await queue.has_failed.wait()
    assert "no space is left" in queue.failures[0]


async def test_any_other_error_is_final_and_nothing_is_written_behind_it() -> None:
    queue = Queue()
    queue.disk.error = sync_failed()
    await queue.put(write(1), write(2))
    await queue.has_failed.wait()
    await queue.task
    queue.disk.error = None
    assert queue.failures == [f"the log cannot be written: {sync_failed()}"]
    assert not queue.written
    assert not queue.stored


async def test_an_install_that_fails_is_final_too() -> None:
    queue = Queue()

    async def fail(_: Write) -> None:
        raise DiskFailed("Cannot write state.db: disk I/O error.")

    queue.queue.on_install = fail
    await queue.put(write(1, install=Install(Index(9), TERM)))
    await queue.has_failed.wait()
    assert "state.db" in queue.failures[0]


async def test_the_age_is_that_of_the_write_the_disk_is_at() -> None:
    queue = Queue()
    assert queue.queue.age_ms == 0
    queue.queue.put(write(1), ())
    async with asyncio.timeout(30):
        while not queue.queue.age_ms:  # noqa: ASYNC110  # real time passes
            await asyncio.sleep(0)
    queue.disk.go_on()
    await queue.until(1)
    assert queue.queue.age_ms == 0


class _Here:
    """The way of writing at once, for some of the writes."""

    def __init__(self, *taken: int) -> None:
        self.taken = taken
        self.asked: list[int] = []
        self.error: Exception | None = None

    def __call__(self, write: Write) -> bool:
        self.asked.append(write.id)
        if self.error is not None:
            raise self.error
        return write.id in self.taken


async def test_what_can_be_written_at_once_never_goes_to_the_thread() -> None:
    queue = Queue()
    queue.queue.write_here = here = _Here(1, 2)
    queue.queue.put(write(1), ())
    assert not here.asked, "what is sent beside it leaves first"
    await asyncio.sleep(0)
    assert queue.stored == [1]
    await queue.put(write(2), write(3))
    await queue.until(3)
    assert queue.stored == [1, 2, 3]
    assert queue.written == [[3]]
    assert queue.queue.sync_times.max_us() > 0


async def test_nothing_passes_a_write_that_is_under_way() -> None:
    queue = Queue()
    queue.queue.write_here = here = _Here(2, 4)
    queue.queue.put(write(1), ())
    for _ in range(5):
        await asyncio.sleep(0)
    queue.queue.put(write(2), ())
    for _ in range(5):
        await asyncio.sleep(0)
    assert here.asked == [1]
    assert not queue.stored
    queue.disk.go_on()
    await queue.until(2)
    assert queue.written == [[1]]
    assert here.asked == [1, 2]


async def test_an_error_of_a_write_at_once_is_final_too() -> None:
    queue = Queue()
    queue.queue.write_here = here = _Here()
    here.error = sync_failed()
    await queue.put(write(1), write(2))
    await queue.has_failed.wait()
    here.error = None
    queue.queue.put(write(3), ())
    await asyncio.sleep(0)
    assert queue.failures == [f"the log cannot be written: {sync_failed()}"]
    assert here.asked == [1]
    assert not queue.stored


async def test_nothing_is_written_at_once_after_the_end() -> None:
    queue = Queue()
    queue.queue.write_here = here = _Here(1)
    await asyncio.sleep(0)
    queue.task.cancel()
    await asyncio.gather(queue.task, return_exceptions=True)
    queue.queue.put(write(1), ())
    await asyncio.sleep(0)
    assert not here.asked
