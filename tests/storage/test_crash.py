"""A crash at any moment leaves what was before the call or what is after it."""

import asyncio
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from raftd.consensus.types import Index, Term
from raftd.storage.chunks import Row, pack
from raftd.storage.merge import merge
from raftd.storage.open import Stores
from raftd.storage.types import CheckpointMeta, LogRecovery
from tests.storage.test_state_store import MARK, many_checkpoints
from tests.storage.tools import (
    CLUSTER_ID,
    PEERS,
    copy_directory,
    entries,
    install,
    meta,
    newest,
    open_node,
    row,
    write,
)

Image = tuple[LogRecovery, CheckpointMeta | None, dict[tuple[int, bytes], bytes]]


@contextmanager
def crashes(directory: Path, images: Path) -> Iterator[list[Path]]:
    """Take what a crash would leave behind each statement and at begin and end."""
    taken: list[Path] = []
    numbers = count()
    execute = aiosqlite.Connection.execute_fetchall

    def take() -> None:
        taken.append(copy_directory(directory, images / str(next(numbers))))

    async def execute_and_take(
        db: aiosqlite.Connection, sql: str, parameters: Iterable[Any] | None = None
    ) -> Iterable[Any]:
        rows = await execute(db, sql, parameters)
        take()
        return rows

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aiosqlite.Connection, "execute_fetchall", execute_and_take)
        take()
        yield taken
        take()


async def look(stores: Stores) -> Image:
    return (
        stores.recovery.log,
        stores.recovery.checkpoint,
        newest(list(stores.state.load())),
    )


async def recover(directory: Path) -> Image:
    """Open what a crash left, twice: recovery itself must not change the answer."""
    async with open_node(directory) as stores:
        first = await look(stores)
    async with open_node(directory) as stores:
        assert await look(stores) == first
    return first


async def recover_all(taken: list[Path]) -> list[Image]:
    """Recover every image; equal neighbours are given once."""
    images: list[Image] = []
    for directory in taken:
        image = await recover(directory)
        if not images or image != images[-1]:
            images.append(image)
    return images


async def prepare(stores: Stores) -> None:
    await stores.log.write(write(entries(1, 20), hard_state=(1, 2), commit=10))
    await stores.state.checkpoint(meta(5), pack([row(1, b"old")]))


async def test_a_checkpoint_is_old_or_new(tmp_path: Path) -> None:
    directory = tmp_path / "node"
    async with open_node(directory) as stores:
        await prepare(stores)
        rows = [row(key, b"v" * 1000) for key in range(200)]
        with crashes(directory, tmp_path) as taken:
            await stores.state.checkpoint(meta(9), pack(rows))
    assert len(taken) > 5
    old, new = await recover_all(taken)
    assert (old[1], new[1]) == (meta(5), meta(9))
    assert (len(old[2]), len(new[2])) == (1, 200)


async def test_a_conflict_cut_is_old_or_new(tmp_path: Path) -> None:
    directory = tmp_path / "node"
    async with open_node(directory) as stores:
        await prepare(stores)
        with crashes(directory, tmp_path) as taken:
            await stores.log.write(
                write(
                    entries(15, 16, term=2),
                    commit=11,
                    hard_state=(2, None),
                    truncate_from=15,
                )
            )
    old, new = (image[0] for image in await recover_all(taken))
    assert (old.last_index, old.hard_state.term, old.commit) == (20, 1, 10)
    assert (new.last_index, new.hard_state.term, new.commit) == (16, 2, 11)


async def test_cutting_the_front_keeps_what_is_needed(tmp_path: Path) -> None:
    directory = tmp_path / "node"
    async with open_node(directory) as stores:
        await prepare(stores)
        await stores.log.write(write(entries(21, 2500), commit=2400))
        await stores.state.checkpoint(meta(2400), [])
        with crashes(directory, tmp_path) as taken:
            await stores.log.cut_prefix(2300)
    firsts = [image[0].first_index for image in await recover_all(taken)]
    assert firsts == sorted(firsts), "never back"
    assert len(set(firsts)) > 2, "in slices"
    assert (firsts[0], firsts[-1]) == (1, 2301)


async def test_an_install_is_old_or_new(tmp_path: Path) -> None:
    directory = tmp_path / "node"
    async with open_node(directory) as stores:
        await prepare(stores)
        with crashes(directory, tmp_path) as taken:
            await install(stores, meta(90, 2, install=MARK), [row(3, b"new")])
            await stores.log.reset(Index(90), Term(2), MARK)
    old, new = await recover_all(taken)
    assert (old[0].last_index, old[0].commit, old[2]) == (
        20,
        10,
        {(1, b"\0\0\0\1"): b"old"},
    )
    assert (new[0].last_index, new[0].commit, new[2]) == (
        90,
        90,
        {(1, b"\0\0\0\3"): b"new"},
    )


async def test_first_start_and_binding_survive_a_crash(tmp_path: Path) -> None:
    directory = tmp_path / "node"
    async with open_node(directory) as stores:
        with crashes(directory, tmp_path) as taken:
            await stores.bind_cluster(CLUSTER_ID, PEERS)
    bound = []
    for image in taken:
        async with open_node(image) as stores:
            assert stores.log.identity == stores.identity
            bound.append(stores.identity.is_bound)
    assert bound == sorted(bound)
    assert set(bound) == {False, True}


async def test_an_unfinished_merge_changes_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "node"
    taken: list[Path] = []

    def pack_and_take(rows: Iterable[Row]) -> Iterator[bytes]:
        for chunk in pack(rows):
            yield chunk
            taken.append(copy_directory(directory, tmp_path / str(len(taken))))

    monkeypatch.setattr("raftd.storage.merge.pack", pack_and_take)
    monkeypatch.setattr("raftd.storage.merge._SLICE_CHUNKS", 1)
    async with open_node(directory) as stores:
        await stores.log.write(write(entries(1, 50), hard_state=(1, None), commit=50))
        await many_checkpoints(stores, 8)
        expected = newest(list(stores.state.load()))
        assert await asyncio.to_thread(merge, directory / "state.db")
        monkeypatch.undo()
        taken.append(copy_directory(directory, tmp_path / "merged"))
    assert len(taken) > 3
    for left in taken:
        assert (await recover(left))[2] == expected
        async with open_node(left) as stores:
            assert await asyncio.to_thread(merge, left / "state.db")
            assert newest(list(stores.state.load())) == expected
            assert (await stores.state.sizes()).delta_bytes == 0


WRITER = """
import asyncio, sys
from pathlib import Path
from tests.storage.tools import entries, open_node, write

async def main():
    async with open_node(Path(sys.argv[1])) as stores:
        last = stores.log.last_index
        await stores.log.write(write(hard_state=(1, 2)))
        while True:
            await stores.log.write(write(entries(last + 1, last + 3)))
            last += 3
            print(last, flush=True)

asyncio.run(main())
"""


async def test_what_was_answered_survives_kill_9(tmp_path: Path) -> None:
    answered = 0
    for lines in (1, 20, 7):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "node")],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        ) as writer:
            assert writer.stdout is not None
            for _ in range(lines):
                answered = int(writer.stdout.readline())
            writer.kill()
            answered = max([answered, *map(int, writer.stdout.read().split())])
        async with open_node(tmp_path / "node") as stores:
            recovered = stores.recovery.log
            assert recovered.last_index >= answered
            assert recovered.tail == entries(1, recovered.last_index)
            assert recovered.hard_state.term == 1
