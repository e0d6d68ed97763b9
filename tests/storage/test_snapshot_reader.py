"""A snapshot for a follower shows one checkpoint, whatever is done beside it."""

import asyncio
from pathlib import Path

import pytest

from raftd.consensus.types import Index, Term
from raftd.storage.chunks import Row, pack, unpack
from raftd.storage.errors import DamagedFiles, StorageError
from raftd.storage.files import wal_path
from raftd.storage.snapshot_reader import SnapshotReader
from tests.storage.test_staging import INSTALLED, MARK
from tests.storage.test_state_store import fill_log, many_checkpoints, rows_of
from tests.storage.tools import install, meta, newest, open_node, row, run_sql


def read_all(reader: SnapshotReader, bytes_max: int, first: int = 0) -> list[bytes]:
    chunks: list[bytes] = []
    while part := reader.read(first + len(chunks), bytes_max):
        assert len(part) == 1 or sum(map(len, part)) <= bytes_max
        chunks += part
    return chunks


def rows_in(chunks: list[bytes]) -> list[Row]:
    return [found for chunk in chunks for found in unpack(chunk)]


@pytest.mark.parametrize("bytes_max", [0, 100_000, 1 << 30])
async def test_all_chunks_come_in_order(tmp_path: Path, bytes_max: int) -> None:
    async with open_node(tmp_path) as stores:
        await fill_log(stores)
        await many_checkpoints(stores, 4)
        assert await stores.state.merge()
        await stores.state.checkpoint(meta(45), pack([row(1, b"v" * 70_000)]))
        await stores.state.checkpoint(meta(46), pack([row(2, None)]))
        await stores.state.stage(b"offer", 0, list(pack([row(3, b"staged")])))
        reader = stores.state.open_snapshot()
        expected = list(stores.state.load_chunks())
        assert reader.meta == meta(46)
        assert reader.count == len(expected) > 3
        assert reader.bytes == sum(map(len, expected))
        assert read_all(reader, bytes_max) == expected
        for first in range(reader.count + 1):
            assert read_all(reader, bytes_max, first) == expected[first:]
        reader.close()


async def test_nothing_done_beside_it_shows(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await fill_log(stores)
        await many_checkpoints(stores, 4)
        expected = list(stores.state.load_chunks())
        first, second = stores.state.open_snapshot(), stores.state.open_snapshot()
        assert first.read(0, 0) == expected[:1]
        assert await stores.state.merge()
        await stores.state.checkpoint(meta(47), pack([row(1, b"later")]))
        await install(stores, INSTALLED, [row(9, b"installed")])
        await stores.log.reset(Index(90), Term(2), MARK)
        assert read_all(first, 100_000) == expected
        first.close()
        assert read_all(second, 100_000) == expected
        second.close()
        with stores.state.open_snapshot() as reader:
            assert reader.meta == INSTALLED
            assert newest(rows_in(read_all(reader, 1))) == rows_of(stores)


async def test_a_closed_one_says_so_and_lets_the_log_start_anew(
    tmp_path: Path,
) -> None:
    async with open_node(tmp_path) as stores:
        await fill_log(stores)
        await stores.state.checkpoint(meta(1), pack([row(1, b"v")]))
        reader = stores.state.open_snapshot()
        reader.close()
        reader.close()
        with pytest.raises(StorageError, match="was closed"):
            reader.read(0, 1)
        await stores.bind_cluster(
            bytes(16), {stores.identity.node_id: bytes(range(16))}
        )
        assert wal_path(tmp_path / "state.db").stat().st_size == 0


async def test_the_store_closes_those_left_open(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await fill_log(stores)
        await stores.state.checkpoint(meta(1), pack([row(1, b"v")]))
        reader = stores.state.open_snapshot()
        assert reader.is_open
    assert not reader.is_open


async def test_the_identity_is_stored_beside_an_open_one(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await fill_log(stores)
        await stores.state.checkpoint(meta(1), pack([row(1, b"v")]))
        with stores.state.open_snapshot() as reader:
            peers = {stores.identity.node_id: bytes(range(16))}
            async with asyncio.timeout(60):
                await stores.bind_cluster(bytes(16), peers)
            assert len(read_all(reader, 1)) == 1


async def test_damage_is_named(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await fill_log(stores)
        await many_checkpoints(stores, 2)
        last = sum(1 for _ in stores.state.load_chunks())
        run_sql(
            tmp_path / "state.db", "UPDATE chunks SET crc = 1 WHERE id = ?", (last,)
        )
        with stores.state.open_snapshot() as reader:
            assert reader.read(0, 0)
            with pytest.raises(DamagedFiles, match=rf"chunk {last} was altered"):
                reader.read(last - 1, 0)
