"""A stored state becomes a machine: read in threads, built in slices."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator

import pytest

from raftd.node import state_loading
from raftd.node.pace import Pace
from raftd.node.state_loading import load_state
from raftd.statemachine.limits import DEFAULT_LIMITS
from raftd.statemachine.machine import MachineLoading
from raftd.statemachine.rows import DIGEST_BYTES, Row
from raftd.statemachine.schema.entry import MarkEntry
from raftd.statemachine.schema.kv import PutKey
from raftd.storage.errors import DamagedFiles
from tests.node.lone import Lone

_KEYS = 100


class _Marked(Lone):
    """Keeps the rows of its checkpoint."""

    def marked(self, index: int, mark: MarkEntry) -> None:
        self.marks.append(index)
        self.rows = list(self.machine.take_checkpoint().rows())


def _rows() -> list[Row]:
    """Return the rows of a state with some keys."""
    lone = _Marked()
    lone.lead()
    for number in range(_KEYS):
        lone.do(PutKey(b"k%d" % number, b"v"))
    lone.replica.mark_beyond(lone.core.commit_index)
    while not lone.marks:
        lone.tick()
        lone.settle()
    return lone.rows


def _loading() -> MachineLoading:
    return MachineLoading(DEFAULT_LIMITS, index=9, digest=bytes(DIGEST_BYTES))


def _pace() -> Pace:
    return Pace(slice_s=0.0, rest_share=0.0)


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_loading, "_PIECE_ROWS", 10)
    monkeypatch.setattr(state_loading, "_FEED_ROWS", 3)


async def test_rows_are_read_in_threads_and_all_of_them_count() -> None:
    rows = _rows()
    readers: set[int] = set()

    def noted() -> Iterator[Row]:
        for row in rows:
            readers.add(threading.get_ident())
            yield row

    machine = await load_state(_loading(), noted(), _pace())
    assert machine.kv.count_all == _KEYS
    assert machine.applied_index == 9
    assert readers
    assert threading.get_ident() not in readers


async def test_a_disk_that_hangs_keeps_nobody_else_waiting() -> None:
    rows, may_go_on = _rows(), threading.Event()

    def hanging() -> Iterator[Row]:
        yield from rows[:15]
        may_go_on.wait()
        yield from rows[15:]

    task = asyncio.create_task(load_state(_loading(), hanging(), _pace()))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not task.done(), "the loop goes on while the disk does not"
    assert not gc.isenabled()
    may_go_on.set()
    assert (await task).kv.count_all == _KEYS
    assert gc.isenabled()


async def test_what_reading_raises_comes_out() -> None:
    rows = _rows()

    def damaged() -> Iterator[Row]:
        yield from rows[:25]
        raise DamagedFiles("a chunk is missing")

    with pytest.raises(DamagedFiles, match="a chunk is missing"):
        await load_state(_loading(), damaged(), _pace())
    assert gc.isenabled()


async def test_who_is_cancelled_leaves_no_thread_at_the_rows() -> None:
    rows, may_go_on, is_reading = _rows(), threading.Event(), threading.Event()
    read = 0

    def slow() -> Iterator[Row]:
        nonlocal read
        for row in rows:
            is_reading.set()
            may_go_on.wait()
            read += 1
            yield row

    task = asyncio.create_task(load_state(_loading(), slow(), _pace()))
    await asyncio.to_thread(is_reading.wait)
    task.cancel()
    may_go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert read == 10, "the piece under way, and none after it"
