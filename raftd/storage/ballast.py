"""A file that holds room, so that a full disk can be worked on.

While other files grow, the ballast keeps some of the disk for the node. Given back in
need, it lets the log finish what it has begun and the node hand over and tell why; once
there is room again, it is filled anew.

Rules: it counts as full only when every byte of it is allocated, so a sparse file does
not pass for one. Want of room is an answer here; other errors are raised.

Source: RELIABILITY.md rule 51.
"""

import errno
import os
from pathlib import Path
from typing import NamedTuple

from raftd.storage.errors import translate_errors

__all__ = ["Ballast", "DiskSpace", "disk_space", "free_bytes"]

_PRIVATE_FILE = 0o600
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: Of `st_blocks`, whatever the file system's own blocks are.
_BLOCK_BYTES = 512


class DiskSpace(NamedTuple):
    """Of the file system that holds a directory, as an ordinary user sees it."""

    free_bytes: int
    total_bytes: int


def disk_space(directory: Path) -> DiskSpace:
    """Ask how much room a directory's file system has.

    Raises:
        DiskFailed: The system does not say.
    """
    with translate_errors(directory, "look at"):
        found = os.statvfs(directory)
    return DiskSpace(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)


def free_bytes(directory: Path) -> int:
    """Ask how much room is left for a directory.

    Raises:
        DiskFailed: The system does not say.
    """
    return disk_space(directory).free_bytes


class Ballast:
    """One file of a fixed size. Its calls block, `is_full` for microseconds."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        """Name it; nothing is touched.

        Args:
            path: On the file system whose room it holds.
            size_bytes: 0 keeps none.
        """
        assert size_bytes >= 0, "a size"
        self._path = path
        self._size_bytes = size_bytes

    @property
    def is_full(self) -> bool:
        """Tell whether all of it is there."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return self._size_bytes == 0
        is_allocated = found.st_blocks * _BLOCK_BYTES >= self._size_bytes
        return found.st_size == self._size_bytes and is_allocated

    def fill(self) -> bool:
        """Take the room, durably.

        Returns:
            False if there is not enough: then nothing is taken.

        Raises:
            DiskFailed: The disk refused for another reason.
        """
        if self.is_full:
            return True
        if not self._size_bytes:
            self.release()
            return True
        with translate_errors(self._path, "write"):
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT, _PRIVATE_FILE)
            try:
                os.truncate(handle, self._size_bytes)
                os.posix_fallocate(handle, 0, self._size_bytes)
                os.fsync(handle)
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                is_filled = False
            else:
                is_filled = True
            finally:
                os.close(handle)
        if not is_filled:
            self.release()
        return is_filled

    def release(self) -> None:
        """Give the room back. May be called twice.

        Raises:
            DiskFailed: The disk refused.
        """
        with translate_errors(self._path, "remove"):
            self._path.unlink(missing_ok=True)
