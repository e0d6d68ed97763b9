"""state.db: the state machine's rows as of a checkpoint.

Rules: a checkpoint's rows and what they belong to (applied index, digest, membership)
become visible together or not at all. Checkpoints add chunks; rows written later win
over earlier ones. A checkpoint that carries an install mark is not a change but the
whole state, and replaces what was there. Encoding happens in the caller's iterator,
and the loop runs between any two chunks.

Source: DESIGN.md section 6 (state.db); RELIABILITY.md rules 25, 28-30, 32.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self
from weakref import WeakSet

from raftd.storage.chunks import Row
from raftd.storage.errors import DiskFull
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
from raftd.storage.merge_process import run_merge
from raftd.storage.snapshot_reader import SnapshotReader
from raftd.storage.staging import Staging
from raftd.storage.state_reader import (
    read_chunks,
    read_marks,
    read_staged,
    read_staging,
    unpack_chunk,
)
from raftd.storage.state_rows import (
    BASE,
    CHECKPOINT,
    MERGE,
    META_DELETE,
    SWEEP_SQL,
    BaseMark,
    CheckpointMark,
    StagingMark,
    base_ids,
    delta_ids,
)
from raftd.storage.state_writer import StateWriter
from raftd.storage.types import CheckpointMeta, Sizes

__all__ = ["StateStore"]


class StateStore:
    """The state of one node on disk. Comes from `open`, through `open_stores`."""

    def __init__(
        self,
        path: Path,
        writer: StateWriter,
        identity: Identity,
        mark: CheckpointMark,
        staged: StagingMark | None,
    ) -> None:
        self._path = path
        self._writer = writer
        self._identity = identity
        self._mark = mark
        self._staging = Staging(writer, staged)
        # One transaction at a time on the one connection.
        self._lock = asyncio.Lock()
        self._readers: WeakSet[SnapshotReader] = WeakSet()
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
        found = await asyncio.to_thread(_read_own, path)
        await asyncio.to_thread(rewrite_bytes, wal_path(path))
        db = await connect_writer(path)
        store = cls(path, StateWriter(path, db), *found)
        try:
            await store._sweep()
            await fold_wal(db, path)
            # From here on the writer does so itself, and looks at what comes of it.
            await db.execute_fetchall("PRAGMA wal_autocheckpoint=0")
        except BaseException:
            await db.close()
            raise
        return store

    @property
    def files(self) -> tuple[Path, Path]:
        """Name the two files that hold it while it is open."""
        return self._path, wal_path(self._path)

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
        """Store changed rows and what they belong to.

        If `chunks` raises or the call is cancelled, the state is what it was.

        Args:
            meta: Its applied index must be durable in the log; 0 before any entry.
            chunks: From `pack`; encoded one by one, with turns of the loop between.

        Raises:
            DiskFull: The state is what it was; may be tried again.
            DiskFailed: It may or may not be there after a restart: end the process.
        """
        assert meta.install is None, "a snapshot is staged and installed"
        async with self._lock:
            new = self._mark

            def adopt() -> None:
                self._mark = new

            async with self._writer.transaction(adopt):
                last_delta = self._mark.last_delta
                async for data in _iterate(chunks):
                    last_delta += 1
                    await self._writer.insert(last_delta, [data])
                new = CheckpointMark(meta, last_delta)
                await self._set(CHECKPOINT, new)
            if not meta.applied_index:
                await self._fold()

    async def stage(self, offer_id: bytes, first: int, chunks: Sequence[bytes]) -> None:
        """Store some chunks of a snapshot durably, where nobody sees them.

        Args:
            offer_id: Of the snapshot; another one's chunks are dropped.
            first: Number of the first chunk, no more than are staged already. Those
                that are there already are passed over.
            chunks: As the leader sent them.

        Raises:
            DiskFull: What was staged before is still there; may be tried again.
            DiskFailed: End the process.
        """
        async with self._lock:
            base = await self._read_base()
            await self._staging.add(offer_id, first, chunks, base)

    async def staged(self, offer_id: bytes) -> int:
        """Count the chunks of a snapshot that are here: 0 if another one's are."""
        async with self._lock:
            return self._staging.count(offer_id)

    def load_staged(self, offer_id: bytes) -> Iterator[Row]:
        """Give the rows of the staged chunks, in order, as `load` does.

        Raises:
            DamagedFiles: A chunk is missing or altered.
            DiskFailed: The disk refused.
        """
        for chunk in read_staged(self._path, offer_id):
            yield from unpack_chunk(self._path, chunk)

    async def install(self, offer_id: bytes, count: int, meta: CheckpointMeta) -> None:
        """Make a staged snapshot the state, in place of all there was, at one blow.

        The log has to be reset with the same mark afterwards; a start does so if this
        process does not come to it. Called again with the same mark it changes nothing.

        Args:
            offer_id: All chunks of it are staged.
            count: How many those are.
            meta: With an install mark that was never used before.

        Raises:
            DiskFull: The state is what it was and the chunks stay staged; may be tried
                again.
            DiskFailed: It may or may not be there after a restart: end the process.
        """
        assert meta.install is not None, "nothing would tell the log"
        async with self._lock:
            if self._mark.meta == meta:
                return
            if not count:
                # Nothing came that could have begun the staging.
                await self._staging.add(offer_id, 0, [], await self._read_base())
            mark = CheckpointMark(meta, self._mark.last_delta)

            def adopt() -> None:
                self._mark = mark
                self._staging.taken()

            async with self._writer.transaction(adopt):
                staged = await self._staging.take(offer_id, count)
                base = BaseMark(staged.generation, count, mark.last_delta)
                await self._set(BASE, base)
                await self._set(CHECKPOINT, mark)
                # A merge would put the old state back.
                await self._writer.run(META_DELETE, (MERGE,))
            with suppress(DiskFull):
                await self._sweep()

    async def drop_staged(self) -> None:
        """Forget the snapshot on its way in, if any.

        Raises:
            DiskFull: It may be tried again.
            DiskFailed: End the process.
        """
        async with self._lock:
            await self._staging.drop()

    def open_snapshot(self) -> SnapshotReader:
        """Begin to read the newest checkpoint for a follower; blocks for a moment.

        Whoever gets the reader closes it; the store does so at the latest.

        Raises:
            DamagedFiles: A record is missing or altered.
            DiskFailed: The disk refused.
        """
        reader = SnapshotReader(self._path)
        self._readers.add(reader)
        return reader

    async def sizes(self) -> Sizes:
        """Count the bytes that are alive.

        Raises:
            DiskFailed: The disk refused.
        """
        async with self._lock:
            base = await self._read_base()
            measured = []
            for ids in (base_ids(base), delta_ids(base, self._mark)):
                (row,) = await self._writer.run(
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
            DiskFull: There is no room for a new base; may be tried again.
            StorageError: The merge failed; the state is what it was.
        """
        return await run_merge(self._path)

    async def write_identity(self, identity: Identity) -> None:
        """Store whom the state belongs to; log.db follows.

        Raises:
            DiskFull: It is not stored; may be tried again.
            DiskFailed: The disk refused: end the process.
        """

        def adopt() -> None:
            self._identity = identity

        async with self._lock:
            async with self._writer.transaction(adopt):
                version = int(identity.format_version)
                await self._writer.run(f"PRAGMA user_version={version}")
                await self._set(IDENTITY, identity)
            await self._fold()

    async def close(self) -> None:
        """Let the file go, folded into one. May be called twice.

        Raises:
            DiskFailed: It could not be synced; the next start recovers it.
        """
        async with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            for reader in list(self._readers):
                await asyncio.to_thread(reader.close)
            await self._writer.close()

    async def _read_base(self) -> BaseMark:
        """Read it each time: a merge may have swapped it."""
        rows = await self._writer.run(
            "SELECT name, value, crc FROM meta WHERE name = ?", (BASE,)
        )
        meta = {name: value for name, value, _ in rows}
        return decode_meta(self._path, meta, BASE, BaseMark)

    async def _sweep(self) -> None:
        """Remove chunks that nothing needs; an unfinished merge ends by this."""
        await self._writer.run(META_DELETE, (MERGE,))
        base = await self._read_base()
        needed = (*base_ids(base), *delta_ids(base, self._mark), *self._staging.ids)
        while await self._writer.run(SWEEP_SQL, needed):
            pass

    async def _fold(self) -> None:
        """Put what no log could bring back where a torn end cannot reach it."""
        if not any(reader.is_open for reader in self._readers):
            await self._writer.fold_all()

    async def _set(self, name: str, value: object) -> None:
        await self._writer.run(META_UPSERT, encode_meta(name, value))


def _read_own(path: Path) -> tuple[Identity, CheckpointMark, StagingMark | None]:
    with reading_at_rest(path) as db:
        _, mark = read_marks(db, path)
        identity = decode_meta(path, read_meta(db, path), IDENTITY, Identity)
        return identity, mark, read_staging(db, path)


async def _iterate(
    chunks: AsyncIterable[bytes] | Iterable[bytes],
) -> AsyncIterator[bytes]:
    if isinstance(chunks, AsyncIterable):
        async for chunk in chunks:
            yield chunk
    else:
        for chunk in chunks:
            yield chunk
