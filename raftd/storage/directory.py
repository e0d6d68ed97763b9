"""The data directory: made private, and held by one process at a time.

Rules: the lock belongs to the open file, so it is gone when the process is, however
that ended. The lock file stays and holds the holder's process id, for people only.

Source: DESIGN.md section 6 (identity).
"""

import fcntl
import os
from pathlib import Path

from raftd.storage.errors import DirectoryInUse, translate_errors

__all__ = ["LOCK_NAME", "LOG_NAME", "STATE_NAME", "DirectoryLock"]

LOG_NAME = "log.db"
STATE_NAME = "state.db"
LOCK_NAME = "lock"
_PRIVATE_DIRECTORY = 0o700
_PRIVATE_FILE = 0o600


class DirectoryLock:
    """Holds a data directory from its making until `release`.

    Raises:
        DirectoryInUse: Another process, or this one, has it.
        DiskFailed: It cannot be made or written.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / LOCK_NAME
        with translate_errors(path, "lock"):
            directory.mkdir(mode=_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, _PRIVATE_FILE)
            try:
                self._take(directory, handle)
            except BaseException:
                os.close(handle)
                raise
        self._handle: int | None = handle

    def release(self) -> None:
        """Let the next process in. May be called twice."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    @staticmethod
    def _take(directory: Path, handle: int) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(handle, 32, 0).decode(errors="replace").strip()
            raise DirectoryInUse(
                f"{directory} is in use by another raftd (process {holder})."
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
