"""Everything that can go wrong with a data directory, each said in one sentence.

    StorageError
    +-- DirectoryInUse    another process has the directory open
    +-- ForeignFiles      files of another node, cluster or program
    +-- NewerFormat       files written by a later raftd
    +-- DamagedFiles      bytes are not what was written, or a file is missing
    +-- DiskFailed        the operating system refused a read, write or sync
        +-- DiskFull      ... because no space is left

Rules: the message is a whole sentence for the person who runs the node and names the
file. Whoever gets one stops the node: storage never goes on after an error, because a
later sync can succeed although an earlier one lost data. Only a full disk is different:
what was asked for was definitely not done, and the store goes on. The first four are
raised only before anything was changed, except that reading may find damage later.

Source: RELIABILITY.md section 0 finding 1 and rules 46, 49-51.
"""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

__all__ = [
    "BAD_BYTES",
    "BAD_ROWS",
    "DamagedFiles",
    "DirectoryInUse",
    "DiskFailed",
    "DiskFull",
    "ForeignFiles",
    "NewerFormat",
    "StorageError",
    "translate_errors",
]

BAD_BYTES: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises on bytes that are not what they should be: a text that is no
UTF-8, and a depth that no stack has, are told by Python's own errors."""

BAD_ROWS: Final = (*BAD_BYTES, LookupError, ValueError, AssertionError)
"""What a state machine raises on rows or entries that are not of this release."""


class StorageError(Exception):
    """The data directory cannot be used, or no longer."""


class DirectoryInUse(StorageError):
    """Stop the other process, or choose another directory."""


class ForeignFiles(StorageError):
    """Point the node at its own directory, or remove what does not belong there."""


class NewerFormat(StorageError):
    """Run the raftd that wrote the files, or a later one."""


class DamagedFiles(StorageError):
    """Let the node rejoin with an empty directory; the others hold its data."""


class DiskFailed(StorageError):
    """End the process; start it again when the disk is sound."""


class DiskFull(DiskFailed):
    """Nothing of it was done: try again when there is space."""


@contextmanager
def translate_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn SQLite's and the system's errors into ours: the one boundary for both.

    Args:
        path: The file worked on, named in the sentence.
        doing: What was tried, as "read" or "write".

    Raises:
        DamagedFiles: SQLite found the file's structure broken.
        DiskFull: No space is left.
        DiskFailed: Any other refusal.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise _from_sqlite(path, doing, error) from error
    except UnicodeDecodeError as error:
        # SQLite names what is malformed in the file's own bytes, whatever they are.
        raise DamagedFiles(
            f"{path} is damaged: it holds a name that is no text."
        ) from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFull(_no_room(path, doing)) from error
        reason = error.strerror or str(error)
        raise DiskFailed(f"Cannot {doing} {path}: {reason}.") from error


def _no_room(path: Path, doing: str) -> str:
    return f"Cannot {doing} {path}: no space is left on the disk."


def _from_sqlite(path: Path, doing: str, error: sqlite3.Error) -> StorageError:
    # Python's own complaints (text that is not UTF-8, a closed file) have no code.
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_IOERR_SHMSIZE:
        # Unlike FULL it may come after the commit was written.
        return DiskFailed(
            f"Cannot {doing} {path}: no space is left for the index of its"
            " write-ahead log."
        )
    primary = sqlite3.SQLITE_CORRUPT if code is None else code & 0xFF
    match primary:
        case sqlite3.SQLITE_FULL:
            return DiskFull(_no_room(path, doing))
        case (
            sqlite3.SQLITE_IOERR
            | sqlite3.SQLITE_CANTOPEN
            | sqlite3.SQLITE_READONLY
            | sqlite3.SQLITE_BUSY
            | sqlite3.SQLITE_LOCKED
            | sqlite3.SQLITE_PERM
            | sqlite3.SQLITE_NOMEM
            | sqlite3.SQLITE_PROTOCOL
        ):
            return DiskFailed(f"Cannot {doing} {path}: {error}.")
        case _:
            return DamagedFiles(f"{path} is damaged: {error}.")
