"""A node that cannot or must not start says why in one sentence, and changes nothing.

Source: CLI.md (errors); ERRORS.md; RELIABILITY.md rule 46 and section 5 (deleted and
swapped data directories).
"""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest

from cluster.processes import Processes
from tests.e2e.conftest import MakeNodes
from tests.e2e.refusals import end_of, refused
from tests.e2e.tools import wait_until_serving
from tests.ports import HOST

pytestmark = pytest.mark.e2e


@pytest.fixture
def idle(make_nodes: MakeNodes) -> Processes:
    """A cluster of one that does not run."""
    return make_nodes(size=1)


def set_flag(command: list[str], flag: str, value: str) -> list[str]:
    """Give a flag of a command line another value."""
    changed = list(command)
    changed[changed.index(flag) + 1] = value
    return changed


@pytest.mark.parametrize(
    ("flag", "word"),
    [
        ("--client-listen", "clients"),
        ("--peer-listen", "peers"),
        ("--http-listen", "HTTP"),
    ],
)
def test_a_port_in_use_is_named_with_its_purpose(
    idle: Processes, flag: str, word: str
) -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        address = f"{HOST}:{other.getsockname()[1]}"
        sentence = refused(set_flag(idle.command(1), flag, address))
    assert f"cannot listen for {word} on {address}" in sentence
    assert "in use" in sentence.lower()


def test_a_typo_in_the_file_is_told_with_the_name_meant(
    idle: Processes, tmp_path: Path
) -> None:
    file = tmp_path / "raftd.toml"
    file.write_text("heartbeat = 50\n")
    sentence = refused([*idle.command(1), "--config", str(file)], 2)
    assert sentence == (
        f"{file}: unknown key 'heartbeat' (did you mean 'heartbeat_ms'?)."
    )


def test_a_typo_in_a_variable_is_told_with_the_name_meant(idle: Processes) -> None:
    sentence = refused(idle.command(1), 2, {"RAFTD_HEARTBEET_MS": "50"})
    assert sentence == (
        "unknown variable 'RAFTD_HEARTBEET_MS' (did you mean 'RAFTD_HEARTBEAT_MS'?)."
    )


def test_a_typo_in_a_flag_is_told_with_the_name_meant(idle: Processes) -> None:
    sentence = refused([*idle.command(1), "--heartbeet-ms", "50"], 2)
    assert "--heartbeet-ms" in sentence
    assert "--heartbeat-ms" in sentence


def test_a_value_out_of_range_is_told_with_its_range(idle: Processes) -> None:
    sentence = refused([*idle.command(1), "--heartbeat-ms", "5"], 2)
    assert sentence == (
        "--heartbeat-ms: heartbeat_ms must be a whole number from 10 to 10000,"
        " but 5 is out of range."
    )


def test_a_second_process_on_a_data_directory_is_refused(lone: Processes) -> None:
    sentence = refused(lone.command(1))
    assert sentence == (
        f"{lone.data_dir(1)} is in use by another raftd (process {lone.pid(1)})."
    )
    wait_until_serving(lone)


def test_the_directory_of_a_cluster_with_another_name_is_refused(
    idle: Processes,
) -> None:
    idle.start()
    wait_until_serving(idle)
    idle.stop()
    sentence = refused(set_flag(idle.command(1), "--cluster", "other"))
    assert 'belongs to cluster "local", not to "other"' in sentence
    assert str(idle.data_dir(1)) in sentence
    assert sentence.endswith("check the settings, or take an empty data directory.")


def test_a_lost_file_is_told_with_the_way_back(idle: Processes) -> None:
    idle.start()
    wait_until_serving(idle)
    idle.stop()
    (idle.data_dir(1) / "log.db").unlink()
    sentence = refused(idle.command(1))
    assert "log.db is missing beside" in sentence
    assert sentence.endswith(
        "; if the files cannot be put back: raftctl member replace."
    )


def test_the_directory_of_another_node_is_refused(nodes: Processes) -> None:
    nodes.stop(2, 3)
    aside = nodes.data_dir(2).with_name("aside")
    nodes.data_dir(2).rename(aside)
    nodes.data_dir(3).rename(nodes.data_dir(2))
    aside.rename(nodes.data_dir(3))
    for node_id, other in ((2, 3), (3, 2)):
        sentence = refused(nodes.command(node_id))
        assert str(nodes.data_dir(node_id)) in sentence
        assert f"node {other}" in sentence
        assert f"node {node_id}" in sentence


def test_the_directory_of_another_cluster_of_the_name_is_refused(
    nodes: Processes, make_nodes: MakeNodes
) -> None:
    other = make_nodes()
    other.start()
    wait_until_serving(other)
    other.stop()
    nodes.stop(3)
    shutil.rmtree(nodes.data_dir(3))
    shutil.copytree(other.data_dir(3), nodes.data_dir(3))
    sentence = refused(nodes.command(3))
    assert "data directory of member 3 belongs to another cluster" in sentence
    wait_until_serving(nodes, [1, 2])


def test_a_blank_disk_under_a_known_name_is_refused(nodes: Processes) -> None:
    nodes.stop(3)
    shutil.rmtree(nodes.data_dir(3))
    nodes.start(3)
    sentence = end_of(nodes, 3)
    assert "member 3" in sentence
    assert "incarnation" in sentence
    assert "blank" in sentence
    wait_until_serving(nodes, [1, 2])
