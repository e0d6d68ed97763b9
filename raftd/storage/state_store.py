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
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self
from weakref import WeakSet

from msgspec.structs import replace

from raftd.storage.chunks import Row
from raftd.storage.errors import DamagedFiles, DiskFull, StorageError
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
from raftd.storage.snapshot_reader import SnapshotReader
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
    DROP_SQL,
    MERGE,
    NO_IDS,
    STAGING,
    SWEEP_SQL,
    BaseMark,
    CheckpointMark,
    IdRange,
    StagingMark,
    base_ids,
    delta_ids,
    generation_ids,
    staging_generation,
)
from raftd.storage.state_writer import StateWriter
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
        writer: StateWriter,
        identity: Identity,
        mark: CheckpointMark,
        staged: StagingMark | None,
    ) -> None:
        self._path = path
        self._writer = writer
        self._identity = identity
        self._mark = mark
        self._staged = staged
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
            old = self._staged
            if old is None or old.offer_id != offer_id:
                generation = staging_generation(await self._read_base(), old)
                staged = StagingMark(offer_id, generation)
            else:
                staged = old
            assert 0 <= first <= staged.chunk_count, "a gap between chunks"
            fresh = chunks[staged.chunk_count - first :]
            at = base_ids(staged).last + 1
            new = replace(staged, chunk_count=staged.chunk_count + len(fresh))
            async with self._writer.transaction(lambda: self._set_staged(new)):
                if staged is not old:
                    # A generation that could not be dropped for want of room.
                    await self._writer.run(
                        "DELETE FROM chunks WHERE id BETWEEN ? AND ?",
                        generation_ids(staged.generation),
                    )
                await self._writer.insert(at, fresh)
                await self._set(STAGING, new)
            if old is not None and old.offer_id != offer_id:
                await self._drop(generation_ids(old.generation))

    async def staged(self, offer_id: bytes) -> int:
        """Count the chunks of a snapshot that are here: 0 if another one's are."""
        async with self._lock:
            staged = self._staged
        return staged.chunk_count if staged and staged.offer_id == offer_id else 0

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
        process does not come to it.

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
            staged = self._staged
            assert staged is not None, "nothing is staged"
            assert (staged.offer_id, staged.chunk_count) == (offer_id, count), (
                "not everything is staged"
            )
            mark = CheckpointMark(meta, self._mark.last_delta)
            base = BaseMark(staged.generation, count, mark.last_delta)

            def adopt() -> None:
                self._mark, self._staged = mark, None

            async with self._writer.transaction(adopt):
                await self._set(BASE, base)
                await self._set(CHECKPOINT, mark)
                await self._unset(STAGING)
                await self._unset(MERGE)
            await self._clean_up()

    async def drop_staged(self) -> None:
        """Forget the snapshot on its way in, if any.

        Raises:
            DiskFull: It may be tried again.
            DiskFailed: End the process.
        """
        async with self._lock:
            staged = self._staged
            if staged is None:
                return
            async with self._writer.transaction(lambda: self._set_staged(None)):
                await self._unset(STAGING)
            await self._drop(generation_ids(staged.generation))

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
            await self._set(IDENTITY, identity)
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
        await self._unset(MERGE)
        base = await self._read_base()
        staged = base_ids(self._staged) if self._staged else NO_IDS
        needed = (*base_ids(base), *delta_ids(base, self._mark), *staged)
        while await self._writer.run(SWEEP_SQL, needed):
            pass

    async def _clean_up(self) -> None:
        """Sweep behind what is done already: want of room makes it wait."""
        with suppress(DiskFull):
            await self._sweep()

    async def _drop(self, ids: IdRange) -> None:
        """Remove chunks of a snapshot that nobody wants, beside a merge."""
        with suppress(DiskFull):
            while await self._writer.run(DROP_SQL, ids):
                pass

    def _set_staged(self, staged: StagingMark | None) -> None:
        self._staged = staged

    async def _set(self, name: str, value: object) -> None:
        await self._writer.run(META_UPSERT, encode_meta(name, value))

    async def _unset(self, name: str) -> None:
        await self._writer.run("DELETE FROM meta WHERE name = ?", (name,))


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
