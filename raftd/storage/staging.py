"""A snapshot on its way into state.db: durable, resumable, and seen by nobody.

Its chunks lie in a generation of their own, where they already have the ids that they
keep as the base. So an install changes a few small rows, however large the state.

Rules: one snapshot at a time, and the meta row says which, and how much of it is there,
in the transaction that stores the chunks. Checkpoints, merges and sweeps leave it
alone; another offer drops it. Calls must not overlap.

Source: RELIABILITY.md rules 28-31.
"""

from collections.abc import Sequence
from contextlib import suppress

from msgspec.structs import replace

from raftd.storage.errors import DiskFull
from raftd.storage.files import META_UPSERT, encode_meta
from raftd.storage.state_rows import (
    DROP_SQL,
    META_DELETE,
    NO_IDS,
    STAGING,
    BaseMark,
    IdRange,
    StagingMark,
    base_ids,
    generation_ids,
    staging_generation,
)
from raftd.storage.state_writer import StateWriter

__all__ = ["Staging"]


class Staging:
    """What is staged in one state.db."""

    def __init__(self, writer: StateWriter, mark: StagingMark | None) -> None:
        self._writer = writer
        self._mark = mark

    @property
    def ids(self) -> IdRange:
        """Name the chunks that have to be kept."""
        return base_ids(self._mark) if self._mark else NO_IDS

    def count(self, offer_id: bytes) -> int:
        """Count the chunks of a snapshot that are here."""
        mark = self._mark
        return mark.chunk_count if mark and mark.offer_id == offer_id else 0

    async def add(
        self, offer_id: bytes, first: int, chunks: Sequence[bytes], base: BaseMark
    ) -> None:
        """Store chunks from number `first` on; those that are here are passed over."""
        old = self._mark
        if old is not None and old.offer_id != offer_id:
            await self.drop()
            old = None
        mark = old or StagingMark(offer_id, staging_generation(base))
        assert 0 <= first <= mark.chunk_count, "a gap between chunks"
        fresh = chunks[mark.chunk_count - first :]
        new = replace(mark, chunk_count=mark.chunk_count + len(fresh))
        async with self._writer.transaction(lambda: self._adopt(new)):
            if old is None:
                await self._remove(generation_ids(new.generation))
            await self._writer.insert(base_ids(mark).last + 1, fresh)
            await self._writer.run(META_UPSERT, encode_meta(STAGING, new))

    async def take(self, offer_id: bytes, count: int) -> StagingMark:
        """Take the mark away, within a transaction, to make a base of the chunks."""
        mark = self._mark
        assert mark is not None, "nothing is staged"
        is_whole = (mark.offer_id, mark.chunk_count) == (offer_id, count)
        assert is_whole, "not everything is staged"
        await self._writer.run(META_DELETE, (STAGING,))
        return mark

    def taken(self) -> None:
        """Forget them: that transaction is durable."""
        self._mark = None

    async def drop(self) -> None:
        """Forget what is staged, if anything; its chunks go as far as there is room."""
        mark = self._mark
        if mark is None:
            return
        async with self._writer.transaction(self.taken):
            await self._writer.run(META_DELETE, (STAGING,))
        with suppress(DiskFull):
            await self._remove(generation_ids(mark.generation))

    async def _remove(self, ids: IdRange) -> None:
        """Remove what lies in a generation, slice by slice."""
        while await self._writer.run(DROP_SQL, ids):
            pass

    def _adopt(self, mark: StagingMark) -> None:
        self._mark = mark
