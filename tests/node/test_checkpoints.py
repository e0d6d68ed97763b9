"""Checkpoints beside the work: whose members, in which order, and what undoes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterator, Sequence

import pytest

from raftd.consensus.core import Core
from raftd.consensus.progress import ProgressState
from raftd.consensus.ready import Write
from raftd.consensus.types import Index, NodeId, Term
from raftd.consensus.view import FollowerView
from raftd.node.checkpoints import Checkpoints
from raftd.node.ports import Snapshot
from raftd.node.roster import decode_roster, first_roster
from raftd.statemachine.schema.entry import MarkEntry
from raftd.statemachine.schema.kv import PutKey
from raftd.storage.chunks import Row, unpack
from raftd.storage.errors import DiskFull
from raftd.storage.types import CheckpointMeta, InstallMark, Sizes
from tests.node.lone import Lone


class _Stores:
    """``StatePort`` and ``LogPort``, as far as checkpoints use them."""

    def __init__(self) -> None:
        self.stored: list[tuple[CheckpointMeta, list[Row]]] = []
        self.cuts: list[Index] = []
        self.has_cut = asyncio.Event()
        self.refusals = 0
        self.may_store = asyncio.Event()
        self.may_store.set()

    async def checkpoint(
        self, meta: CheckpointMeta, chunks: AsyncIterable[bytes]
    ) -> None:
        await self.may_store.wait()
        rows = [row async for chunk in chunks for row in unpack(chunk)]
        if self.refusals:
            self.refusals -= 1
            raise DiskFull("Cannot write state.db: no space is left on the disk.")
        self.stored.append((meta, rows))

    async def sizes(self) -> Sizes:
        return Sizes(0, 0)

    async def merge(self) -> bool:
        raise AssertionError("it is not due")

    def open_snapshot(self) -> Snapshot:
        raise AssertionError("nobody reads")

    async def stage(self, offer_id: bytes, first: int, chunks: Sequence[bytes]) -> None:
        raise AssertionError((offer_id, first, chunks))

    async def staged(self, offer_id: bytes) -> int:
        raise AssertionError(offer_id)

    def load_staged(self, offer_id: bytes) -> Iterator[Row]:
        raise AssertionError(offer_id)

    async def install(self, offer_id: bytes, count: int, meta: CheckpointMeta) -> None:
        raise AssertionError((offer_id, count, meta))

    async def drop_staged(self) -> None:
        raise AssertionError("nothing is staged")

    async def write(self, write: Write) -> None:
        raise AssertionError(write)

    async def cut_prefix(self, upto: Index) -> None:
        self.cuts.append(upto)
        self.has_cut.set()

    async def reset(self, index: Index, term: Term, mark: InstallMark) -> None:
        raise AssertionError((index, term, mark))


class _Bench(Lone):
    """A member alone, whose marks are checkpointed by the production code."""

    def __init__(self) -> None:
        super().__init__()
        self.stores = _Stores()
        self.told: list[int] = []
        self.news = asyncio.Event()
        self.checkpoints = Checkpoints(
            self.replica, self.stores, self.stores, self._stored, self._fail
        )
        self.lead()

    def marked(self, index: int, mark: MarkEntry) -> None:
        self.marks.append(index)
        self.checkpoints.take(index, mark)

    def _stored(self, index: int, digest: bytes) -> None:
        assert len(digest) == 32
        self.told.append(index)
        self.news.set()

    def _fail(self, sentence: str, error: BaseException | None) -> None:
        raise AssertionError(sentence) from error

    def mark(self) -> int:
        """Mark an entry; returns its index."""
        self.do(PutKey(b"k%d" % len(self.marks), b"v"))
        before = len(self.marks)
        self.replica.mark_beyond(self.core.commit_index)
        while len(self.marks) == before:
            self.settle()
        return self.marks[-1]

    async def until_told(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.told) < count:
                self.checkpoints.note_durable()
                self.news.clear()
                await self.news.wait()


async def test_the_members_are_those_as_of_the_mark() -> None:
    bench = _Bench()
    bench.mark()
    bench.replica.roster = first_roster((NodeId(1), NodeId(2)))
    await bench.until_told(1)
    ((meta, _),) = bench.stores.stored
    assert decode_roster(meta.membership).membership.voters == (1,)


async def test_marks_that_come_while_one_is_stored_are_stored_in_order() -> None:
    bench = _Bench()
    bench.stores.may_store.clear()
    indexes = [bench.mark()]
    assert not bench.checkpoints.is_idle
    bench.replica.marks.may_mark = lambda: True
    indexes += [bench.mark(), bench.mark()]
    bench.stores.may_store.set()
    await bench.until_told(3)
    assert bench.told == indexes
    assert [meta.applied_index for meta, _ in bench.stores.stored] == indexes
    assert len({meta.digest for meta, _ in bench.stores.stored}) == 3
    keys = [
        [key[:-8] for table, key, _ in rows if table == 30]
        for _, rows in bench.stores.stored
    ]
    assert keys == [[b"k0"], [b"k1"], [b"k2"]]
    assert bench.checkpoints.checkpoint_index == indexes[-1]
    await bench.stores.has_cut.wait()
    assert bench.stores.cuts == sorted(bench.stores.cuts)
    assert bench.stores.cuts[-1] <= indexes[-1]


async def test_a_snapshot_that_began_meanwhile_keeps_what_follows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The mark said how far to cut before the follower came back."""
    bench = _Bench()
    bench.stores.may_store.clear()
    for _ in range(4):
        bench.do(PutKey(b"k", b"v"))
    index = bench.mark()
    state, at = ProgressState.SNAPSHOT, Index(3)
    sent = FollowerView(Index(0), Index(1), state, True, at)
    monkeypatch.setattr(Core, "followers", lambda _: {NodeId(2): sent})
    bench.stores.may_store.set()
    await bench.until_told(1)
    await bench.stores.has_cut.wait()
    assert index > at
    assert bench.stores.cuts == [at]
    assert bench.core.first_index == at + 1


async def test_a_full_disk_delays_a_checkpoint_and_loses_none_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("raftd.node.checkpoints._FULL_RETRY_S", 0.0)
    bench = _Bench()
    bench.stores.refusals = 2
    index = bench.mark()
    await bench.until_told(1)
    ((meta, rows),) = bench.stores.stored
    assert meta.applied_index == index
    assert [key[:-8] for table, key, _ in rows if table == 30] == [b"k0"]


async def test_what_an_install_replaced_is_not_stored_afterwards() -> None:
    bench = _Bench()
    bench.mark()
    bench.checkpoints.replace()
    bench.replica.marks.may_mark = lambda: True
    later = bench.mark()
    await bench.until_told(1)
    assert [meta.applied_index for meta, _ in bench.stores.stored] == [later]
    bench.checkpoints.note_installed(77)
    assert bench.checkpoints.checkpoint_index == 77


async def test_a_mark_that_comes_after_the_stop_is_not_taken() -> None:
    """Applying goes on for a moment; by then the files are about to be closed."""
    bench = _Bench()
    await bench.checkpoints.stop()
    bench.mark()
    assert bench.checkpoints.is_idle
