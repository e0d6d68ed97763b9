"""state.db: checkpoints are whole or absent, the newest row wins, merges are unseen."""

import asyncio
import sqlite3
import sys
from asyncio.subprocess import Process, create_subprocess_exec
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from raftd.consensus.types import HardState, Index, NodeId, Term
from raftd.storage.chunks import Row, pack
from raftd.storage.errors import DamagedFiles
from raftd.storage.files import wal_path
from raftd.storage.merge import main, merge
from raftd.storage.open import Stores
from raftd.storage.types import InstallMark, Sizes
from tests.storage.tools import (
    copy_directory,
    entries,
    install,
    meta,
    newest,
    open_node,
    row,
    run_sql,
    snapshot_files,
    write,
)

MARK = InstallMark(b"install", HardState(Term(2), NodeId(3)))


async def fill_log(stores: Stores, last: int = 50) -> None:
    await stores.log.write(write(entries(1, last), hard_state=(1, None), commit=last))


def rows_of(stores: Stores) -> dict[tuple[int, bytes], bytes]:
    return newest(list(stores.state.load()))


async def test_a_blank_state_is_empty(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        assert stores.recovery.checkpoint is None
        assert list(stores.state.load()) == []
        assert await stores.state.sizes() == Sizes(0, 0)


@pytest.mark.parametrize(
    ("base_mib", "delta_mib", "is_due"),
    [(0, 64, False), (0, 65, True), (200, 199, False), (200, 201, True)],
)
def test_a_merge_is_due_when_there_is_more_to_merge_than_to_keep(
    base_mib: int, delta_mib: int, is_due: bool
) -> None:
    assert Sizes(base_mib << 20, delta_mib << 20).is_merge_due is is_due


async def test_later_rows_win_after_a_restart(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await fill_log(stores)
        await stores.state.checkpoint(meta(10), pack([row(1, b"a"), row(2, b"b")]))
        await stores.state.checkpoint(meta(20), pack([row(1, b"c"), row(2, None)]))
        await stores.state.checkpoint(meta(30), [])
    async with open_node(tmp_path) as stores:
        assert stores.recovery.checkpoint == stores.state.meta == meta(30)
        assert rows_of(stores) == {(1, b"\0\0\0\1"): b"c"}


async def test_chunks_may_come_from_a_coroutine(tmp_path: Path) -> None:
    async def slices() -> AsyncIterator[bytes]:
        for chunk in pack([row(1, b"a")]):
            await asyncio.wait({asyncio.create_task(fill_log(stores))})
            yield chunk

    async with open_node(tmp_path) as stores:
        await stores.state.checkpoint(meta(10), slices())
        assert stores.log.last_index == 50, "the log went on beside it"
        assert rows_of(stores) == {(1, b"\0\0\0\1"): b"a"}


async def test_a_checkpoint_that_fails_half_way_leaves_the_old_one(
    tmp_path: Path,
) -> None:
    def broken() -> Iterator[bytes]:
        yield from pack([row(1, b"new")])
        raise KeyError("encoding failed")

    async with open_node(tmp_path) as stores:
        await fill_log(stores)
        await stores.state.checkpoint(meta(10), pack([row(1, b"old")]))
        with pytest.raises(KeyError):
            await stores.state.checkpoint(meta(20), broken())
        assert stores.state.meta == meta(10)
        assert rows_of(stores) == {(1, b"\0\0\0\1"): b"old"}
        await stores.state.checkpoint(meta(30), pack([row(2, b"next")]))
    async with open_node(tmp_path) as stores:
        assert stores.state.meta == meta(30)
        assert len(rows_of(stores)) == 2


async def test_a_cancelled_checkpoint_leaves_the_old_one(tmp_path: Path) -> None:
    is_begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield next(pack([row(1, b"new")]))
        is_begun.set()
        await asyncio.Event().wait()

    async with open_node(tmp_path) as stores:
        await fill_log(stores)
        await stores.state.checkpoint(meta(10), pack([row(1, b"old")]))
        task = asyncio.create_task(stores.state.checkpoint(meta(20), endless()))
        await is_begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert rows_of(stores) == {(1, b"\0\0\0\1"): b"old"}
        await stores.state.checkpoint(meta(30), [])
        assert stores.state.meta == meta(30)


async def test_loading_shows_one_moment(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await fill_log(stores)
        await stores.state.checkpoint(meta(10), pack([row(1, b"old")]))
        loading = stores.state.load()
        assert next(loading) == row(1, b"old")
        await stores.state.checkpoint(meta(20), pack([row(1, b"new")]))
        assert list(loading) == []


async def test_an_install_replaces_everything(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await fill_log(stores)
        await stores.state.checkpoint(meta(10), pack([row(1, b"a"), row(2, b"b")]))
        installed = meta(90, 2, install=MARK)
        await install(stores, installed, [row(3, b"c")])
        await stores.log.reset(Index(90), Term(2), MARK)
        assert rows_of(stores) == {(1, b"\0\0\0\3"): b"c"}
        await stores.log.write(write(entries(91, 91, term=2), commit=91))
        await stores.state.checkpoint(meta(91, 2), pack([row(4, b"d")]))
    async with open_node(tmp_path) as stores:
        assert stores.state.meta == meta(91, 2)
        assert stores.recovery.log.hard_state == MARK.hard_state
        assert set(rows_of(stores)) == {(1, b"\0\0\0\3"), (1, b"\0\0\0\4")}


async def many_checkpoints(stores: Stores, count: int) -> None:
    """Overlapping rows, deletions, and more than one chunk a checkpoint."""
    for number in range(1, count + 1):
        rows: list[Row] = [
            row(key, None if (key + number) % 5 == 0 else bytes([number]) * 400, table)
            for table in (1, 2)
            for key in range(number * 20, number * 20 + 150)
        ]
        await stores.state.checkpoint(meta(number), pack(rows))


async def test_a_merge_changes_no_row(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await fill_log(stores)
        await many_checkpoints(stores, 12)
        before, sizes = rows_of(stores), await stores.state.sizes()
        assert await stores.state.merge()
        assert rows_of(stores) == before
        merged = await stores.state.sizes()
        assert merged.delta_bytes == 0
        assert 0 < merged.base_bytes < sizes.delta_bytes
        assert all(value is not None for *_, value in stores.state.load())
        await stores.state.checkpoint(meta(13), pack([row(1, b"later")]))
        assert await stores.state.merge()
    async with open_node(tmp_path) as stores:
        assert rows_of(stores) == before | {(1, b"\0\0\0\1"): b"later"}


async def test_checkpoints_go_on_beside_a_merge(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await fill_log(stores)
        await many_checkpoints(stores, 5)
        merging = asyncio.create_task(stores.state.merge())
        applied = 5
        while not merging.done():
            applied = min(applied + 1, 50)
            await stores.state.checkpoint(meta(applied), pack([row(7, b"beside")]))
        assert await merging
        assert rows_of(stores)[1, b"\0\0\0\7"] == b"beside"


async def test_a_merge_given_up_ends_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: asyncio.Queue[Process] = asyncio.Queue()

    async def start(*arguments: Any, **options: Any) -> Process:
        process = await create_subprocess_exec(*arguments, **options)
        started.put_nowait(process)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    async with open_node(tmp_path) as stores:
        await fill_log(stores)
        await many_checkpoints(stores, 3)
        with closing(sqlite3.connect(tmp_path / "state.db")) as other:
            other.execute("BEGIN IMMEDIATE")
            merging = asyncio.create_task(stores.state.merge())
            process = await started.get()
            merging.cancel()
            with pytest.raises(asyncio.CancelledError):
                await merging
        assert process.returncode is not None
        assert process.returncode < 0, "it was waiting for the file, and was killed"


async def test_a_merge_ends_with_its_node(tmp_path: Path) -> None:
    async with open_node(tmp_path):
        with closing(sqlite3.connect(tmp_path / "state.db")) as other:
            other.execute("BEGIN IMMEDIATE")
            process = await create_subprocess_exec(
                *(sys.executable, "-m", "raftd.storage.merge", "--until-eof"),
                str(tmp_path / "state.db"),
                stdin=asyncio.subprocess.PIPE,
            )
            assert process.stdin is not None
            process.stdin.close()
            assert await process.wait() == 1


async def test_an_install_overtakes_a_merge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.db"
    async with open_node(tmp_path) as stores:
        await fill_log(stores)
        await many_checkpoints(stores, 3)
        loop = asyncio.get_running_loop()
        real_pack = pack

        def install_first(rows: Iterator[Row]) -> Iterator[bytes]:
            installed = meta(90, 2, install=MARK)
            work = install(stores, installed, [row(3, b"installed")])
            asyncio.run_coroutine_threadsafe(work, loop).result()
            return real_pack(rows)

        monkeypatch.setattr("raftd.storage.merge.pack", install_first)
        assert not await asyncio.to_thread(merge, path)
        assert rows_of(stores) == {(1, b"\0\0\0\3"): b"installed"}
        await stores.log.reset(Index(90), Term(2), MARK)


async def test_rubbish_of_an_unfinished_merge_is_swept(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await fill_log(stores)
        await stores.state.checkpoint(meta(10), pack([row(1, b"a")]))
        run_sql(
            tmp_path / "state.db", "INSERT INTO chunks VALUES (?, 0, x'00')", (2 << 40,)
        )
    async with open_node(tmp_path) as stores:
        assert rows_of(stores) == {(1, b"\0\0\0\1"): b"a"}
        assert await stores.state.merge(), "its place is free again"
        assert rows_of(stores) == {(1, b"\0\0\0\1"): b"a"}


async def test_a_merge_refuses_damage_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "state.db"
    async with open_node(tmp_path) as stores:
        await fill_log(stores)
        await stores.state.checkpoint(meta(10), pack([row(1, b"a")]))
        run_sql(path, "UPDATE chunks SET data = x'90'")
        with pytest.raises(DamagedFiles, match=r"state\.db is damaged: chunk 1"):
            await stores.state.merge()
        assert main([str(path)]) == 3
        assert "chunk 1 was altered" in capsys.readouterr().err


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE chunks SET data = x'90' WHERE id = 2",
        "UPDATE chunks SET crc = crc + 1 WHERE id = 2",
        "DELETE FROM chunks WHERE id = 2",
        "DELETE FROM chunks WHERE id = 3",
        "UPDATE chunks SET id = 9 WHERE id = 1",
    ],
)
@pytest.mark.parametrize("is_crashed", [False, True])
async def test_a_damaged_chunk_is_named_before_anything_is_touched(
    tmp_path: Path, damage: str, *, is_crashed: bool
) -> None:
    node = tmp_path / "node"
    async with open_node(node) as stores:
        await fill_log(stores)
        for applied in (1, 2, 3):
            await stores.state.checkpoint(meta(applied), pack([row(applied, b"v")]))
        left = copy_directory(node, tmp_path / "crashed")
    node = left if is_crashed else node
    run_sql(node / "state.db", damage)
    before = snapshot_files(node)
    with pytest.raises(DamagedFiles, match=r"state\.db is damaged: chunk"):
        async with open_node(node):
            pass
    assert snapshot_files(node) == before


async def test_loading_names_a_chunk_damaged_since_the_start(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await fill_log(stores)
        await stores.state.checkpoint(meta(1), pack([row(1, b"v")]))
        run_sql(tmp_path / "state.db", "UPDATE chunks SET data = x'90'")
        with pytest.raises(DamagedFiles, match=r"state\.db is damaged: chunk 1 was"):
            list(stores.state.load())


async def test_many_small_checkpoints_do_not_pile_up_in_the_write_ahead_log(
    tmp_path: Path,
) -> None:
    async with open_node(tmp_path) as stores:
        await fill_log(stores)
        for number in range(600):
            await stores.state.checkpoint(meta(9), pack([row(number, b"v")]))
        assert wal_path(tmp_path / "state.db").stat().st_size < 3 * 1024 * 1024
