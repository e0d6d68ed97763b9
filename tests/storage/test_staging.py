"""A snapshot on its way in is durable, resumable and unseen, until it is the state."""

import asyncio
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from raftd.consensus.types import HardState, Index, NodeId, Term
from raftd.storage.chunks import Row, pack, unpack
from raftd.storage.errors import DamagedFiles
from raftd.storage.merge import merge
from raftd.storage.open import Stores
from raftd.storage.types import InstallMark
from tests.storage.faults import failing_at
from tests.storage.test_state_store import fill_log, many_checkpoints, rows_of
from tests.storage.tools import (
    copy_directory,
    entries,
    install,
    meta,
    newest,
    open_node,
    row,
    run_sql,
    write,
)

OFFER, OTHER = b"offer", b"another offer"
MARK = InstallMark(b"install", HardState(Term(2), NodeId(3)))
CHUNKS = list(pack(row(key, b"s" * 900) for key in range(400)))
STAGED_ROWS = [found for chunk in CHUNKS for found in unpack(chunk)]
INSTALLED = meta(90, 2, install=MARK)


async def count_chunks(stores: Stores) -> tuple[int, int]:
    return await stores.state.staged(OFFER), await stores.state.staged(OTHER)


def all_chunk_ids(directory: Path) -> list[int]:
    """Everything in the file, alive or not."""
    return [
        found[0] for found in run_sql(directory / "state.db", "SELECT id FROM chunks")
    ]


async def test_staged_chunks_are_seen_by_nobody(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await fill_log(stores)
        await stores.state.checkpoint(meta(10), pack([row(1, b"old")]))
        before = await stores.state.sizes()
        await stores.state.stage(OFFER, 0, CHUNKS)
        assert rows_of(stores) == {(1, b"\0\0\0\1"): b"old"}
        assert await stores.state.sizes() == before
        assert stores.state.meta == meta(10)
        assert list(stores.state.load_staged(OFFER)) == STAGED_ROWS
        assert list(stores.state.load_staged(OTHER)) == []
    async with open_node(tmp_path) as stores:
        assert stores.recovery.checkpoint == meta(10)
        assert rows_of(stores) == {(1, b"\0\0\0\1"): b"old"}


async def test_staging_goes_on_after_a_restart(tmp_path: Path) -> None:
    node = tmp_path / "node"
    async with open_node(node) as stores:
        assert await count_chunks(stores) == (0, 0)
        await stores.state.stage(OFFER, 0, CHUNKS[:2])
        crashed = copy_directory(node, tmp_path / "crashed")
    for left in (node, crashed):
        async with open_node(left) as stores:
            assert await count_chunks(stores) == (2, 0)
            await stores.state.stage(OFFER, 2, CHUNKS[2:4])
            # As after a link that broke before the answer: some come twice.
            await stores.state.stage(OFFER, 1, CHUNKS[1:])
            assert await count_chunks(stores) == (len(CHUNKS), 0)
            assert list(stores.state.load_staged(OFFER)) == STAGED_ROWS


@pytest.mark.parametrize("is_staged", [False, True])
async def test_an_empty_snapshot_can_be_installed(
    tmp_path: Path, *, is_staged: bool
) -> None:
    async with open_node(tmp_path) as stores:
        await fill_log(stores)
        await stores.state.checkpoint(meta(10), pack([row(1, b"old")]))
        if is_staged:
            await stores.state.stage(OFFER, 0, [])
        await stores.state.install(OFFER, 0, INSTALLED)
        await stores.log.reset(Index(90), Term(2), MARK)
        assert rows_of(stores) == {}
    async with open_node(tmp_path) as stores:
        assert rows_of(stores) == {}


async def test_another_offer_drops_the_one_before(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await stores.state.stage(OFFER, 0, CHUNKS)
        assert await count_chunks(stores) == (len(CHUNKS), 0)
        await stores.state.stage(OTHER, 0, CHUNKS[:1])
        assert await count_chunks(stores) == (0, 1)
        assert list(stores.state.load_staged(OFFER)) == []
        assert len(all_chunk_ids(tmp_path)) == 1
        await stores.state.drop_staged()
        await stores.state.drop_staged()
        assert await count_chunks(stores) == (0, 0)
        assert all_chunk_ids(tmp_path) == []


async def test_a_gap_between_chunks_is_refused(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await stores.state.stage(OFFER, 0, CHUNKS[:2])
        with pytest.raises(AssertionError, match="a gap"):
            await stores.state.stage(OFFER, 3, CHUNKS[3:])
        with pytest.raises(AssertionError, match="not everything is staged"):
            await stores.state.install(OFFER, 3, INSTALLED)
        with pytest.raises(AssertionError, match="not everything is staged"):
            await stores.state.install(OTHER, 2, INSTALLED)
        assert await count_chunks(stores) == (2, 0), "the store goes on"


async def test_checkpoints_and_merges_leave_staging_alone(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await fill_log(stores)
        await stores.state.stage(OFFER, 0, CHUNKS[:2])
        await many_checkpoints(stores, 3)
        expected = rows_of(stores)
        assert await stores.state.merge()
        await stores.state.stage(OFFER, 2, CHUNKS[2:4])
        assert await stores.state.merge()
        assert await stores.state.merge()
        assert rows_of(stores) == expected
    async with open_node(tmp_path) as stores:
        assert rows_of(stores) == expected
        await stores.state.stage(OFFER, 4, CHUNKS[4:])
        assert list(stores.state.load_staged(OFFER)) == STAGED_ROWS
        await stores.state.install(OFFER, len(CHUNKS), INSTALLED)
        await stores.log.reset(Index(90), Term(2), MARK)
        assert rows_of(stores) == newest(STAGED_ROWS)
        await stores.log.write(write(entries(91, 92, term=2), commit=92))
        await stores.state.checkpoint(meta(92, 2), pack([row(1, None)]))
        assert await stores.state.merge()
        assert len(rows_of(stores)) == 399


class Interrupted:
    """A merge in this process, with something done in the middle of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self._loop = asyncio.get_running_loop()

    async def run(self, stores: Stores, directory: Path, work: str) -> bool:
        def pack_after(rows: Iterable[Row]) -> Iterator[bytes]:
            for number, chunk in enumerate(pack(rows)):
                yield chunk
                if number == 0:
                    middle = self._middle(stores, work)
                    asyncio.run_coroutine_threadsafe(middle, self._loop).result()

        with self._patch.context() as patch:
            patch.setattr("raftd.storage.merge.pack", pack_after)
            patch.setattr("raftd.storage.merge._SLICE_CHUNKS", 1)
            return await asyncio.to_thread(merge, directory / "state.db")

    async def _middle(self, stores: Stores, work: str) -> None:
        state = stores.state
        match work:
            case "stage":
                await state.stage(OFFER, 0, CHUNKS)
            case "replace":
                await state.stage(OTHER, 0, CHUNKS[:1])
                await state.stage(OFFER, 0, CHUNKS)
            case "drop":
                await state.drop_staged()
            case "install":
                await state.install(OFFER, len(CHUNKS), INSTALLED)
            case "install, and no room to sweep":
                with failing_at(6, sqlite3.SQLITE_FULL) as fault:
                    await state.install(OFFER, len(CHUNKS), INSTALLED)
                assert fault.has_struck
                assert fault.statements[-2] == "COMMIT"
            case _:
                raise KeyError(work)


@pytest.mark.parametrize("work", ["stage", "replace", "drop"])
async def test_staging_during_a_merge_harms_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    node = tmp_path / "node"
    async with open_node(node) as stores:
        await fill_log(stores)
        await many_checkpoints(stores, 8)
        expected = rows_of(stores)
        if work == "drop":
            await stores.state.stage(OFFER, 0, CHUNKS)
        assert await Interrupted(monkeypatch).run(stores, node, work)
        crashed = copy_directory(node, tmp_path / "crashed")
        staged = 0 if work == "drop" else len(CHUNKS)
        assert rows_of(stores) == expected
        assert (await stores.state.sizes()).delta_bytes == 0
    for left in (node, crashed):
        async with open_node(left) as stores:
            assert rows_of(stores) == expected
            assert await count_chunks(stores) == (staged, 0)
            rows = list(stores.state.load_staged(OFFER))
            assert rows == (STAGED_ROWS if staged else [])


@pytest.mark.parametrize("work", ["install", "install, and no room to sweep"])
async def test_an_install_during_a_merge_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    node = tmp_path / "node"
    async with open_node(node) as stores:
        await fill_log(stores)
        await many_checkpoints(stores, 8)
        await stores.state.stage(OFFER, 0, CHUNKS)
        assert not await Interrupted(monkeypatch).run(stores, node, work)
        crashed = copy_directory(node, tmp_path / "crashed")
        assert rows_of(stores) == newest(STAGED_ROWS)
        await stores.log.reset(Index(90), Term(2), MARK)
    for left in (node, crashed):
        async with open_node(left) as stores:
            assert stores.state.meta == INSTALLED
            assert rows_of(stores) == newest(STAGED_ROWS)
            assert stores.recovery.log.last_index == 90
            assert len(all_chunk_ids(left)) == len(CHUNKS), "all else was swept"
            assert await stores.state.merge()
            assert rows_of(stores) == newest(STAGED_ROWS)


async def test_installs_in_quick_succession_do_not_collide(tmp_path: Path) -> None:
    installed = []
    async with open_node(tmp_path) as stores:
        await fill_log(stores)
        for number in range(1, 6):
            mark = InstallMark(b"install %d" % number, HardState(Term(2)))
            applied = 90 + number
            installed.append(meta(applied, 2, install=mark))
            await install(stores, installed[-1], [row(number, b"v" * number)])
            await stores.log.reset(Index(applied), Term(2), mark)
            if number == 3:
                assert await stores.state.merge()
    async with open_node(tmp_path) as stores:
        assert stores.state.meta == installed[-1]
        assert rows_of(stores) == {(1, b"\0\0\0\5"): b"vvvvv"}
        assert stores.recovery.log.last_index == 95
        assert len(all_chunk_ids(tmp_path)) == 1


async def test_an_install_asked_for_again_changes_nothing(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await fill_log(stores)
        await stores.state.stage(OFFER, 0, CHUNKS)
        await stores.state.install(OFFER, len(CHUNKS), INSTALLED)
        await stores.state.stage(OTHER, 0, CHUNKS[:1])
        await stores.state.install(OFFER, len(CHUNKS), INSTALLED)
        assert await count_chunks(stores) == (0, 1)
        assert rows_of(stores) == newest(STAGED_ROWS)
        await stores.log.reset(Index(90), Term(2), MARK)


async def test_a_commit_that_was_begun_is_seen_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = aiosqlite.Connection.execute_fetchall
    is_committing, may_commit = asyncio.Event(), asyncio.Event()

    async def hold_commits(
        db: aiosqlite.Connection, sql: str, parameters: Iterable[Any] | None = None
    ) -> Iterable[Any]:
        if sql == "COMMIT":
            is_committing.set()
            await may_commit.wait()
        return await execute(db, sql, parameters)

    async with open_node(tmp_path) as stores:
        await fill_log(stores)
        await stores.state.stage(OFFER, 0, CHUNKS)
        monkeypatch.setattr(aiosqlite.Connection, "execute_fetchall", hold_commits)
        task = asyncio.create_task(stores.state.install(OFFER, len(CHUNKS), INSTALLED))
        await is_committing.wait()
        for _ in range(3):
            task.cancel()
            await asyncio.wait({task}, timeout=0.01)
        assert not task.done(), "nobody would know what the state is"
        may_commit.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stores.state.meta == INSTALLED
        assert rows_of(stores) == newest(STAGED_ROWS)
        await stores.log.reset(Index(90), Term(2), MARK)


@pytest.mark.parametrize("turns", range(8))
async def test_a_cancelled_install_is_old_or_new_and_the_store_goes_on(
    tmp_path: Path, turns: int
) -> None:
    node = tmp_path / "node"
    async with open_node(node) as stores:
        await fill_log(stores)
        await stores.state.checkpoint(meta(10), pack([row(1, b"old")]))
        await stores.state.stage(OFFER, 0, CHUNKS)
        task = asyncio.create_task(stores.state.install(OFFER, len(CHUNKS), INSTALLED))
        for _ in range(turns):
            await asyncio.wait({task}, timeout=0.0005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        crashed = copy_directory(node, tmp_path / "crashed")
        is_new = stores.state.meta == INSTALLED
        assert is_new or stores.state.meta == meta(10)
        expected = newest(STAGED_ROWS) if is_new else {(1, b"\0\0\0\1"): b"old"}
        assert rows_of(stores) == expected
        async with open_node(crashed) as found:
            assert rows_of(found) == expected
        await stores.state.install(OFFER, len(CHUNKS), INSTALLED)
        await stores.log.reset(Index(90), Term(2), MARK)
        assert rows_of(stores) == newest(STAGED_ROWS)


async def test_a_damaged_staged_chunk_is_named_and_harms_no_start(
    tmp_path: Path,
) -> None:
    async with open_node(tmp_path) as stores:
        await fill_log(stores)
        await stores.state.checkpoint(meta(10), pack([row(1, b"old")]))
        await stores.state.stage(OFFER, 0, CHUNKS)
    sql = "UPDATE chunks SET data = x'90' WHERE id = (SELECT max(id) FROM chunks)"
    run_sql(tmp_path / "state.db", sql)
    async with open_node(tmp_path) as stores:
        assert rows_of(stores) == {(1, b"\0\0\0\1"): b"old"}
        with pytest.raises(DamagedFiles, match=r"state\.db is damaged: chunk \d+ was"):
            list(stores.state.load_staged(OFFER))
        await stores.state.drop_staged()
        await stores.state.stage(OFFER, 0, CHUNKS)
        assert list(stores.state.load_staged(OFFER)) == STAGED_ROWS
