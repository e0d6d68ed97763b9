"""Database files that are removed, moved or exchanged under a running node.

What such a node writes no restart would find: it ends with one sentence that names the
file, and touches nothing of what has taken the file's place.

Source: RELIABILITY.md section 5 (deleted or swapped data), rule 46.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import raftclient
from cluster.processes import Processes
from tests.e2e.conftest import MakeNodes
from tests.e2e.tools import leader_of, wait_until_agreed, wait_until_serving

pytestmark = pytest.mark.e2e

FLAGS = ("--checkpoint-log-bytes", "65536", "--checkpoint-interval-ms", "1000")

Harm = Callable[[Path], None]


def remove(file: Path) -> None:
    file.unlink()


def move_away(file: Path) -> None:
    file.rename(file.with_name("elsewhere"))


def exchange(file: Path) -> None:
    """Put a copy in its place, with a write-ahead log beside it."""
    copy = file.with_name("copy")
    shutil.copy(file, copy)
    copy.rename(file)


def move_directory(file: Path) -> None:
    file.parent.rename(file.parent.with_name("elsewhere"))


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("log.db", remove),
        ("state.db", exchange),
        pytest.param("log.db-wal", remove, marks=pytest.mark.slow),
        pytest.param("log.db", exchange, marks=pytest.mark.slow),
        pytest.param("state.db", move_away, marks=pytest.mark.slow),
        pytest.param("log.db", move_directory, marks=pytest.mark.slow),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_node_whose_files_went_away_ends_with_one_sentence(
    make_nodes: MakeNodes, name: str, harm: Harm
) -> None:
    nodes = make_nodes(*FLAGS, size=1)
    nodes.start()
    wait_until_serving(nodes)
    with raftclient.connect(nodes.endpoints, timeout_s=60) as client:
        client.put("a", b"1")
    file = nodes.data_dir(1) / name
    harm(file)
    assert nodes.wait(1) == 1
    assert told(nodes, 1).startswith(f"error: {file} was ")


def test_what_takes_a_files_place_is_left_as_it_is(make_nodes: MakeNodes) -> None:
    """SQLite removes a write-ahead log by name: it might be another node's."""
    nodes = make_nodes(*FLAGS, size=1)
    nodes.start()
    wait_until_serving(nodes)
    data_dir = nodes.data_dir(1)
    data_dir.rename(data_dir.with_name("elsewhere"))
    data_dir.mkdir()
    for name in ("log.db", "log.db-wal", "state.db", "state.db-wal"):
        (data_dir / name).write_bytes(b"somebody else's")
    assert nodes.wait(1) == 1
    assert "was replaced" in told(nodes, 1)
    found = {path.name: path.read_bytes() for path in data_dir.iterdir()}
    assert set(found.values()) == {b"somebody else's"}
    assert len(found) == 4


def test_the_others_go_on_and_the_right_file_brings_it_back(
    make_nodes: MakeNodes,
) -> None:
    nodes = make_nodes(*FLAGS)
    nodes.start()
    wait_until_serving(nodes)
    with raftclient.connect(nodes.endpoints, timeout_s=60) as client:
        for _ in range(50):
            client.incr("n")
        leader = leader_of(nodes)
        data_dir = nodes.data_dir(leader)
        data_dir.rename(data_dir.with_name("elsewhere"))
        assert nodes.wait(leader) == 1
        for _ in range(50):
            client.incr("n")
        data_dir.with_name("elsewhere").rename(data_dir)
        nodes.start(leader)
        wait_until_serving(nodes)
        assert client.incr("n") == 101
        wait_until_agreed(nodes)


def told(nodes: Processes, node_id: int) -> str:
    (line,) = [
        line for line in nodes.log(node_id).splitlines() if line.startswith("error: ")
    ]
    return line
