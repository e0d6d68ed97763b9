"""ZooKeeper: three servers with their defaults, loaded through its Java client.

Servers and load program run in JVMs that are slow at first: ``start`` loads them until
they are not. Hand-over is by the recipe of ZooKeeper's documentation, in Java.

Source: PERFORMANCE.md; ZooKeeper's administrator's guide (settings, command ``srvr``).
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Final

from cluster.ports import free_ports
from tests.bench.measure import by_role
from tests.bench.peers.builds import build_java, need_file, need_program
from tests.bench.peers.driven import Driven, Roles
from tests.bench.peers.program import Order
from tests.bench.peers.servers import Servers

__all__ = ["ZooKeeper"]

_HOST: Final = "127.0.0.1"
_SIZE: Final = 3
_SERVE_S: Final = 60.0
_JARS: Final = Path("/usr/share/java")  # where Debian keeps them
_LOG_LEVEL: Final = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
_SERVER: Final = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
_MODE: Final = re.compile(rb"^Mode: (\w+)$", re.MULTILINE)
#: What its own example of a configuration says; the rest are ports and folders.
_CONFIGURATION: Final = """\
tickTime=2000
initLimit=10
syncLimit=5
admin.enableServer=false
clientPortAddress={host}
clientPort={port}
dataDir={folder}
{servers}
"""


class ZooKeeper(Driven):
    """An ensemble of three."""

    name = "zookeeper"
    measures = frozenset({"put-1", "put-64", "put-1000", "handover"})

    def __init__(self, heat_s: float) -> None:
        """Say how long ``start`` loads it before it is measured."""
        super().__init__()
        self._heat_s = heat_s
        self._java: list[str] = []
        self._ports: list[int] = []

    async def find(self) -> list[str]:
        """See ``Driven``."""
        java = need_program("java", "default-jre-headless")
        jar = need_file(_JARS / "zookeeper.jar", "libzookeeper-java")
        log = need_file(_JARS / "slf4j-simple.jar", "libslf4j-java")
        versions = sorted(_JARS.glob("zookeeper-[0-9]*.jar"))
        self.version = versions[0].stem.rpartition("-")[2] if versions else "unknown"
        path = f"{jar}:{log}"
        classes = await build_java(path)
        self._java = [java, _LOG_LEVEL, "-cp", path]
        return [*self._java[:-1], f"{classes}:{path}", "ZooKeeperLoad"]

    async def launch(self, servers: Servers, folder: Path) -> None:
        """See ``Driven``."""
        ports = free_ports(3 * _SIZE)
        self._ports = ports[:_SIZE]
        peers = zip(ports[_SIZE : 2 * _SIZE], ports[2 * _SIZE :], strict=True)
        everybody = "\n".join(
            f"server.{number}={_HOST}:{port}:{election_port}"
            for number, (port, election_port) in enumerate(peers, 1)
        )
        for number, port in enumerate(self._ports, 1):
            data = folder / f"n{number}"
            data.mkdir(parents=True)
            (data / "myid").write_text(str(number))
            file = folder / f"n{number}.cfg"
            file.write_text(
                _CONFIGURATION.format(
                    host=_HOST, port=port, folder=data, servers=everybody
                )
            )
            servers.start(f"n{number}", [*self._java, _SERVER, str(file)])

    async def roles(self) -> Roles:
        """See ``Driven``."""
        leader = await self.servers.until(
            "two servers follow the third", self._leader, timeout_s=_SERVE_S
        )
        pids = {at: self.servers.pid(f"n{at + 1}") for at in range(_SIZE)}
        return Roles(
            leader,
            by_role(pids, leader),
            # Measured: with the others its rates are the same or less.
            (f"{_HOST}:{self._ports[leader]}",),
        )

    async def _leader(self) -> int | None:
        modes = await asyncio.gather(*map(_mode, self._ports))
        is_whole = sorted(modes) == [b"follower", b"follower", b"leader"]
        return modes.index(b"leader") if is_whole else None

    def rest(self) -> None:
        """Leave the servers alone: idle, they use no time that could be measured.

        Stopped for longer than ``syncLimit`` allows, they would elect a leader anew
        when they go on, in the midst of a run.
        """

    async def heat(self) -> None:
        """See ``Driven``."""
        if not self._heat_s:
            return
        roles = await self.roles()
        for measure, tasks in (("put-1000", 1000), ("put-64", 64)):
            order = Order(
                measure=measure,
                endpoints=roles.endpoints,
                prefix=self.new_prefix(f"heat-{measure}"),
                tasks=tasks,
                measured_s=self._heat_s / 2,
            )
            await self.program.run(order, roles.pids)


async def _mode(port: int) -> bytes:
    """Ask a server what it is; nothing if it does not serve."""
    async with asyncio.timeout(2.0):
        reader, writer = await asyncio.open_connection(_HOST, port)
        try:
            writer.write(b"srvr")
            told = await reader.read()
        finally:
            writer.close()
    found = _MODE.search(told)
    return found[1] if found else b""
