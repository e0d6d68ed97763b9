"""state.db: the state machine's rows as of a checkpoint.

Rules: a checkpoint's rows and what they belong to (applied index, digest, membership)
become visible together or not at all. Checkpoints add chunks; rows written later win
over earlier ones. A checkpoint that carries an install mark is not a change but the
whole state, and replaces what was there. Encoding happens in the caller's iterator,
and the loop runs between any two chunks.

Source: DESIGN.md section 6 (state.db); RELIABILITY.md rules 25, 28-30, 32.
"""

import asyncio
import sys
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiosqlite

from raftd.storage.chunks import Row
from raftd.storage.errors import DamagedFiles, StorageError, translate_errors
from raftd.storage.files import (
    IDENTITY,
    META_UPSERT,
    connect_writer,
    decode_meta,
    encode_meta,
    fold_wal,
    read_meta,
    reading_at_rest,
    rewrite_bytes,
    wal_path,
)
from raftd.storage.identity import Identity
from raftd.storage.merge import EXIT_DAMAGED, EXIT_OVERTAKEN
from raftd.storage.state_reader import read_chunks, read_marks, unpack_chunk
from raftd.storage.state_rows import (
    BASE,
    CHECKPOINT,
    CHUNK_INSERT,
    MERGE,
    SWEEP_SQL,
    BaseMark,
    CheckpointMark,
    base_ids,
    checksum_chunk,
    delta_ids,
)
from raftd.storage.types import CheckpointMeta, Sizes

__all__ = ["StateStore", "read_checkpoint"]


def read_checkpoint(path: Path) -> CheckpointMeta | None:
    """Read what the newest checkpoint of a closed state.db says, changing nothing.

    Raises:
        DamagedFiles: A record is missing or altered.
        DiskFailed: The disk refused.
    """
    with reading_at_rest(path) as db:
        _, mark = read_marks(db, path)
        return mark.meta


class StateStore:
    """The state of one node on disk. Comes from `open`, through `open_stores`."""

    def __init__(
        self,
        path: Path,
        db: aiosqlite.Connection,
        identity: Identity,
        mark: CheckpointMark,
    ) -> None:
        self._path = path
        self._db = db
        self._identity = identity
        self._mark = mark
        # One transaction at a time on the one connection.
        self._lock = asyncio.Lock()
        self._failure: StorageError | None = None
        self._is_closed = False

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Make what is there durable again and remove what a merge left.

        Args:
            path: Of state.db, found sound by `check_file`.

        Raises:
            DamagedFiles: A record is missing or altered.
            DiskFailed: The disk refused.
        """
        identity, mark = await asyncio.to_thread(_read_own, path)
        await asyncio.to_thread(rewrite_bytes, wal_path(path))
        store = cls(path, await connect_writer(path), identity, mark)
        try:
            await store._sweep()
            await fold_wal(store._db, path)
        except BaseException:
            await store._db.close()
            raise
        return store

    @property
    def identity(self) -> Identity:
        """Whom the state belongs to."""
        return self._identity

    @property
    def meta(self) -> CheckpointMeta | None:
        """What the newest checkpoint says; None before the first."""
        return self._mark.meta

    def load(self) -> Iterator[Row]:
        """Give all rows, oldest first: of equal (table, key) the last one counts.

        Raises:
            DamagedFiles: A chunk is missing or altered.
            DiskFailed: The disk refused.
        """
        for chunk in self.load_chunks():
            yield from unpack_chunk(self._path, chunk)

    def load_chunks(self) -> Iterator[bytes]:
        """Give all chunks, oldest first, as of one moment, as a follower gets them.

        Raises:
            DamagedFiles: A chunk is missing or altered.
            DiskFailed: The disk refused.
        """
        return read_chunks(self._path)

    async def checkpoint(
        self, meta: CheckpointMeta, chunks: AsyncIterable[bytes] | Iterable[bytes]
    ) -> None:
        """Store changed rows, or with `meta.install` all rows, and what they belong to.

        If `chunks` raises or the call is cancelled, the state is what it was.

        Args:
            meta: Its applied index must be durable in the log, installs aside.
            chunks: From `pack`; encoded one by one, with turns of the loop between.

        Raises:
            DiskFailed: It may or may not be there after a restart: end the process.
        """
        async with self._lock, self._transaction():
            base = await self._read_base()
            last_delta = self._mark.last_delta
            if meta.install is None:
                count = await self._insert(last_delta + 1, chunks)
                mark = CheckpointMark(meta, last_delta + count)
            else:
                base = BaseMark(base.generation + 1, 0, last_delta)
                first = base_ids(base).first
                # An unfinished merge may have begun the same generation.
                await self._run("DELETE FROM chunks WHERE id >= ?", (first,))
                count = await self._insert(first, chunks)
                base = BaseMark(base.generation, count, last_delta)
                mark = CheckpointMark(meta, last_delta)
                await self._run(META_UPSERT, encode_meta(BASE, base))
                await self._run("DELETE FROM meta WHERE name = ?", (MERGE,))
            await self._run(META_UPSERT, encode_meta(CHECKPOINT, mark))
        self._mark = mark
        if meta.install is not None:
            await self._sweep()

    async def sizes(self) -> Sizes:
        """Count the bytes that are alive.

        Raises:
            DiskFailed: The disk refused.
        """
        async with self._lock:
            base = await self._read_base()
            measured = []
            for ids in (base_ids(base), delta_ids(base, self._mark)):
                (row,) = await self._run(
                    "SELECT total(length(data)) FROM chunks WHERE id BETWEEN ? AND ?",
                    ids,
                )
                measured.append(int(row[0]))
        return Sizes(*measured)

    async def merge(self) -> bool:
        """Merge base and deltas into a new base, in a process of its own.

        Checkpoints and loads go on meanwhile.

        Returns:
            False if an install replaced the state before the merge was done.

        Raises:
            DamagedFiles: A chunk is missing or altered.
            StorageError: The merge failed; the state is what it was.
        """
        # Its input is a pipe from here: when this process ends, so does the merge.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "raftd.storage.merge", "--until-eof"),
            str(self._path),
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None, "a pipe was asked for"
        try:
            message = (await process.stderr.read()).decode(errors="replace").strip()
            code = await process.wait()
        except BaseException:
            process.kill()
            await process.wait()
            raise
        match code:
            case 0:
                return True
            case _ if code == EXIT_OVERTAKEN:
                return False
            case _ if code == EXIT_DAMAGED:
                raise DamagedFiles(message)
            case _:
                raise StorageError(
                    f"The merge of {self._path} failed with exit code {code}: {message}"
                )

    async def write_identity(self, identity: Identity) -> None:
        """Store whom the state belongs to; log.db follows.

        Raises:
            DiskFailed: The disk refused: end the process.
        """
        async with self._lock:
            await self._run(META_UPSERT, encode_meta(IDENTITY, identity))
            self._identity = identity

    async def close(self) -> None:
        """Let the file go, folded into one. May be called twice.

        Raises:
            DiskFailed: It could not be synced; the next start recovers it.
        """
        async with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            with translate_errors(self._path, "close"):
                await self._db.close()

    async def _insert(
        self, first: int, chunks: AsyncIterable[bytes] | Iterable[bytes]
    ) -> int:
        count = 0
        async for data in _iterate(chunks):
            chunk_id = first + count
            row = (chunk_id, checksum_chunk(chunk_id, data), data)
            await self._run(CHUNK_INSERT, row)
            count += 1
        return count

    async def _read_base(self) -> BaseMark:
        """Read it each time: a merge may have swapped it."""
        rows = await self._run(
            "SELECT name, value, crc FROM meta WHERE name = ?", (BASE,)
        )
        meta = {name: value for name, value, _ in rows}
        return decode_meta(self._path, meta, BASE, BaseMark)

    async def _sweep(self) -> None:
        """Remove chunks that are not alive; an unfinished merge ends by this."""
        async with self._lock:
            await self._run("DELETE FROM meta WHERE name = ?", (MERGE,))
            base = await self._read_base()
            alive = (*base_ids(base), *delta_ids(base, self._mark))
            while await self._run(SWEEP_SQL, alive):
                pass

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[None]:
        try:
            await self._run("BEGIN IMMEDIATE", ())
            yield
        except BaseException:
            if self._failure is None:
                # Queued behind whatever statement still runs, so it comes last.
                await asyncio.shield(self._run("ROLLBACK", ()))
            raise
        try:
            await self._run("COMMIT", ())
        except asyncio.CancelledError:
            # It may still be done, and nobody would learn what the state is.
            self._failure = StorageError(f"A write to {self._path} was given up.")
            raise

    async def _run(
        self, sql: str, parameters: Iterable[object]
    ) -> list[tuple[Any, ...]]:
        if self._failure is not None:
            raise self._failure
        try:
            with translate_errors(self._path, "write"):
                rows = await self._db.execute_fetchall(sql, parameters)
        except StorageError as error:
            self._failure = error
            raise
        return [tuple(row) for row in rows]


def _read_own(path: Path) -> tuple[Identity, CheckpointMark]:
    with reading_at_rest(path) as db:
        _, mark = read_marks(db, path)
        return decode_meta(path, read_meta(db, path), IDENTITY, Identity), mark


async def _iterate(
    chunks: AsyncIterable[bytes] | Iterable[bytes],
) -> AsyncIterator[bytes]:
    if isinstance(chunks, AsyncIterable):
        async for chunk in chunks:
            yield chunk
    else:
        for chunk in chunks:
            yield chunk
