"""A stopped node's files with pages exchanged, doubled, blanked, cut or overwritten.

``tests/storage/test_damage.py`` flips bits and cuts files one at a time. Here several
harms meet, of the size that disks and careless copies do: whole pages, of this file or
of the other one. A start is refused with one sentence that names the file, the files
left as they are, or the state and the log are what they were.

Source: RELIABILITY.md rules 46 and 50.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Final

import pytest
from hypothesis import strategies as st

from raftd.consensus.types import Index
from raftd.statemachine.machine import Machine
from raftd.storage.chunks import pack
from raftd.storage.directory import LOG_NAME, STATE_NAME
from raftd.storage.errors import StorageError
from tests.fuzz.profiles import fuzzed
from tests.fuzz.states import RICH_LIMITS, rich_harness
from tests.statemachine.harness import Disk
from tests.storage.tools import (
    CLUSTER_ID,
    PEERS,
    copy_directory,
    entries,
    meta,
    newest,
    open_node,
    snapshot_files,
    write,
)

PAGE_BYTES: Final = 4096
FILES: Final = (LOG_NAME, STATE_NAME)
RICH: Final = rich_harness()
Seen = tuple[object, Disk, int]

Harm = tuple[str, str, int, int, bytes]
"""What, to which file, at which page, with which other page, with which bytes."""
HARMS: Final = st.lists(
    st.tuples(
        st.sampled_from(["exchange", "double", "blank", "take", "cut", "add", "write"]),
        st.sampled_from(FILES),
        st.integers(0, 30),
        st.integers(0, 30),
        st.binary(min_size=1, max_size=40),
    ),
    min_size=1,
    max_size=3,
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a state of every table and a log behind it, stopped."""
    directory = tmp_path_factory.mktemp("sound") / "node"
    rows = [(table, key, value) for (table, key), value in RICH.disk.items()]

    async def make() -> None:
        async with open_node(directory) as stores:
            await stores.bind_cluster(CLUSTER_ID, PEERS)
            await stores.log.write(write(entries(1, 60), hard_state=(1, 2), commit=50))
            await stores.state.checkpoint(meta(40), pack(rows[: len(rows) // 2]))
            await stores.state.checkpoint(meta(45), pack(rows[len(rows) // 2 :]))
            await stores.log.write(write(entries(61, 80), commit=55))

    asyncio.run(make())
    return directory


async def look(directory: Path) -> Seen:
    """Open, load and read all there is."""
    async with open_node(directory) as stores:
        rows = list(stores.state.load())
        machine = Machine.load(RICH_LIMITS, rows, index=45, digest=bytes(32))
        assert machine.revision == RICH.machine.revision
        end = Index(stores.recovery.log.last_index + 1)
        log = stores.log.read(Index(1), end, 1 << 30)
        identity = stores.recovery.log.hard_state, stores.identity.cluster_id
        return (log, identity), newest(rows), stores.recovery.log.commit


def do_harm(directory: Path, harms: list[Harm]) -> None:
    for what, name, page, other, data in harms:
        file = directory / name
        pages = _pages(file)
        rest = _pages(directory / FILES[FILES.index(name) - 1])
        at = page % max(1, len(pages))
        match what:
            case "exchange" if pages:
                there = other % len(pages)
                pages[at], pages[there] = pages[there], pages[at]
            case "double" if pages:
                pages[other % len(pages)] = pages[at]
            case "blank" if pages:
                pages[at] = bytes(PAGE_BYTES)
            case "take" if pages and rest:
                pages[at] = rest[other % len(rest)]
            case "cut":
                pages = pages[:at]
            case "add":
                pages.append(data * other)
            case "write" if pages:
                place = other * 131
                left, right = pages[at][:place], pages[at][place + len(data) :]
                pages[at] = (left + data + right)[: len(pages[at])]
            case _:
                pass
        file.write_bytes(b"".join(pages))


def _pages(file: Path) -> list[bytes]:
    data = file.read_bytes()
    return [data[at : at + PAGE_BYTES] for at in range(0, len(data), PAGE_BYTES)]


@pytest.fixture(scope="module")
def expected(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What the directory means."""
    copy = copy_directory(sound, tmp_path_factory.mktemp("expected") / "node")
    return asyncio.run(look(copy))


@pytest.fixture
def harmed(tmp_path: Path) -> Path:
    """Where the harmed copies go; each takes the place of the one before."""
    return tmp_path / "harmed"


@fuzzed(60, harms=HARMS)
def test_harmed_files_are_told_and_left_or_mean_what_they_meant(
    sound: Path, expected: Seen, harmed: Path, harms: list[Harm]
) -> None:
    copy_directory(sound, harmed)
    try:
        do_harm(harmed, harms)
        before = snapshot_files(harmed)
        try:
            found = asyncio.run(look(harmed))
        except StorageError as error:
            sentence = str(error)
            assert sentence.endswith("."), sentence
            assert "\n" not in sentence
            assert str(harmed) in sentence
            assert any(name in sentence for name in FILES), sentence
            assert snapshot_files(harmed) == before
        else:
            assert found == expected
    finally:
        shutil.rmtree(harmed)
