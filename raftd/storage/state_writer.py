"""The writing side of state.db: one connection, one transaction at a time.

Rules: an error inside a transaction undoes it. A disk without room is no more than
that: SQLite had not written the commit, so the file is what it was, and the same may be
tried again. Every other error is final and each later call raises it again. A commit
that was begun is seen through even if its caller gives up, so that what memory says of
the file stays true. The write-ahead log is folded into the file by calls of our own,
because SQLite passes over an error when it does so by itself.

Source: RELIABILITY.md section 0 finding 1, rules 25, 49 and 51.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiosqlite

from raftd.storage.errors import DiskFull, StorageError, translate_errors
from raftd.storage.files import sync_bytes, wal_path
from raftd.storage.state_rows import chunk_row

__all__ = ["StateWriter"]

#: After so much the write-ahead log is folded.
_FOLD_BYTES = 4 * 1024 * 1024
#: And after so much it is synced in the midst of a transaction.
_SYNC_BYTES = 2 * 1024 * 1024
#: What a small statement adds: a leaf page, its parent, and their headers.
_STATEMENT_WAL_BYTES = 2 * (4096 + 24)
_CHUNK_MARKS = "(?,?,?)"

Rows = list[tuple[Any, ...]]


class StateWriter:
    """Runs statements; calls must not overlap."""

    def __init__(self, path: Path, db: aiosqlite.Connection) -> None:
        self._path = path
        self._db = db
        self._failure: StorageError | None = None
        self._unfolded_bytes = 0
        self._unsynced_bytes = 0

    async def run(self, sql: str, parameters: Iterable[object] = ()) -> Rows:
        """Run one statement.

        Raises:
            DiskFull: It has no effect; the writer goes on.
            StorageError: Any other error, now and from now on.
        """
        if self._failure is not None:
            raise self._failure
        self._unfolded_bytes += _STATEMENT_WAL_BYTES
        try:
            with translate_errors(self._path, "write"):
                rows = await self._db.execute_fetchall(sql, parameters)
        except DiskFull:
            raise
        except StorageError as error:
            self._failure = error
            raise
        return [tuple(row) for row in rows]

    async def insert(self, first_id: int, chunks: Sequence[bytes]) -> None:
        """Add chunks under rising ids, in one statement."""
        if not chunks:
            return
        rows = (chunk_row(first_id + at, data) for at, data in enumerate(chunks))
        marks = ",".join([_CHUNK_MARKS] * len(chunks))
        parameters = [value for row in rows for value in row]
        await self.run(f"INSERT INTO chunks VALUES {marks}", parameters)  # noqa: S608  # question marks only
        size_bytes = sum(map(len, chunks))
        self._unfolded_bytes += size_bytes
        self._unsynced_bytes += size_bytes
        if self._unsynced_bytes >= _SYNC_BYTES:
            await self._sync_some()

    async def _sync_some(self) -> None:
        """Send to the disk what SQLite has written: the commit then has little left.

        Otherwise one long sync would hold up those of the log beside it.
        """
        self._unsynced_bytes = 0
        try:
            await asyncio.to_thread(sync_bytes, wal_path(self._path))
        except StorageError as error:
            self._failure = error
            raise

    @asynccontextmanager
    async def transaction(self, adopt: Callable[[], None]) -> AsyncIterator[None]:
        """Make what is done inside durable together, or not at all.

        Args:
            adopt: Called when it is durable, even if the caller is gone by then.
        """
        await self._begin()
        try:
            yield
        except BaseException:
            await self._undo()
            raise
        commit = asyncio.create_task(self._commit(adopt))
        try:
            await asyncio.shield(commit)
        except asyncio.CancelledError:
            await _see_through(commit)
            raise
        await self._fold_some()

    async def fold_all(self) -> None:
        """Empty the write-ahead log into the file, unless something is in the way."""
        with suppress(DiskFull):
            await self.run("PRAGMA wal_checkpoint(TRUNCATE)")

    async def close(self) -> None:
        """Let the connection and its thread go."""
        with translate_errors(self._path, "close"):
            await self._db.close()

    async def _begin(self) -> None:
        begin = asyncio.create_task(self.run("BEGIN IMMEDIATE"))
        try:
            await asyncio.shield(begin)
        except asyncio.CancelledError:
            await _see_through(begin)
            await self._undo()
            raise

    async def _undo(self) -> None:
        # Queued behind whatever statement still runs, so it comes last.
        undo = asyncio.create_task(self._roll_back())
        try:
            await asyncio.shield(undo)
        except asyncio.CancelledError:
            await _see_through(undo)
            raise

    async def _roll_back(self) -> None:
        """Undo what SQLite has not undone by itself on an error."""
        await self._settle()
        if self._failure is None and self._db.in_transaction:
            await self.run("ROLLBACK")

    async def _settle(self) -> None:
        """Wait for a statement whose caller was cancelled."""
        if self._failure is None:
            await self.run("SELECT 1")

    async def _commit(self, adopt: Callable[[], None]) -> None:
        try:
            await self.run("COMMIT")
        except DiskFull:
            await self._roll_back()
            raise
        adopt()

    async def _fold_some(self) -> None:
        """Move what is in the write-ahead log into the file, as far as readers let."""
        if self._unfolded_bytes < _FOLD_BYTES:
            return
        self._unfolded_bytes = 0
        try:
            await self.run("PRAGMA wal_checkpoint(PASSIVE)")
        except DiskFull:
            # What was committed is safe where it is.
            self._unfolded_bytes = _FOLD_BYTES


async def _see_through(task: "asyncio.Task[Any]") -> None:
    """Wait for the end of a task, however often this is cancelled."""
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            continue
    # Looked at, so that nobody is told that it was not.
    task.exception()
