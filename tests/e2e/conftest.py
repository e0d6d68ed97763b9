"""A cluster of three processes for one test, ended by process id whatever happens."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.processes import Processes
from tests.e2e.tools import wait_until_serving

MakeNodes = Callable[..., Processes]

_TIMEOUT_S = 400
"""A test of real processes takes many times as long on a busy machine."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test of this folder time, unless it says how much."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(_TIMEOUT_S))


def _end(nodes: Processes) -> None:
    for node_id in nodes.running:
        nodes.signal(node_id, signal.SIGKILL)
    for node_id in nodes.running:
        nodes.kill(node_id)


@contextlib.contextmanager
def _maker(folder: Path) -> Iterator[MakeNodes]:
    made: list[Processes] = []

    def make(
        *flags: str, size: int = 3, kind: type[Processes] = Processes
    ) -> Processes:
        nodes = kind(folder / f"cluster{len(made)}", size, flags)
        made.append(nodes)
        return nodes

    try:
        yield make
    finally:
        for nodes in made:
            _end(nodes)
    for log in folder.glob("cluster*/n*.log"):
        text = log.read_text(errors="replace")
        assert "Traceback" not in text, text


@pytest.fixture
def make_nodes(tmp_path: Path) -> Iterator[MakeNodes]:
    """Make clusters, not yet started; no node of theirs may log a traceback."""
    with _maker(tmp_path) as make:
        yield make


@pytest.fixture(scope="module")
def make_lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeNodes]:
    """Make clusters as ``make_nodes`` does, for all tests of a file."""
    with _maker(tmp_path_factory.mktemp("lasting")) as make:
        yield make


@pytest.fixture(scope="module")
def lone(make_lasting: MakeNodes) -> Processes:
    """A cluster of one that serves, for all tests of a file that leave it whole."""
    made = make_lasting(size=1)
    made.start()
    wait_until_serving(made)
    return made


@pytest.fixture
def nodes(make_nodes: MakeNodes) -> Processes:
    """Three nodes that serve, with a mark each second that has writes."""
    made = make_nodes(
        *("--checkpoint-log-bytes", "65536", "--checkpoint-interval-ms", "1000")
    )
    made.start()
    wait_until_serving(made)
    return made
