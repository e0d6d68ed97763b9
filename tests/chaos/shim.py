"""The library between a node and its C library, and the page of orders for it.

It is made from shim.c with the machine's compiler. Each node has a page of its own,
mapped into it: an order holds from the moment that it is written there.

Rules: the fields of a page are those of ``struct page`` in shim.c, in the same order.

Source: RELIABILITY.md section 5.
"""

from __future__ import annotations

import enum
import errno
import functools
import mmap
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Final

__all__ = ["COMPILER", "Files", "Page", "Point", "make_shim"]

COMPILER: Final = shutil.which("cc") or shutil.which("gcc")
_SOURCE: Final = Path(__file__).with_name("shim.c")
_SIZE: Final = 4096
_FIELDS: Final = (
    *("process", "sync_mode", "sync_delay_us", "sync_files", "write_error"),
    *("write_files", "crash_point", "crash_countdown", "crashes", "keeps_unsynced"),
    *("version", "wall_shift_ns", "rate_ppm", "rate_since_ns", "clock_shift_ns"),
    "syncs_met",
)
_PLACES: Final = {name: 8 * place for place, name in enumerate(_FIELDS)}
_MAKE_S: Final = 60.0


class Files(enum.IntFlag):
    """Whose syncs and writes are meant."""

    LOG = 1
    STATE = 2
    BOTH = 3


class _Sync(enum.IntEnum):
    WORK = 0
    FAIL = 1
    SLOW = 2
    HANG = 3


class Point(enum.IntEnum):
    """A moment at which a node can be made to end as if by kill -9."""

    BEFORE_LOG_WRITE = 1
    AFTER_LOG_WRITE = 2
    BEFORE_LOG_SYNC = 3
    AFTER_LOG_SYNC = 4
    BEFORE_STATE_WRITE = 5
    AFTER_STATE_WRITE = 6
    BEFORE_STATE_SYNC = 7
    AFTER_STATE_SYNC = 8
    BEFORE_PEER_SEND = 9
    AFTER_PEER_SEND = 10
    BEFORE_REPLY = 11
    AFTER_REPLY = 12
    AFTER_PEER_RECEIVE = 14


class Page:
    """The orders of one node."""

    def __init__(self, path: Path) -> None:
        """Map a page; one that is new has no orders."""
        self.path: Final = path
        with path.open("a+b") as file:
            file.truncate(_SIZE)
            self._map = mmap.mmap(file.fileno(), _SIZE)

    def __getitem__(self, name: str) -> int:
        (value,) = struct.unpack_from("q", self._map, _PLACES[name])
        return int(value)

    def __setitem__(self, name: str, value: int) -> None:
        struct.pack_into("q", self._map, _PLACES[name], value)

    def fail_syncs(self, files: Files = Files.LOG) -> None:
        """Let each sync fail with EIO."""
        self._sync(_Sync.FAIL, files)

    def slow_syncs(self, delay_ms: int, files: Files = Files.BOTH) -> None:
        """Let each sync take so much longer."""
        self["sync_delay_us"] = 1000 * delay_ms
        self._sync(_Sync.SLOW, files)

    def hang_syncs(self, files: Files = Files.LOG) -> None:
        """Let no sync return until other orders come."""
        self._sync(_Sync.HANG, files)

    def fail_writes(self, error: int = errno.ENOSPC, files: Files = Files.BOTH) -> None:
        """Let each write fail."""
        self["write_files"] = files
        self["write_error"] = error

    def mend_disk(self) -> None:
        """Let syncs and writes work."""
        self["write_error"] = 0
        self._sync(_Sync.WORK, Files(0))

    def crash_at(self, point: Point, count: int = 1) -> None:
        """End the node when it comes to a point for the so-manieth time."""
        assert count > 0, "the first time is 1"
        self["crash_point"] = 0
        self["crash_countdown"] = count
        self["crash_point"] = point

    def crash_nowhere(self) -> None:
        """Take the order to end back."""
        self["crash_point"] = 0

    def bend_clock(
        self, now_ns: int, *, wall_shift_ms: int | None = None, rate_ppm: int = 0
    ) -> None:
        """Show another time from now on; monotonic clocks never jump.

        Args:
            now_ns: The node's own monotonic clock.
            wall_shift_ms: How far wall time is ahead; None = as far as it was.
            rate_ppm: How much faster all clocks run, in millionths.
        """
        passed = now_ns - self["rate_since_ns"]
        shift = self["clock_shift_ns"] + passed // 1_000_000 * self["rate_ppm"]
        version = self["version"]
        self["version"] = version + 1  # odd: who reads it waits
        self["clock_shift_ns"] = shift if version else 0
        self["rate_since_ns"] = now_ns
        self["rate_ppm"] = rate_ppm
        if wall_shift_ms is not None:
            self["wall_shift_ns"] = 1_000_000 * wall_shift_ms
        self["version"] = version + 2

    def close(self) -> None:
        """Let go of the page."""
        self._map.close()

    def _sync(self, mode: _Sync, files: Files) -> None:
        self["sync_mode"] = _Sync.WORK
        self["sync_files"] = files
        if mode is not _Sync.WORK:
            self["syncs_met"] = 0  # how many have failed or hang since
        self["sync_mode"] = mode


@functools.cache
def make_shim(folder: Path) -> Path:
    """Make the library in a folder.

    Raises:
        RuntimeError: The compiler cannot: the text says why.
    """
    assert COMPILER is not None, "asked for before"
    shim = folder / "shim.so"
    flags = ("-shared", "-fPIC", "-O1", "-Wall", "-Werror")
    command = [COMPILER, *flags, "-o", str(shim), str(_SOURCE), "-ldl"]
    made = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=_MAKE_S
    )
    if made.returncode:
        raise RuntimeError(f"{COMPILER} cannot make a library here: {made.stderr}")
    return shim
