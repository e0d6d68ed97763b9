"""``raftd dev``: a cluster in one terminal that keeps itself up, and leaves nothing.

Source: CLI.md; DESIGN.md section 8.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import raftclient
from tests.e2e.tools import eventually
from tests.ports import free_range

pytestmark = pytest.mark.e2e

STOP_S = 40.0
PATIENCE_S = 60.0
PORTS = 23
"""In a row, from the first of node 1 to the last of node 3."""


class Dev:
    """A running ``raftd dev``."""

    def __init__(self, process: subprocess.Popen[str], data_dir: Path) -> None:
        self.process = process
        self.data_dir = data_dir
        assert process.stdout is not None, "a pipe was asked for"
        self.greeting = ""
        while "Ctrl-C" not in self.greeting:
            line = process.stdout.readline()
            assert line, self.greeting
            self.greeting += line
        found = re.search(r"export RAFTCTL_ENDPOINTS=(\S+)\n", self.greeting)
        assert found, self.greeting
        self.endpoints = found[1]

    def pid(self, node_id: int) -> int:
        """Return the process that holds a node's data directory; 0 = unknown yet."""
        return int((self.data_dir / f"n{node_id}" / "lock").read_text() or 0)

    @property
    def pids(self) -> list[int]:
        return [self.pid(node_id) for node_id in (1, 2, 3)]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def dev(data_dir: Path, port: int) -> Iterator[Dev]:
    """Run ``raftd dev`` from a port on; its nodes are ended whatever happens."""
    variables = {k: v for k, v in os.environ.items() if "RAFT" not in k}
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "raftd.server.main", "dev"),
            *("--port", str(port), "--data-dir", str(data_dir)),
        ],
        stdout=subprocess.PIPE,
        text=True,
        env=variables,
    )
    with process:
        try:
            yield Dev(process, data_dir)
        finally:
            if process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_S)
                process.kill()


def check_counts(endpoints: str, expected: int) -> None:
    with raftclient.connect(endpoints, timeout_s=PATIENCE_S) as client:
        assert client.incr("n") == expected


def test_dev_serves_restarts_what_is_killed_and_leaves_no_process(
    tmp_path: Path,
) -> None:
    data_dir, port = tmp_path / "dev", free_range(PORTS)
    with dev(data_dir, port) as running:
        assert len(running.endpoints.split(",")) == 3
        assert f'raftclient.connect("{running.endpoints}")' in running.greeting
        check_counts(running.endpoints, 1)
        first = running.pid(1)
        os.kill(first, signal.SIGKILL)
        eventually(lambda: running.pid(1) not in {0, first}, "node 1 is started again")
        check_counts(running.endpoints, 2)
        pids = running.pids
        assert all(is_running(pid) for pid in pids)
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(STOP_S) == 0
        assert not any(is_running(pid) for pid in pids)
        endpoints = running.endpoints
    with dev(data_dir, 0) as running:
        assert running.endpoints == endpoints, "a folder keeps its ports"
        check_counts(running.endpoints, 3)


def test_dev_refuses_a_folder_of_another_size(tmp_path: Path) -> None:
    (tmp_path / "ports.json").write_text("[[1, 2, 3]]")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "raftd.server.main", "dev"),
            *("--data-dir", str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        timeout=STOP_S,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"error: {tmp_path} holds a cluster of 1 nodes, not of 3; give another"
        " --data-dir\n"
    )
