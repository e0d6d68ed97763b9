"""Damaged files are told in one sentence or make no difference; never anything else.

What no store can tell from a crash is a last commit that was never finished, so a
write-ahead log that lost its end may give the state before it, and nothing older than
what the state had been made from.
"""

import asyncio
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from raftd.consensus.types import Index
from raftd.storage.chunks import Row, pack
from raftd.storage.errors import DamagedFiles, StorageError
from raftd.storage.open import Stores
from raftd.storage.types import CheckpointMeta, LogRecovery
from raftd.storage.wal import check_wal
from tests.storage.tools import (
    CLUSTER_ID,
    PEERS,
    copy_directory,
    entries,
    entry,
    meta,
    newest,
    open_node,
    row,
    run_sql,
    write,
)

Image = tuple[
    LogRecovery, CheckpointMeta | None, dict[tuple[int, bytes], bytes], list[Row]
]
OFFER = b"offer"
SAMPLES = 40
Harm = Callable[["History", Path, str, random.Random], Path]


@dataclass
class History:
    """A directory and everything it has been, oldest first."""

    directory: Path
    images: list[Image] = field(default_factory=list)


async def look(directory: Path) -> Image:
    async with open_node(directory) as stores:
        found, state = stores.recovery, stores.state
        rows, staged = newest(list(state.load())), list(state.load_staged(OFFER))
        return found.log, found.checkpoint, rows, staged


async def live(stores: Stores, past: History, scratch: Path) -> None:
    """Do a bit of everything, and remember each state on the way."""

    async def remember() -> None:
        copy = copy_directory(past.directory, scratch / str(len(past.images)))
        past.images.append(await look(copy))

    log, state = stores.log, stores.state
    await stores.bind_cluster(CLUSTER_ID, PEERS)
    await remember()
    await log.write(write(entries(1, 30), hard_state=(1, 2), commit=20))
    await remember()
    await state.checkpoint(meta(10), pack(row(key, b"v" * 90) for key in range(900)))
    await remember()
    await log.write(
        write(entries(28, 60, term=2), hard_state=(2, 1), truncate_from=28, commit=25)
    )
    await remember()
    await state.checkpoint(meta(22), pack([row(1, None), row(2, b"w" * 9000)]))
    await remember()
    await log.cut_prefix(8)
    await remember()
    await state.stage(OFFER, 0, list(pack(row(key, b"s" * 99) for key in range(900))))
    await remember()
    for number in range(12):
        first = 61 + 3 * number
        await log.write(
            write(
                [entry(first, 2, b"x" * 5000), *entries(first + 1, first + 2, 2)],
                commit=30 + number,
            )
        )
        await remember()


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> History:
    """A node that was stopped."""
    past = History(tmp_path_factory.mktemp("clean") / "node")

    async def make() -> None:
        async with open_node(past.directory) as stores:
            await live(stores, past, tmp_path_factory.mktemp("clean-past"))

    asyncio.run(make())
    return past


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> History:
    """A node that was killed: its write-ahead logs hold everything."""
    directory = tmp_path_factory.mktemp("crashed")
    past = History(directory / "running")

    async def make() -> None:
        async with open_node(past.directory) as stores:
            await live(stores, past, tmp_path_factory.mktemp("crashed-past"))
            past.directory = copy_directory(directory / "running", directory / "node")

    asyncio.run(make())
    assert (past.directory / "log.db-wal").stat().st_size > 100_000
    return past


async def outcome(directory: Path) -> Image | None:
    """Recover; None says that one sentence was told, and is told again."""
    try:
        return await look(directory)
    except StorageError as error:
        sentence = str(error)
        assert sentence.endswith("."), sentence
        assert "\n" not in sentence
    with pytest.raises(StorageError):
        await look(directory)
    return None


def knowing(log: LogRecovery, commit: int) -> LogRecovery:
    at_most = min(max(log.commit, commit), log.last_index)
    return msgspec.structs.replace(log, commit=Index(at_most))


def spoil(past: History, target: Path, name: str, chance: random.Random) -> Path:
    """Copy the directory with one bit flipped, or 20 bytes overwritten."""
    shutil.rmtree(target, ignore_errors=True)
    directory = copy_directory(past.directory, target)
    data = bytearray((directory / name).read_bytes())
    at = chance.randrange(len(data))
    if chance.random() < 0.7:
        data[at] ^= 1 << chance.randrange(8)
    else:
        data[at : at + 20] = chance.randbytes(len(data[at : at + 20]))
    (directory / name).write_bytes(data)
    return directory


def truncate(past: History, target: Path, name: str, chance: random.Random) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    directory = copy_directory(past.directory, target)
    data = (directory / name).read_bytes()
    # Some at page borders, where the rest looks whole.
    size = chance.randrange(len(data))
    size -= size % 4096 if chance.random() < 0.3 else 0
    (directory / name).write_bytes(data[:size])
    return directory


@pytest.mark.parametrize("name", ["log.db", "state.db"])
@pytest.mark.parametrize("harm", [spoil, truncate])
async def test_a_stopped_node_sees_damage_or_is_unharmed(
    clean: History, tmp_path: Path, name: str, harm: Harm
) -> None:
    expected = await look(copy_directory(clean.directory, tmp_path / "sound"))
    chance = random.Random(f"{name} {harm.__name__}")
    told = 0
    for _ in range(SAMPLES):
        directory = harm(clean, tmp_path / "harmed", name, chance)
        image = await outcome(directory)
        assert image in (None, expected)
        told += image is None
    assert told > SAMPLES // 5


async def test_damage_in_a_synced_commit_of_the_log_is_told(
    crashed: History, tmp_path: Path
) -> None:
    *_, before, last = crashed.images
    chance = random.Random("log.db-wal")
    told = 0
    for _ in range(SAMPLES):
        directory = spoil(crashed, tmp_path / "harmed", "log.db-wal", chance)
        image = await outcome(directory)
        # The state before is right only if the damage is in the very last commit.
        assert image in (None, before, last)
        told += image is None
    assert told > SAMPLES // 2


async def test_a_log_cut_short_is_an_earlier_one_or_is_told(
    crashed: History, tmp_path: Path
) -> None:
    chance = random.Random("log.db-wal short")
    for _ in range(SAMPLES):
        directory = truncate(crashed, tmp_path / "harmed", "log.db-wal", chance)
        image = await outcome(directory)
        if image is not None:
            # The newer state knows of 22 commits, whatever the log says.
            assert image[0] in [knowing(past[0], 22) for past in crashed.images]
            assert image[0].last_index >= 22, "the state was made from these"
    directory = copy_directory(crashed.directory, tmp_path / "cut to one frame")
    with (directory / "log.db-wal").open("r+b") as file:
        file.truncate(5000)
    assert await outcome(directory) is None


@pytest.mark.parametrize("harm", [spoil, truncate])
async def test_a_damaged_state_is_an_earlier_one_or_is_told(
    crashed: History, tmp_path: Path, harm: Harm
) -> None:
    chance = random.Random(f"state.db-wal {harm.__name__}")
    states = [past[1:] for past in crashed.images]
    last_log = crashed.images[-1][0]
    for _ in range(SAMPLES):
        directory = harm(crashed, tmp_path / "harmed", "state.db-wal", chance)
        image = await outcome(directory)
        if image is not None:
            assert image[0] == last_log
            assert image[1:] in states
            assert image[1] is not None, "the log before entry 8 is gone"


@pytest.mark.parametrize("name", ["log.db", "state.db"])
async def test_a_killed_node_sees_damage_of_its_files_or_is_unharmed(
    crashed: History, tmp_path: Path, name: str
) -> None:
    expected = crashed.images[-1]
    chance = random.Random(f"crashed {name}")
    for _ in range(SAMPLES // 2):
        directory = spoil(crashed, tmp_path / "harmed", name, chance)
        assert await outcome(directory) in (None, expected)


async def make_log(directory: Path, *, commit: int) -> None:
    """Entries 1 to 6 in one write and 7 to 9 in another, as a crash leaves them."""
    running = directory.with_name("running")
    async with open_node(running) as stores:
        await stores.log.write(write(entries(1, 6), hard_state=(1, None)))
        await stores.log.write(write(entries(7, 9), commit=commit))
        copy_directory(running, directory)


ALTER = "UPDATE entries SET payload = x'00' WHERE idx = ?"
REMOVE = "DELETE FROM entries WHERE idx = ?"
ALTER_CRC = "UPDATE entries SET crc = crc + 1 WHERE idx = ?"
ALTER_TERM = "UPDATE entries SET term = 0 WHERE idx = ?"
ALTER_COMMIT = "UPDATE entries SET commit_index = commit_index + 1 WHERE idx = ?"
ALTER_TYPE = "UPDATE entries SET payload = 'text' WHERE idx = ?"


@pytest.mark.parametrize(
    "harm", [ALTER, REMOVE, ALTER_CRC, ALTER_TERM, ALTER_COMMIT, ALTER_TYPE]
)
async def test_damage_in_the_last_write_alone_is_cut(tmp_path: Path, harm: str) -> None:
    node = tmp_path / "node"
    await make_log(node, commit=6)
    run_sql(node / "log.db", harm, (8,))
    async with open_node(node) as stores:
        recovered = stores.recovery.log
        assert (recovered.last_index, recovered.removed_count) == (7, 2)
        assert recovered.tail == entries(1, 7)
        await stores.log.write(write(entries(8, 8), commit=6))
    async with open_node(node) as stores:
        assert stores.recovery.log.tail == entries(1, 8)


@pytest.mark.parametrize("harm", [ALTER, REMOVE, ALTER_CRC, ALTER_TYPE])
@pytest.mark.parametrize(("index", "commit"), [(8, 8), (4, 0), (6, 0), (1, 0)])
async def test_damage_in_what_was_promised_is_told(
    tmp_path: Path, harm: str, index: int, commit: int
) -> None:
    node = tmp_path / "node"
    await make_log(node, commit=commit)
    run_sql(node / "log.db", harm, (index,))
    with pytest.raises(DamagedFiles, match=rf"log\.db is damaged: entry {index} "):
        await look(node)


async def test_damage_below_the_applied_index_is_told(tmp_path: Path) -> None:
    running = tmp_path / "running"
    async with open_node(running) as stores:
        await stores.log.write(write(entries(1, 9), hard_state=(1, None)))
        await stores.state.checkpoint(meta(8), [])
        copy_directory(running, tmp_path / "node")
    run_sql(tmp_path / "node" / "log.db", ALTER, (8,))
    with pytest.raises(DamagedFiles, match="entries up to 8 had been promised"):
        await look(tmp_path / "node")


async def test_a_sealed_log_that_lost_its_end_is_told(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await stores.log.write(write(entries(1, 9), hard_state=(1, None)))
    run_sql(tmp_path / "log.db", REMOVE, (9,))
    with pytest.raises(DamagedFiles, match="entry 9 is missing or altered"):
        await look(tmp_path)


async def test_rows_that_left_their_page_are_told(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    async with open_node(tmp_path) as stores:
        await stores.log.write(write(entries(1, 9), hard_state=(1, None)))
    with closing(sqlite3.connect(path)) as db:
        sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'entries'"
        (page,) = db.execute(sql).fetchone()
    data = bytearray(path.read_bytes())
    start = (page - 1) * 4096
    assert data[start : start + 5 : 4] == b"\x0d\x09", "a leaf with nine rows"
    data[start + 4] = 8
    path.write_bytes(data)
    with pytest.raises(DamagedFiles, match=r"log\.db is damaged: .*Fragmentation"):
        await look(tmp_path)


async def test_reading_back_finds_damage(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await stores.log.write(write(entries(1, 9), hard_state=(1, None)))
        run_sql(tmp_path / "log.db", ALTER, (5,))
        assert stores.log.read(Index(6), Index(9), 999) == entries(6, 8)
        for low in (1, 5):
            with pytest.raises(DamagedFiles, match=r"log\.db is damaged: entry 5"):
                stores.log.read(Index(low), Index(9), 999)


async def test_a_torn_write_ahead_log_is_no_damage(
    crashed: History, tmp_path: Path
) -> None:
    directory = copy_directory(crashed.directory, tmp_path / "node")
    wal = directory / "log.db-wal"
    size = wal.stat().st_size
    with wal.open("r+b") as file:
        file.truncate(size - 100)
    check_wal(directory / "log.db")
    assert await look(directory) == crashed.images[-2]


@pytest.mark.parametrize("name", ["log.db", "state.db"])
async def test_a_schema_that_is_no_text_is_told(tmp_path: Path, name: str) -> None:
    async with open_node(tmp_path):
        pass
    path = tmp_path / name
    whole = path.read_bytes()
    assert whole.count(b"CREATE TABLE") > 1
    path.write_bytes(whole.replace(b"CREATE TABLE", b"CREATE \xceABLE"))

    with pytest.raises(DamagedFiles, match=f"{name} is damaged"):
        async with open_node(tmp_path):
            pass
