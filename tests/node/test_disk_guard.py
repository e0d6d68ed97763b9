"""What a full disk and exchanged files do to the guard, with a disk made up.

Source: RELIABILITY.md rule 51.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from raftd.node import disk_guard
from raftd.node.disk_guard import DataDisk, DiskGuard, make_room
from raftd.node.ports import DiskLook
from raftd.storage.ballast import DiskSpace
from raftd.storage.errors import DiskFailed, DiskFull

MIB = 1 << 20
BALLAST = 64 * MIB
MARGIN = BALLAST // 4
FULL = DiskFull("Cannot write log.db: no space is left on the disk.")


class MadeUpDisk:
    """A disk that is as the test says."""

    def __init__(self, free_bytes: int, *, has_ballast: bool = True) -> None:
        self.ballast_bytes = BALLAST
        self.free_bytes = free_bytes
        self.has_ballast = has_ballast
        self.replaced = ""
        self.error: Exception | None = None

    def look(self) -> DiskLook:
        if self.error is not None:
            raise self.error
        return DiskLook(
            self.free_bytes, 1 << 40, self.has_ballast, replaced=self.replaced
        )

    def fill_ballast(self) -> bool:
        if self.free_bytes < BALLAST:
            return False
        self.free_bytes -= BALLAST
        self.has_ballast = True
        return True

    def release_ballast(self) -> None:
        if self.has_ballast:
            self.has_ballast = False
            self.free_bytes += BALLAST


class Watched:
    """A guard, and what it told."""

    def __init__(self, disk: MadeUpDisk, *, look_s: float = 0.001) -> None:
        self.failures: list[str] = []
        self.changes: list[bool] = []
        self.has_failed = asyncio.Event()
        self.guard = DiskGuard(disk, self.fail, look_s=look_s)
        self.guard.on_change = lambda: self.changes.append(self.guard.is_full)

    def fail(self, sentence: str, error: BaseException | None) -> None:
        self.failures.append(sentence)
        self.has_failed.set()


async def test_the_ballast_is_filled_at_the_first_look() -> None:
    disk = MadeUpDisk(BALLAST + MARGIN, has_ballast=False)
    watched = Watched(disk)
    await watched.guard.look()
    assert disk.has_ballast
    assert disk.free_bytes == MARGIN
    assert not watched.changes


async def test_a_disk_too_small_for_a_ballast_goes_without() -> None:
    disk = MadeUpDisk(BALLAST + MARGIN - 1, has_ballast=False)
    watched = Watched(disk)
    await watched.guard.look()
    assert not disk.has_ballast
    assert not watched.guard.is_full


async def test_a_write_without_room_gets_the_ballasts_at_once() -> None:
    disk = MadeUpDisk(0)
    watched = Watched(disk)
    await watched.guard.note_full(FULL)
    assert watched.guard.is_full
    assert watched.changes == [True]
    assert disk.free_bytes == BALLAST
    await watched.guard.note_full(FULL)
    assert watched.changes == [True], "told once"


async def test_full_ends_when_the_ballast_is_whole_and_there_is_room_beside_it() -> (
    None
):
    disk = MadeUpDisk(0)
    watched = Watched(disk)
    guard = watched.guard
    await guard.note_full(FULL)
    for free_bytes in (0, BALLAST, BALLAST + MARGIN - 1):
        disk.free_bytes = free_bytes
        await guard.look()
        assert guard.is_full
        assert not disk.has_ballast, "none is filled only to be given back at once"
    disk.free_bytes = BALLAST + MARGIN
    await guard.look()
    assert not guard.is_full
    assert disk.has_ballast
    assert watched.changes == [True, False]


async def test_what_can_wait_waits_for_room() -> None:
    disk = MadeUpDisk(0)
    guard = Watched(disk).guard
    await guard.wait_room()
    await guard.note_full(FULL)
    waiting = asyncio.create_task(guard.wait_room())
    await guard.look()
    assert not waiting.done()
    disk.free_bytes = BALLAST + MARGIN
    await guard.look()
    await waiting
    assert disk.has_ballast


async def test_files_that_went_away_end_the_node() -> None:
    disk = MadeUpDisk(1 << 30)
    watched = Watched(disk)
    await watched.guard.look()
    assert watched.guard.are_files_ours
    disk.replaced = "log.db was replaced by another file under the running node."
    await watched.guard.look()
    assert watched.failures == [disk.replaced]
    assert not watched.guard.are_files_ours


async def test_a_disk_that_says_nothing_ends_the_node() -> None:
    disk = MadeUpDisk(1 << 30)
    disk.error = DiskFailed("Cannot look at /data: Input/output error.")
    watched = Watched(disk)
    running = asyncio.create_task(watched.guard.run())
    await watched.has_failed.wait()
    running.cancel()
    assert "Input/output error" in watched.failures[0]


def test_a_start_without_room_gives_the_ballast_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = DataDisk(tmp_path, 8 * MIB, lambda: None)
    assert disk.fill_ballast()
    assert (tmp_path / "ballast").stat().st_size == 8 * MIB
    assert not make_room(tmp_path, 8 * MIB), "there is room"
    assert disk.look().has_ballast
    short = DiskSpace(free_bytes=2 * MIB - 1, total_bytes=1 << 40)
    monkeypatch.setattr(disk_guard, "disk_space", lambda _: short)
    assert make_room(tmp_path, 8 * MIB)
    assert not disk.look().has_ballast
    assert not make_room(tmp_path, 8 * MIB), "there is none to give"


def test_a_first_start_has_no_ballast_to_give(tmp_path: Path) -> None:
    assert not make_room(tmp_path / "not there yet", MIB)
    assert not (tmp_path / "not there yet").exists()


async def test_a_node_that_began_without_room_is_full_until_there_is() -> None:
    disk = MadeUpDisk(BALLAST, has_ballast=False)
    watched = Watched(disk)
    watched.guard.begin_full()
    await watched.guard.look()
    assert watched.guard.is_full
    disk.free_bytes += MARGIN
    await watched.guard.look()
    assert not watched.guard.is_full
