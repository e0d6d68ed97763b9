"""Damage around an install is told, or it is as if the install had been done anew."""

import random
from pathlib import Path

import pytest

from raftd.consensus.types import Index, Term
from raftd.storage.chunks import pack
from raftd.storage.open import Stores
from tests.storage.test_damage import (
    OFFER,
    Harm,
    History,
    look,
    outcome,
    spoil,
    truncate,
)
from tests.storage.test_state_store import MARK
from tests.storage.tools import (
    CLUSTER_ID,
    PEERS,
    copy_directory,
    entries,
    meta,
    open_node,
    row,
    write,
)

SAMPLES = 15
CHUNKS = list(pack(row(key, b"s" * 90) for key in range(900)))


async def begin(stores: Stores) -> None:
    await stores.bind_cluster(CLUSTER_ID, PEERS)
    await stores.state.checkpoint(meta(0, 0), [])
    await stores.log.write(write(entries(1, 30), hard_state=(1, 2), commit=20))
    await stores.state.checkpoint(meta(10), pack([row(1, b"old")]))
    await stores.state.stage(OFFER, 0, CHUNKS)


async def finish(stores: Stores) -> None:
    await stores.state.install(OFFER, len(CHUNKS), meta(90, 2, install=MARK))
    await stores.log.reset(Index(90), Term(2), MARK)


@pytest.fixture
async def installed(tmp_path: Path) -> History:
    """A node that was killed right after an install, and what it is."""
    node = tmp_path / "running"
    past = History(tmp_path / "node")
    async with open_node(node) as stores:
        await begin(stores)
        await finish(stores)
        copy_directory(node, past.directory)
    past.images.append(await look(copy_directory(past.directory, tmp_path / "after")))
    return past


@pytest.mark.parametrize("name", ["log.db", "log.db-wal", "state.db", "state.db-wal"])
@pytest.mark.parametrize("harm", [spoil, truncate])
async def test_never_half_an_install(
    installed: History, tmp_path: Path, name: str, harm: Harm
) -> None:
    chance = random.Random(f"install {name} {harm.__name__}")
    found = []
    for _ in range(SAMPLES):
        directory = harm(installed, tmp_path / "harmed", name, chance)
        found.append(await outcome(directory))
    # A log that lost its reset is reset again; a state that lost rows is behind it.
    assert all(image in (None, installed.images[-1]) for image in found)
    if name == "state.db-wal":
        assert None in found


@pytest.mark.parametrize("name", ["log.db-wal", "state.db-wal"])
async def test_a_lost_write_ahead_log_is_told_or_made_up_for(
    installed: History, tmp_path: Path, name: str
) -> None:
    directory = copy_directory(installed.directory, tmp_path / "harmed")
    (directory / name).unlink()
    image = await outcome(directory)
    if name.startswith("state"):
        assert image is None, "the log begins behind this state"
    else:
        assert image in (None, installed.images[-1])
