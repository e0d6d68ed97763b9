"""A cluster of three processes for one test, ended by process id whatever happens."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.processes import Processes
from tests.e2e.tools import wait_until_serving

MakeNodes = Callable[..., Processes]


def _end(nodes: Processes) -> None:
    for node_id in nodes.running:
        nodes.signal(node_id, signal.SIGKILL)
    for node_id in nodes.running:
        nodes.kill(node_id)


@pytest.fixture
def make_nodes(tmp_path: Path) -> Iterator[MakeNodes]:
    """Make clusters, not yet started; no node of theirs may log a traceback."""
    made: list[Processes] = []

    def make(*flags: str, size: int = 3) -> Processes:
        nodes = Processes(tmp_path / f"cluster{len(made)}", size, flags)
        made.append(nodes)
        return nodes

    try:
        yield make
    finally:
        for nodes in made:
            _end(nodes)
    for nodes in made:
        for node_id in nodes.ids:
            if nodes.data_dir(node_id).exists():
                assert "Traceback" not in nodes.log(node_id), nodes.log(node_id)


@pytest.fixture
def nodes(make_nodes: MakeNodes) -> Processes:
    """Three nodes that serve, with a mark each second that has writes."""
    made = make_nodes(
        *("--checkpoint-log-bytes", "65536", "--checkpoint-interval-ms", "1000")
    )
    made.start()
    wait_until_serving(made)
    return made
