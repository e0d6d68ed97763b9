"""Damaged database files: the node says which, stops, and leaves them as they are.

The storage tests flip every byte; here a few are flipped under whole processes.

Source: RELIABILITY.md rules 49 and 50, section 5 (corrupted byte, truncated file).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import raftclient
from cluster.processes import Processes
from tests.e2e.conftest import MakeNodes
from tests.e2e.refusals import refused
from tests.e2e.tools import told_by, wait_until_serving

pytestmark = pytest.mark.e2e

NEEDLE = b"a value that can be found in the file"

Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def sound(
    make_lasting: MakeNodes, tmp_path_factory: pytest.TempPathFactory
) -> Processes:
    """A stopped cluster of one with a checkpoint, and entries behind it."""
    # No checkpoint by itself, which would cut what is to be damaged.
    nodes = make_lasting("--checkpoint-interval-ms", "86400000", size=1)
    nodes.start()
    wait_until_serving(nodes)
    with raftclient.connect(nodes.endpoints, timeout_s=60) as client:
        client.put("a", NEEDLE)
        client.cluster.backup(tmp_path_factory.mktemp("backup") / "b")
        assert told_by(nodes, 1).checkpoint_index > 0, "a backup has one taken"
        for number in range(100):
            client.put(f"k{number}", NEEDLE)
    nodes.stop()
    whole = nodes.data_dir(1).with_name("whole")
    shutil.copytree(nodes.data_dir(1), whole)
    return nodes


@pytest.fixture
def data_dir(sound: Processes) -> Path:
    """The node's files, whole again."""
    data_dir = sound.data_dir(1)
    shutil.rmtree(data_dir)
    shutil.copytree(data_dir.with_name("whole"), data_dir)
    return data_dir


def cut_in_half(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


def cut_to_nothing(file: Path) -> None:
    file.write_bytes(b"")


def flip_bit_of_a_value(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[data.index(NEEDLE)] ^= 1
    file.write_bytes(data)


def flip_bit_of_an_entry(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[data.index(b"k50")] ^= 1
    file.write_bytes(data)


def flip_bit_of_the_last_entry(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[data.index(b"k99")] ^= 1
    file.write_bytes(data)


def flip_bit_of_the_header(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[3] ^= 1
    file.write_bytes(data)


def remove(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("log.db", cut_in_half),
        ("log.db", cut_to_nothing),
        ("log.db", flip_bit_of_an_entry),
        ("log.db", flip_bit_of_the_last_entry),
        ("log.db", flip_bit_of_the_header),
        ("log.db", remove),
        ("state.db", cut_in_half),
        ("state.db", cut_to_nothing),
        ("state.db", flip_bit_of_the_header),
        ("state.db", remove),
    ],
)
def test_a_damaged_file_is_named_and_left_alone(
    sound: Processes, data_dir: Path, name: str, damage: Damage
) -> None:
    damage(data_dir / name)
    file = data_dir / name
    damaged = file.read_bytes() if file.exists() else None
    sentence = refused(sound.command(1))
    assert str(file) in sentence
    assert (file.read_bytes() if file.exists() else None) == damaged


def test_a_damaged_chunk_is_told_at_each_start(
    sound: Processes, data_dir: Path
) -> None:
    """It is found late, when rows are read; nothing is mended in silence."""
    flip_bit_of_a_value(data_dir / "state.db")
    sentence = refused(sound.command(1))
    assert str(data_dir / "state.db") in sentence
    assert refused(sound.command(1)) == sentence


def test_undamaged_files_serve_all_they_held(sound: Processes, data_dir: Path) -> None:
    assert data_dir.exists()
    sound.start()
    try:
        with raftclient.connect(sound.endpoints, timeout_s=60) as client:
            assert client.count(prefix="k") == 100
    finally:
        sound.stop()


def test_a_torn_end_of_an_unsynced_write_is_harmless(
    sound: Processes, data_dir: Path
) -> None:
    """What stands half-written behind the last commit was promised to nobody."""
    sound.start()
    try:
        with raftclient.connect(sound.endpoints, timeout_s=60) as client:
            client.put("k100", NEEDLE)
        sound.kill(1)
        with (data_dir / "log.db-wal").open("ab") as wal:
            wal.write(b"\0torn" * 100)
        sound.start()
        with raftclient.connect(sound.endpoints, timeout_s=60) as client:
            assert client.count(prefix="k") == 101
    finally:
        sound.stop()
