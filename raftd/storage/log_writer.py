"""Runs log.db's statements: each is one hop, one transaction and one sync.

Rules: the first error is final and every later call raises it again, except that a disk
without room is no more than that. SQLite says so while it writes the frames of a
transaction and before the one that commits it is whole, so nothing of it will ever be
seen, neither now nor by a recovery; the next write goes over those frames. The
write-ahead log is folded into the file by its own turn of the connection's thread,
after a write has been answered and not before, and its errors count like a write's.

Source: RELIABILITY.md section 0 finding 1, rules 49 and 51; DESIGN.md section 6.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiosqlite

from raftd.storage.errors import DiskFull, StorageError, translate_errors
from raftd.storage.files import IDENTITY, META_UPSERT, encode_meta, fold_wal
from raftd.storage.identity import Identity
from raftd.storage.log_rows import (
    CHANGE_COLUMNS,
    CHANGE_SQL,
    Change,
    LogRow,
    entry_change,
)

__all__ = ["STATEMENT_ROWS_MAX", "LogWriter"]

#: SQLite takes 32766 parameters: nine a row, with some to spare.
STATEMENT_ROWS_MAX = 3000
#: After so much the write-ahead log is folded. Checking it after a crash takes half a
#: second per 16 MiB.
_WAL_BYTES_MAX = 16 * 1024 * 1024
#: A fold that found no room is tried again after so much more.
_FOLD_AGAIN_BYTES = 1024 * 1024
#: What a small statement adds: a leaf page, its parent, and their headers.
_STATEMENT_WAL_BYTES = 2 * (4096 + 24)

_ENTRY_SQL = "INSERT INTO entries VALUES "
_ENTRY_MARKS = "(?,?,?,?,?,?,?)"
_CHANGES_SQL = "INSERT INTO changes VALUES "
_CHANGE_MARKS = f"({','.join('?' * CHANGE_COLUMNS)})"


class LogWriter:
    """The writing side of one log.db. Calls must not overlap."""

    def __init__(self, path: Path, db: aiosqlite.Connection) -> None:
        self._path = path
        self._db = db
        self._failure: StorageError | None = None
        self._wal_bytes = 0
        self._folding: asyncio.Task[None] | None = None

    @property
    def has_failed(self) -> bool:
        """Tell whether every further call will raise."""
        return self._failure is not None

    def check(self) -> None:
        """Raise what went wrong for good, if anything did."""
        if self._failure is not None:
            raise self._failure

    async def prepare(self) -> None:
        """Set the connection up; once, before anything else."""
        with translate_errors(self._path, "open"):
            await self._db.execute_fetchall("PRAGMA wal_autocheckpoint=0")
            for statement in CHANGE_SQL:
                await self._db.execute_fetchall(statement)

    async def store(self, changes: Sequence[Change], rows: Sequence[LogRow]) -> None:
        """Make changes and then rows durable, together.

        Raises:
            DiskFull: Nothing of it is there; may be tried again.
            DiskFailed: It may or may not be there after a restart.
        """
        if len(rows) <= STATEMENT_ROWS_MAX:
            await self._store_part(changes, rows)
        else:
            await self._store_parts(changes, rows)
        self._wal_bytes += _STATEMENT_WAL_BYTES + sum(len(row.payload) for row in rows)
        if self._wal_bytes > _WAL_BYTES_MAX and self._folding is None:
            self._wal_bytes = 0
            self._folding = asyncio.create_task(self._fold(), name="fold log.db-wal")

    async def store_meta(self, name: str, value: object) -> None:
        """Make one meta row durable.

        Raises:
            DiskFull: It is not there; may be tried again.
            DiskFailed: It may or may not be there after a restart.
        """
        await self._execute(META_UPSERT, encode_meta(name, value))

    async def store_identity(self, identity: Identity) -> None:
        """Make durable whom the file belongs to, and in which format it is.

        Raises:
            DiskFull: It is not there; may be tried again.
            DiskFailed: It may or may not be there after a restart.
        """
        async with self._transaction():
            version = int(identity.format_version)
            await self._execute(f"PRAGMA user_version={version}", ())
            await self._execute(META_UPSERT, encode_meta(IDENTITY, identity))
        await self._finish_folding()
        with suppress(DiskFull):
            await self._execute("PRAGMA wal_checkpoint(TRUNCATE)", ())

    async def fold_all(self) -> None:
        """Move everything into the one file and sync it.

        Raises:
            DiskFailed: It did not get there.
        """
        await self._finish_folding()
        await fold_wal(self._db, self._path)
        self._wal_bytes = 0

    async def close(self) -> None:
        """Let the connection and its thread go."""
        await self._finish_folding()
        with translate_errors(self._path, "close"):
            await self._db.close()

    async def _store_parts(
        self, changes: Sequence[Change], rows: Sequence[LogRow]
    ) -> None:
        async with self._transaction():
            for start in range(0, len(rows), STATEMENT_ROWS_MAX):
                part = rows[start : start + STATEMENT_ROWS_MAX]
                await self._store_part(changes if start == 0 else (), part)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[None]:
        await self._execute("BEGIN IMMEDIATE", ())
        try:
            yield
            await self._execute("COMMIT", ())
        except DiskFull:
            # SQLite may have done so by itself.
            if self._db.in_transaction:
                await self._execute("ROLLBACK", ())
            raise

    async def _store_part(
        self, changes: Sequence[Change], rows: Sequence[LogRow]
    ) -> None:
        if changes:
            inserts = [*changes, *map(entry_change, rows)]
            await self._insert(_CHANGES_SQL, _CHANGE_MARKS, inserts)
        elif rows:
            await self._insert(_ENTRY_SQL, _ENTRY_MARKS, rows)

    async def _insert(
        self, sql: str, marks: str, rows: Sequence[Sequence[object]]
    ) -> None:
        parameters = [value for row in rows for value in row]
        await self._execute(sql + ",".join([marks] * len(rows)), parameters)

    async def _execute(self, sql: str, parameters: Sequence[object]) -> None:
        self.check()
        try:
            with translate_errors(self._path, "write"):
                await self._db.execute_fetchall(sql, parameters)
        except DiskFull:
            raise
        except StorageError as error:
            self._failure = error
            raise
        except asyncio.CancelledError:
            # It may still be done, and nobody would learn that it failed.
            self._failure = StorageError(f"A write to {self._path} was given up.")
            raise

    async def _fold(self) -> None:
        try:
            with translate_errors(self._path, "sync"):
                await self._db.execute_fetchall("PRAGMA wal_checkpoint(PASSIVE)")
        except DiskFull:
            # What was written is safe where it is.
            self._wal_bytes = _WAL_BYTES_MAX - _FOLD_AGAIN_BYTES
        except StorageError as error:
            self._failure = error
        finally:
            self._folding = None

    async def _finish_folding(self) -> None:
        if self._folding is not None:
            await self._folding
