"""Appends on the caller's thread: when they are made, and that nothing else changes.

Source: ``raftd.storage.log_here``; RELIABILITY.md rules 14, 23, 49 and 51.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from raftd.consensus.types import Index
from raftd.storage import log_here
from raftd.storage.errors import DiskFailed, DiskFull
from raftd.storage.files import (
    connect_writer,
    connect_writer_here,
    extend_bytes,
    wal_path,
)
from raftd.storage.log_here import LogHere, SyncPace
from raftd.storage.log_store import LogStore
from tests.storage.tools import entries, entry, open_node, write

QUICK_S = 0.0002
MIB = 1 << 20


class Watch:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def take(pace: SyncPace, clock: Watch, took_s: float) -> None:
    """Let one sync take so long."""
    begin_s = clock.now_s
    clock.now_s += took_s
    pace.note(begin_s)


def rest_s(pace: SyncPace, clock: Watch) -> float:
    """Let the rest pass; return how long it was."""
    began_s = clock.now_s
    while not pace.may_wait:
        clock.now_s += 0.01
    return clock.now_s - began_s


@pytest.fixture(autouse=True)
def no_first_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write here from the first write on."""
    monkeypatch.setattr(log_here, "_REST_S_FIRST", 0.0)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no sync of the machine that runs this be a slow one."""
    monkeypatch.setattr(log_here, "_SLOW_S", 60.0)
    monkeypatch.setattr(log_here, "_MEAN_S", 60.0)


def test_after_a_slow_sync_the_loop_waits_for_none_for_fifty_times_as_long() -> None:
    clock = Watch()
    pace = SyncPace(clock)
    take(pace, clock, QUICK_S)
    assert pace.may_wait
    take(pace, clock, 0.02)
    assert not pace.may_wait
    assert rest_s(pace, clock) == pytest.approx(1.0, abs=0.02)


def test_a_disk_that_stays_slow_is_tried_ever_more_rarely() -> None:
    clock = Watch()
    pace = SyncPace(clock)
    rests_s = []
    for _ in range(9):
        take(pace, clock, 0.01)
        rests_s.append(rest_s(pace, clock))
    assert rests_s[:3] == pytest.approx([0.5, 1.0, 2.0], abs=0.03)
    assert rests_s[-2:] == pytest.approx([50.0, 50.0], abs=0.1)
    for _ in range(200):
        take(pace, clock, QUICK_S)
    take(pace, clock, 0.01)
    assert rest_s(pace, clock) == pytest.approx(0.5, abs=0.03)


def test_syncs_that_are_all_a_little_slow_are_not_waited_for_either() -> None:
    clock = Watch()
    pace = SyncPace(clock)
    count = 0
    while pace.may_wait:
        take(pace, clock, 0.0025)
        count += 1
    assert 3 < count < 30


@asynccontextmanager
async def open_log(directory: Path) -> AsyncIterator[LogStore]:
    """Open a log, in term 1."""
    async with open_node(directory) as stores:
        await stores.log.write(write(hard_state=(1, None)))
        yield stores.log


async def put(log: LogStore, first: int, last: int, *, is_here: bool) -> None:
    """Append some entries, in one of the two ways."""
    one = write(entries(first, last), commit=first - 1)
    if is_here:
        assert log.write_here(one)
    else:
        await log.write(one)


@pytest.mark.usefixtures("patient")
async def test_both_ways_make_one_log(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        for number in range(1, 40, 2):
            is_here = number % 3 == 0
            await put(log, number, number + 1, is_here=is_here)
        assert log.last_index == 40
        assert log.read(Index(1), Index(41), MIB) == entries(1, 40)
    async with open_node(tmp_path) as stores:
        assert stores.recovery.log.tail == entries(1, 40)
        assert stores.recovery.log.commit == 38


@pytest.mark.usefixtures("patient")
async def test_what_was_written_here_is_there_after_a_crash(tmp_path: Path) -> None:
    live, copy = tmp_path / "live", tmp_path / "copy"
    async with open_log(live) as log:
        await log.make_room()
        await put(log, 1, 3, is_here=False)
        await put(log, 4, 4, is_here=True)
        copy.mkdir()
        for file in live.iterdir():
            if not file.name.endswith(("-shm", "lock")):
                (copy / file.name).write_bytes(file.read_bytes())
    async with open_node(copy) as stores:
        assert stores.recovery.log.tail == entries(1, 4)


async def test_both_connections_sync_before_they_call_it_durable(
    tmp_path: Path,
) -> None:
    """See ``test_power_loss`` for what becomes of it where a compiler is."""
    path = tmp_path / "log.db"
    there = await connect_writer(path)
    here = connect_writer_here(path)
    try:
        for pragma, wanted in (("synchronous", 2), ("fullfsync", 1)):
            (told,) = await there.execute_fetchall(f"PRAGMA {pragma}")
            assert tuple(told) == (wanted,)
            assert here.execute(f"PRAGMA {pragma}").fetchone() == (wanted,)
        assert here.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    finally:
        here.close()
        await there.close()


@pytest.mark.usefixtures("patient")
async def test_only_small_appends_are_taken(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        assert not log.write_here(write(entries(1, 1), hard_state=(1, 2)))
        assert not log.write_here(write())
        assert not log.write_here(write([entry(1, payload=bytes(33 << 10))]))
        assert not log.write_here(write(entries(1, 65)))
        assert log.last_index == 0
        assert log.write_here(write(entries(1, 64)))
        assert not log.write_here(write(entries(64, 64, 2), truncate_from=64))
        assert log.last_index == 64
    assert not log.write_here(write(entries(65, 65))), "it is closed"


@pytest.mark.usefixtures("patient")
async def test_nothing_is_taken_while_the_other_way_is_at_work(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        await log.write(write(entries(1, 2)))
        async with log._lock:  # noqa: SLF001  # as a write or a cut holds it
            assert not log.write_here(write(entries(3, 3)))
        assert log.write_here(write(entries(3, 3)))


def refusing(errors: list[BaseException]) -> Callable[..., None]:
    """Make an ``execute`` that raises the first of some errors."""

    def execute(*_: object) -> None:
        raise errors.pop(0)

    return execute


async def test_a_disk_without_room_is_left_to_the_other_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_log(tmp_path) as log:
        with monkeypatch.context() as patch:
            full = DiskFull("no room")
            patch.setattr(LogHere, "execute", refusing([full]))
            assert not log.write_here(write(entries(1, 1)))
        assert log.last_index == 0
        await log.write(write(entries(1, 1)))
        assert log.last_index == 1


async def test_a_failed_sync_here_is_final_for_both_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_log(tmp_path) as log:
        with monkeypatch.context() as patch:
            failed = DiskFailed("Cannot write log.db: disk I/O error.")
            patch.setattr(LogHere, "execute", refusing([failed]))
            with pytest.raises(DiskFailed, match="I/O"):
                log.write_here(write(entries(1, 1)))
        assert not log.write_here(write(entries(1, 1)))
        with pytest.raises(DiskFailed, match="I/O"):
            await log.write(write(entries(1, 1)))


@pytest.mark.usefixtures("patient")
async def test_with_room_made_the_write_ahead_log_does_not_grow(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        await log.make_room()
        wal = wal_path(log.files[0])
        size_bytes = wal.stat().st_size
        assert size_bytes >= 16 * MIB
        await put(log, 1, 20, is_here=False)
        await put(log, 21, 40, is_here=True)
        assert wal.stat().st_size == size_bytes
    async with open_node(tmp_path) as stores:
        assert stores.recovery.log.tail == entries(1, 40)


def test_room_is_taken_only_where_it_is_plenty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"begin")
    real = os.statvfs(tmp_path)
    values = list(real)
    values[4] = 31 * MIB // real.f_frsize  # f_bavail
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstatvfs", lambda _: os.statvfs_result(values))
        extend_bytes(file, MIB)
        assert file.read_bytes() == b"begin"
    extend_bytes(file, MIB)
    assert file.read_bytes() == b"begin" + bytes(MIB - 5)
    extend_bytes(file, 100)
    assert file.stat().st_size == MIB


async def test_what_takes_the_place_of_the_log_is_neither_written_nor_read(
    tmp_path: Path,
) -> None:
    """SQLite opens by name; the names may lead elsewhere before the first append."""
    data_dir = tmp_path / "n1"
    async with open_node(data_dir) as stores:
        await stores.log.write(write(hard_state=(1, None)))
        moved = data_dir.rename(tmp_path / "elsewhere")
        data_dir.mkdir()
        for name in ("log.db", "log.db-wal"):
            (data_dir / name).write_bytes(b"somebody else's")
        assert stores.log.write_here(write(entries(1, 1)))
        assert stores.log.read(Index(1), Index(2), MIB) == entries(1, 1)
        found = {path.name: path.read_bytes() for path in data_dir.iterdir()}
        assert found == dict.fromkeys(("log.db", "log.db-wal"), b"somebody else's")
        for path in data_dir.iterdir():
            path.unlink()
        data_dir.rmdir()
        moved.rename(data_dir)
    async with open_node(data_dir) as stores:
        assert stores.recovery.log.tail == entries(1, 1)
