"""The compose cluster, with the same verbs as ``processes``."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from cluster.ports import free_ports

__all__ = ["Containers"]

_HOST = "127.0.0.1"
_FILE = Path(__file__).with_name("compose.yaml")


class Containers:
    """Three nodes as containers on a network of their own."""

    def __init__(self, project: str) -> None:
        """Choose ports; ``start`` builds and starts.

        Args:
            project: Names containers, network and volumes, so that two runs differ.
        """
        self.client_ports = free_ports(3)
        self._environment = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": project,
            **{
                f"RAFTD_PORT_{index}": str(port)
                for index, port in enumerate(self.client_ports, start=1)
            },
        }
        plugin = subprocess.run(
            ["docker", "compose", "version"], capture_output=True, check=False
        )
        self._compose = (
            ["docker", "compose"] if plugin.returncode == 0 else ["docker-compose"]
        )
        if shutil.which(self._compose[0]) is None:
            raise SystemExit("error: docker compose is not installed")

    @property
    def ids(self) -> range:
        """All node ids."""
        return range(1, len(self.client_ports) + 1)

    @property
    def endpoints(self) -> str:
        """What a client on this machine connects to."""
        return ",".join(f"{_HOST}:{port}" for port in self.client_ports)

    def start(self, *nodes: int) -> None:
        """Build the image if need be, and start these nodes, or all."""
        names = [f"n{node_id}" for node_id in nodes]
        self._run("up", "--detach", *([] if nodes else ["--build"]), *names)

    def kill(self, node_id: int) -> None:
        """Kill a node's container with kill -9."""
        self._run("kill", "-s", "SIGKILL", f"n{node_id}")

    def stop(self) -> None:
        """Take all down, with volumes and network."""
        self._run("down", "--volumes", "--timeout", "20")

    def logs(self) -> str:
        """What the containers have logged."""
        return self._run("logs", "--no-color", "--tail", "50")

    def _run(self, *words: str) -> str:
        command = [*self._compose, "--file", str(_FILE), *words]
        done = subprocess.run(
            command,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"error: {' '.join(command)} failed:\n{done.stdout}")
        return done.stdout

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            print(self.logs())
        self.stop()
