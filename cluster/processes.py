"""A cluster of real processes on this machine, for the demo and the tests.

Every process is started by its own command line, logs into its own file, and is ended
by its process id; nothing is left behind, also when the caller fails.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from cluster.ports import free_ports

__all__ = ["Processes"]

_HOST = "127.0.0.1"
#: Far more than an end takes: on a busy machine it is still one.
_STOP_S = 60.0
_FRUGAL_FLAGS = ("--ballast-bytes", "1048576")


class Processes:
    """Nodes of one cluster as processes, by number from 1.

    The first nodes have their numbers as ids; who is added later is told its id.
    """

    def __init__(self, folder: Path, size: int = 3, flags: Sequence[str] = ()) -> None:
        """Choose ports; ``start`` starts.

        Args:
            folder: Data and logs go there.
            size: How many nodes.
            flags: More flags of ``raftd serve``, for all nodes.
        """
        ports = self.new_ports(3 * size)
        self._folder = folder
        self._flags = tuple(flags)
        self._first_size = size
        self.client_ports = ports[:size]
        self.peer_ports = ports[size : 2 * size]
        self.http_ports = ports[2 * size :]
        self._node_ids: dict[int, int] = {}
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def ids(self) -> range:
        """All node ids."""
        return range(1, len(self.client_ports) + 1)

    @property
    def running(self) -> list[int]:
        """Ids of nodes that were started and not ended by us."""
        return sorted(self._running)

    @property
    def endpoints(self) -> str:
        """What a client connects to."""
        return ",".join(map(self.endpoint, self.ids))

    def endpoint(self, node_id: int) -> str:
        """Where one node serves clients."""
        return f"{self.host(node_id)}:{self.client_ports[node_id - 1]}"

    def peer_address(self, node_id: int) -> str:
        """Where one node listens for the others."""
        return f"{self.host(node_id)}:{self.peer_ports[node_id - 1]}"

    def host(self, node_id: int) -> str:
        """Where a node is."""
        assert node_id > 0, "nodes count from 1"
        return _HOST

    def new_ports(self, count: int) -> list[int]:
        """Choose ports that nobody else listens on."""
        return free_ports(count)

    def add(self) -> int:
        """Choose ports for one node more; returns its number here."""
        client, peer, http = self.new_ports(3)
        self.client_ports.append(client)
        self.peer_ports.append(peer)
        self.http_ports.append(http)
        return len(self.client_ports)

    def start_joining(self, number: int, node_id: int) -> None:
        """Start a node that was added to the cluster.

        Args:
            number: From ``add``.
            node_id: Its id in the cluster; kept for later starts.
        """
        self._node_ids[number] = node_id
        self.start(number)

    def data_dir(self, node_id: int) -> Path:
        """Where a node keeps its data."""
        return self._folder / f"n{node_id}"

    def log(self, node_id: int) -> str:
        """What a node has logged so far."""
        return (self._folder / f"n{node_id}.log").read_text(errors="replace")

    def command(self, node_id: int) -> list[str]:
        """The command line that serves a node."""
        index = node_id - 1
        return [
            *(sys.executable, "-m", "raftd.server.main", "serve"),
            *self._whom_to_meet(node_id),
            *("--cluster", "local", "--data-dir", str(self.data_dir(node_id))),
            *("--client-listen", self.endpoint(node_id)),
            *("--peer-listen", self.peer_address(node_id)),
            *("--http-listen", f"{self.host(node_id)}:{self.http_ports[index]}"),
            *self.frugal_flags(node_id),
            *self._flags,
        ]

    def frugal_flags(self, node_id: int) -> tuple[str, ...]:
        """Flags that keep many small clusters from filling this machine's disk."""
        assert node_id > 0, "nodes count from 1"
        return _FRUGAL_FLAGS

    def _whom_to_meet(self, number: int) -> list[str]:
        """The first nodes list each other; who came later is told whom to ask."""
        if number > self._first_size:
            node_id = self._node_ids.get(number, number)
            others = [n for n in self.running or self.ids if n != number]
            join = ",".join(map(self.peer_address, others[:9]))
            return ["--node-id", str(node_id), "--join", join]
        members = ",".join(
            f"{i}=n{i}@{self.peer_address(i)}/{self.endpoint(i)}"
            for i in range(1, self._first_size + 1)
        )
        return ["--node-id", str(number), "--members", members]

    def start(self, *nodes: int) -> None:
        """Start these nodes, or all; does not wait until they serve."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for node_id in nodes or self.ids:
            assert node_id not in self._running, f"node {node_id} is running"
            with (self._folder / f"n{node_id}.log").open("ab") as log:
                self._running[node_id] = subprocess.Popen(
                    self.command(node_id),
                    stdout=log,
                    stderr=log,
                    env=self.environment(node_id),
                )

    def environment(self, _node_id: int) -> dict[str, str]:
        """The variables that a node is started with: no setting among them."""
        return {k: v for k, v in os.environ.items() if "RAFT" not in k}

    def pid(self, node_id: int) -> int:
        """The process of a node."""
        return self._running[node_id].pid

    def signal(self, node_id: int, number: signal.Signals) -> None:
        """Send a signal to a node's process."""
        self._running[node_id].send_signal(number)

    def kill(self, node_id: int) -> None:
        """Kill a node with kill -9, and see it dead."""
        process = self._running.pop(node_id)
        process.kill()
        process.wait()

    def terminate(self, node_id: int) -> int:
        """Stop a node cleanly; returns its exit code."""
        self.signal(node_id, signal.SIGTERM)
        return self.wait(node_id)

    def wait(self, node_id: int) -> int:
        """Wait until a node ends by itself; returns its exit code."""
        code = self._running[node_id].wait(_STOP_S)
        del self._running[node_id]
        return code

    def stop(self, *nodes: int) -> None:
        """Stop these nodes, or all, cleanly; kill what does not obey."""
        wanted = [n for n in (nodes or tuple(self._running)) if n in self._running]
        for node_id in wanted:
            self.signal(node_id, signal.SIGCONT)
            self.signal(node_id, signal.SIGTERM)
        for node_id in wanted:
            process = self._running.pop(node_id)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
