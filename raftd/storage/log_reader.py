"""Reads entries back from log.db beside the writer, each verified by its checksum.

Rules: synchronous, through a connection of its own that cannot write, for short reads
on behalf of followers that are behind what memory holds. It sees what is durable.

Source: RELIABILITY.md rules 31 and 50.
"""

import sqlite3
from pathlib import Path

from raftd.consensus.types import Entry, Index, Term
from raftd.storage.errors import DamagedFiles, translate_errors
from raftd.storage.files import connect_reader
from raftd.storage.log_rows import (
    CutPoint,
    LogRow,
    checksum_row,
    to_entry,
)

__all__ = ["LogReader"]

# The columns come in the order of LogRow: the schema was compared as text.
_RANGE_SQL = "SELECT * FROM entries WHERE idx >= ? AND idx < ? ORDER BY idx"


class LogReader:
    """The reading side of one log.db."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None

    def connect(self) -> None:
        """Open the file and its write-ahead log: later the names may lead elsewhere.

        Raises:
            DiskFailed: The disk refused.
        """
        with translate_errors(self._path, "open"):
            self._db = connect_reader(self._path)
            self._db.execute("SELECT idx FROM entries LIMIT 1").fetchall()

    def read(
        self, cut: CutPoint, low: Index, high: Index, bytes_max: int
    ) -> tuple[Entry, ...]:
        """Read [low, high) as far as it fits `bytes_max`, the first one always.

        Raises:
            DamagedFiles: An entry is not what was written, or there is a gap.
            DiskFailed: The disk refused.
        """
        entries: list[Entry] = []
        size_bytes = 0
        with translate_errors(self._path, "read"):
            # One row more in front: its checksum is where the chain starts.
            cursor = self._connection.execute(_RANGE_SQL, (low - 1, high))
            try:
                crc = cut.crc if low - 1 == cut.index else None
                for row in map(LogRow._make, cursor):
                    if row.idx < low:
                        crc = row.crc
                        continue
                    crc = self._verify(row, low + len(entries), crc)
                    size_bytes += len(row.payload)
                    if entries and size_bytes > bytes_max:
                        break
                    entries.append(to_entry(row))
            finally:
                cursor.close()
        return tuple(entries)

    def read_mark(self, cut: CutPoint, index: Index) -> tuple[Term, int]:
        """Read the term of an entry that is there, and its checksum.

        Raises:
            DamagedFiles: The entry is not what was written.
            DiskFailed: The disk refused.
        """
        if index == cut.index:
            return cut.term, cut.crc
        with translate_errors(self._path, "read"):
            rows = self._connection.execute(
                _RANGE_SQL, (index - 1, index + 1)
            ).fetchall()
        previous_crc = cut.crc if index - 1 == cut.index else None
        for row in map(LogRow._make, rows):
            if row.idx == index:
                return Term(row.term), self._verify(row, index, previous_crc)
            previous_crc = row.crc
        raise DamagedFiles(f"{self._path} is damaged: entry {index} is missing.")

    def close(self) -> None:
        """Let the connection go. May be called twice."""
        if self._db is not None:
            self._db.close()
            self._db = None

    @property
    def _connection(self) -> sqlite3.Connection:
        assert self._db is not None, "it was connected"
        return self._db

    def _verify(self, row: LogRow, index: int, previous_crc: int | None) -> int:
        if (
            row.idx != index
            or not isinstance(previous_crc, int)
            or not row.is_well_typed
            or row.crc != checksum_row(previous_crc, row)
        ):
            raise DamagedFiles(f"{self._path} is damaged: entry {index} was altered.")
        return row.crc
