"""beanstalkd: one server, in memory or with each job on disk before it is answered.

Every worker has a connection of its own and one command under way on it. The load
program in Go is the fastest such client there is; the one in Python is what an asyncio
application would have.

Source: PERFORMANCE.md; beanstalkd(1) (``-b`` the log's folder, ``-f0`` sync each).
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Final

from cluster.ports import free_ports
from tests.bench.peers.builds import build_go, need_program
from tests.bench.peers.driven import Driven, Roles
from tests.bench.peers.servers import Servers

__all__ = ["Beanstalkd"]

_HOST: Final = "127.0.0.1"
_SERVE_S: Final = 20.0


class Beanstalkd(Driven):
    """One server; its tasks have a connection each in both of its workloads."""

    measures = frozenset({"job-64", "job-64-connections"})

    def __init__(self, *, is_durable: bool, is_python: bool) -> None:
        """Choose.

        Args:
            is_durable: Whether each job is synced to disk.
            is_python: Whether it is loaded by asyncio instead of Go.
        """
        super().__init__()
        self._is_durable = is_durable
        self._is_python = is_python
        self._binary = ""
        self._port = 0
        self.name = (
            f"beanstalkd{' -f0' if is_durable else ''}"
            f"{' (asyncio client)' if is_python else ''}"
        )

    async def find(self) -> list[str]:
        """See ``Driven``."""
        self._binary = need_program("beanstalkd", "beanstalkd")
        told = subprocess.run(
            [self._binary, "-v"], capture_output=True, text=True, check=True
        )
        self.version = told.stdout.split()[-1]
        if self._is_python:
            return [sys.executable, "-m", "tests.bench.peers.beanstalkd_load"]
        return [str(await build_go("beanload"))]

    async def launch(self, servers: Servers, folder: Path) -> None:
        """See ``Driven``."""
        (self._port,) = free_ports(1)
        command = [self._binary, "-l", _HOST, "-p", str(self._port)]
        if self._is_durable:
            data = folder / "log"
            data.mkdir(parents=True)
            command += ["-b", str(data), "-f0"]
        servers.start("server", command)

    async def roles(self) -> Roles:
        """See ``Driven``."""
        await self.servers.until("it listens", self._connect, timeout_s=_SERVE_S)
        pids = {"server": self.servers.pid("server")}
        return Roles(0, pids, (f"{_HOST}:{self._port}",))

    async def _connect(self) -> bool:
        _, writer = await asyncio.open_connection(_HOST, self._port)
        writer.close()
        return True
