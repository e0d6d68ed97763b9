"""Reads one checkpoint for a follower, piece by piece, while writes go on.

Rules: everything comes from one read transaction, begun when the reader was made, so
checkpoints, merges and installs beside it do not show and remove nothing from it. The
price is that SQLite's write-ahead log cannot start anew before the reader is closed.
Every call blocks: they belong into a thread.

Source: DESIGN.md section 6 (state.db); RELIABILITY.md rules 28, 31 and 32.
"""

import sqlite3
import threading
from pathlib import Path
from typing import Self

from raftd.storage.errors import StorageError, translate_errors
from raftd.storage.files import connect_reader
from raftd.storage.state_reader import read_marks, read_range
from raftd.storage.state_rows import IdRange, base_ids, delta_ids
from raftd.storage.types import CheckpointMeta

__all__ = ["SnapshotReader"]

_Chunk = bytes


class SnapshotReader:
    """The chunks of one checkpoint, numbered from 0, oldest first.

    Raises:
        DamagedFiles: A record is missing or altered.
        DiskFailed: The disk refused.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # A close waits for the read that is under way.
        self._lock = threading.Lock()
        with translate_errors(path, "read"):
            self._db: sqlite3.Connection | None = connect_reader(path)
            try:
                self._begin(self._db)
            except BaseException:
                self._db.close()
                raise

    def _begin(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN")
        base, mark = read_marks(db, self._path)
        assert mark.meta is not None, "there is no checkpoint yet"
        self._meta = mark.meta
        self._parts = (base_ids(base), delta_ids(base, mark))
        self._bytes = 0
        for ids in self._parts:
            sql = "SELECT total(length(data)) FROM chunks WHERE id BETWEEN ? AND ?"
            self._bytes += int(db.execute(sql, ids).fetchone()[0])

    @property
    def is_open(self) -> bool:
        """Tell whether it holds on to the write-ahead log."""
        return self._db is not None

    @property
    def meta(self) -> CheckpointMeta:
        """What belongs to the rows."""
        return self._meta

    @property
    def count(self) -> int:
        """How many chunks there are."""
        return sum(ids.last - ids.first + 1 for ids in self._parts)

    @property
    def bytes(self) -> int:
        """Size of all chunks together."""
        return self._bytes

    def read(self, first: int, bytes_max: int) -> list[_Chunk]:
        """Read chunks from number `first` on.

        Args:
            first: At most `count`.
            bytes_max: The first chunk comes whatever its size.

        Returns:
            As many as fit, verified; none at the end.

        Raises:
            DamagedFiles: A chunk is missing or altered.
            StorageError: The reader was closed, or the disk refused.
        """
        assert 0 <= first <= self.count, "no such chunk"
        chunks: list[_Chunk] = []
        size_bytes = 0
        with self._lock, translate_errors(self._path, "read"):
            if self._db is None:
                raise StorageError(f"The snapshot of {self._path} was closed.")
            for ids in self._slices(first):
                for chunk in read_range(self._db, self._path, ids):
                    size_bytes += len(chunk)
                    if chunks and size_bytes > bytes_max:
                        return chunks
                    chunks.append(chunk)
        return chunks

    def close(self) -> None:
        """Let later writes reuse the room. May be called twice, from any thread."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _slices(self, first: int) -> list[IdRange]:
        """Name the ids of chunk `first` and all behind it."""
        left: list[IdRange] = []
        skipped = first
        for ids in self._parts:
            length = ids.last - ids.first + 1
            left.append(IdRange(min(ids.first + skipped, ids.last + 1), ids.last))
            skipped = max(0, skipped - length)
        return left
