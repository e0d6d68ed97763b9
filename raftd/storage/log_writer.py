"""Runs log.db's statements: each is one transaction and one sync, and mostly one hop.

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

from raftd.consensus.types import Entry
from raftd.storage.errors import DiskFull, StorageError, translate_errors
from raftd.storage.files import (
    IDENTITY,
    META_UPSERT,
    encode_meta,
    extend_bytes,
    fold_wal,
    wal_path,
)
from raftd.storage.identity import Identity
from raftd.storage.log_here import LogHere
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
_HERE_ROWS_MAX = 64
#: What is longer takes the hop: syncing it takes longer, and the hop is shared by more.
_HERE_BYTES_MAX = 32 * 1024
#: What is really written until then, and until the fold is over, may be a little more.
_WAL_ROOM_BYTES = 20 * 1024 * 1024
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
        self._here = LogHere(path)
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
        self._here.connect()

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
        self._note_stored(rows)

    def may_store_here(self, entries: Sequence[Entry]) -> bool:
        """Tell whether `store_here` is the better way for so much, now."""
        return (
            self._here.pace.may_wait
            and self._folding is None
            and self._failure is None
            and len(entries) <= _HERE_ROWS_MAX
            and sum(len(entry.payload) for entry in entries) <= _HERE_BYTES_MAX
        )

    def store_here(self, rows: Sequence[LogRow]) -> bool:
        """Make rows durable on this thread; nothing else may be under way.

        Returns:
            Whether they are; else nothing of it is there, for lack of room.

        Raises:
            DiskFailed: They may or may not be there after a restart.
        """
        try:
            self._here.execute(*_insertion(_ENTRY_SQL, _ENTRY_MARKS, rows))
        except DiskFull:
            return False
        except StorageError as error:
            self._failure = error
            raise
        self._note_stored(rows)
        return True

    def _note_stored(self, rows: Sequence[LogRow]) -> None:
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

    async def make_room(self) -> None:
        """Lengthen the write-ahead log to what it grows to until it is folded.

        A sync of a file that grows waits for the disk again, for its length: it takes
        two to three times as long. SQLite takes zeros behind its last frame for the
        end, and after a fold begins at the front again. Nothing else may be under way,
        and something must have been written since the last complete fold.

        Raises:
            DiskFull: It is as long as it was.
            DiskFailed: The disk refused.
        """
        self.check()
        await asyncio.to_thread(extend_bytes, wal_path(self._path), _WAL_ROOM_BYTES)

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
        try:
            self._here.close()
        finally:
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
            await self._execute(*_insertion(_CHANGES_SQL, _CHANGE_MARKS, inserts))
        elif rows:
            await self._execute(*_insertion(_ENTRY_SQL, _ENTRY_MARKS, rows))

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


def _insertion(
    sql: str, marks: str, rows: Sequence[Sequence[object]]
) -> tuple[str, list[object]]:
    """Make one statement of many rows, and its parameters."""
    parameters = [value for row in rows for value in row]
    return sql + ",".join([marks] * len(rows)), parameters
