"""What a member does about a disk that is full, or whose files went away.

A ballast file holds room that only a full disk gives free: term, vote and what was
already promised still fit then. Whoever finds the disk full says so (``note_full``)
and tries again.

Rules: full begins with the first write that finds no room, and ends when the ballast
is whole again and a margin is free beside it, so that a disk on the edge does
not flap. The disk is asked in a thread: one that hangs must not hold up the loop.

Source: RELIABILITY.md rule 51.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from raftd.node.ports import DiskLook, DiskPort
from raftd.storage.ballast import Ballast, disk_space
from raftd.storage.errors import StorageError

__all__ = ["DataDisk", "DiskGuard", "make_room"]

_logger = logging.getLogger(__name__)

_BALLAST_NAME: Final = "ballast"
_LOOK_S: Final = 1.0
_RETRY_S: Final = 0.2
_MARGIN_PART: Final = 4
_MARGIN_BYTES_MIN: Final = 1024 * 1024


class DataDisk:
    """The file system of a data directory, as ``DiskPort`` wants it."""

    def __init__(
        self, data_dir: Path, ballast_bytes: int, replaced: Callable[[], str | None]
    ) -> None:
        """Keep a ballast of so many bytes in a directory, and an eye on its files."""
        self.ballast_bytes: Final = ballast_bytes
        self._data_dir: Final = data_dir
        self._replaced: Final = replaced
        self._ballast: Final = Ballast(data_dir / _BALLAST_NAME, ballast_bytes)

    def look(self) -> DiskLook:
        """Look how it is."""
        replaced = self._replaced()
        if replaced:
            return DiskLook(0, 0, has_ballast=False, replaced=replaced)
        space = disk_space(self._data_dir)
        return DiskLook(*space, has_ballast=self._ballast.is_full, replaced="")

    def fill_ballast(self) -> bool:
        """Take the ballast's room; False if there is not enough."""
        return self._ballast.fill()

    def release_ballast(self) -> None:
        """Give the ballast's room free."""
        self._ballast.release()


class DiskGuard:
    """Knows whether the disk is full; see the module's rules."""

    def __init__(
        self,
        disk: DiskPort,
        fail: Callable[[str, BaseException | None], None],
        *,
        look_s: float = _LOOK_S,
    ) -> None:
        """Guard a disk; ``run`` looks after it.

        Args:
            disk: The data directory.
            fail: Ends the node.
            look_s: How often it is looked at.
        """
        self._disk: Final = disk
        self._fail: Final = fail
        self._look_s: Final = look_s
        self._margin_bytes: Final = _margin_bytes(disk.ballast_bytes)
        self._has_room: Final = asyncio.Event()
        self._has_room.set()
        self.are_files_ours = True
        self.free_bytes = 0
        self.total_bytes = 0
        self.on_change: Callable[[], None] = _nothing
        self._is_warned = False

    @property
    def is_full(self) -> bool:
        """Whether a write found no room, and there is not enough again."""
        return not self._has_room.is_set()

    async def note_full(self, error: BaseException) -> None:
        """Take note that a write found no room; returns when it is to be tried again.

        The first time that is at once, with the ballast's room.
        """
        if self.is_full:
            await asyncio.sleep(_RETRY_S)
            return
        _logger.error("disk_full reason=%s", error)
        self._has_room.clear()
        self.on_change()
        await asyncio.to_thread(self._disk.release_ballast)

    def begin_full(self) -> None:
        """Count as full from the start on; see ``make_room``."""
        _logger.error("disk_full reason=no room at the start")
        self._has_room.clear()

    async def wait_room(self) -> None:
        """Wait until the disk is not full: nothing else may use the ballast up."""
        await self._has_room.wait()

    async def run(self) -> None:
        """Look after the disk until cancelled."""
        while True:
            try:
                await self.look()
            except (OSError, StorageError) as error:
                self._fail(f"the data directory cannot be looked at: {error}", error)
            await asyncio.sleep(self._look_s)

    async def look(self) -> None:
        """Look once: are the files there, and is there room?"""
        look = await asyncio.to_thread(self._disk.look)
        self.free_bytes, self.total_bytes = look.free_bytes, look.total_bytes
        if look.replaced:
            self.are_files_ours = False
            self._fail(look.replaced, None)
        elif self.is_full or not look.has_ballast:
            await self._make_whole(look)

    async def _make_whole(self, look: DiskLook) -> None:
        """Fill the ballast if there is room, then let the work go on."""
        missing_bytes = 0 if look.has_ballast else self._disk.ballast_bytes
        if look.free_bytes < missing_bytes + self._margin_bytes or (
            missing_bytes and not await asyncio.to_thread(self._disk.fill_ballast)
        ):
            self._warn()
            return
        if self.is_full:
            _logger.info("disk_has_room free_bytes=%d", look.free_bytes)
            self._has_room.set()
            self.on_change()

    def _warn(self) -> None:
        if not self._is_warned:
            self._is_warned = True
            _logger.warning("no_ballast bytes=%d", self._disk.ballast_bytes)


def make_room(data_dir: Path, ballast_bytes: int) -> bool:
    """Give the ballast free before a start on a disk with no room to start in.

    Returns:
        Whether it was: the disk counts as full then (``DiskGuard.begin_full``).

    Raises:
        DiskFailed: The disk refused.
    """
    ballast = Ballast(data_dir / _BALLAST_NAME, ballast_bytes)
    if not ballast_bytes or not ballast.is_full:
        return False
    if disk_space(data_dir).free_bytes >= _margin_bytes(ballast_bytes):
        return False
    ballast.release()
    return True


def _margin_bytes(ballast_bytes: int) -> int:
    """Say what must be free beside the ballast before a disk counts as not full."""
    return max(_MARGIN_BYTES_MIN, ballast_bytes // _MARGIN_PART)


def _nothing() -> None:
    return
