"""etcd: three servers with their defaults, loaded through Go's clientv3.

Source: PERFORMANCE.md; etcd's own documentation of its flags and its JSON gateway.
"""

from __future__ import annotations

import asyncio
import http.client
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from cluster.ports import free_ports
from tests.bench.measure import by_role
from tests.bench.peers.base import PeerFailed
from tests.bench.peers.builds import build_go, need_program
from tests.bench.peers.driven import Driven, Roles
from tests.bench.peers.program import Order
from tests.bench.peers.servers import Servers

__all__ = ["Etcd"]

_SIZE: Final = 3
_SERVE_S: Final = 60.0
_ASK_S: Final = 2.0
_CLIENT_PACKAGE: Final = ("go.etcd.io/etcd/clientv3", "golang-etcd-server-dev")


class _Header(msgspec.Struct):
    member_id: str


class _Status(msgspec.Struct):
    header: _Header
    leader: str = ""


class Etcd(Driven):
    """A cluster of three; ``base.FailoverPeer``."""

    name = "etcd"
    measures = frozenset(
        {"put-1", "put-64", "put-1000", "get-64", "get-1000", "lock-64", "handover"}
    )

    def __init__(
        self,
        hosts: Sequence[str] = ("127.0.0.1",) * _SIZE,
        enter: Callable[[int], Sequence[str]] = lambda _number: (),
    ) -> None:
        """Say where its servers live.

        Args:
            hosts: Their addresses.
            enter: Returns, for a server's number from 0, what to put before its
                command, so that it starts where it has that address.
        """
        super().__init__()
        assert len(hosts) == _SIZE, "one address for each server"
        self._hosts = tuple(hosts)
        self._enter = enter
        self._binary = ""
        self._commands: list[list[str]] = []
        self._clients: list[str] = []

    async def find(self) -> list[str]:
        """See ``Driven``."""
        self._binary = need_program("etcd", "etcd-server")
        told = subprocess.run(
            [self._binary, "--version"], capture_output=True, text=True, check=True
        )
        self.version = told.stdout.split("\n")[0].rpartition(" ")[2]
        return [str(await build_go("etcdload", _CLIENT_PACKAGE))]

    async def launch(self, servers: Servers, folder: Path) -> None:
        """See ``Driven``."""
        ports = free_ports(2 * _SIZE)
        named = [f"{self._hosts[at % _SIZE]}:{port}" for at, port in enumerate(ports)]
        self._clients, peers = named[:_SIZE], named[_SIZE:]
        everybody = ",".join(f"n{at}=http://{peers[at]}" for at in range(_SIZE))
        self._commands = [
            [
                *(*self._enter(at), self._binary, "--name", f"n{at}"),
                *("--data-dir", str(folder / f"n{at}")),
                *("--listen-client-urls", f"http://{self._clients[at]}"),
                *("--advertise-client-urls", f"http://{self._clients[at]}"),
                *("--listen-peer-urls", f"http://{peers[at]}"),
                *("--initial-advertise-peer-urls", f"http://{peers[at]}"),
                *("--initial-cluster", everybody),
            ]
            for at in range(_SIZE)
        ]
        for at in range(_SIZE):
            self._start(servers, at)

    def _start(self, servers: Servers, at: int) -> None:
        servers.start(f"n{at}", self._commands[at])

    async def roles(self) -> Roles:
        """See ``Driven``."""
        leader = await self.servers.until(
            "all servers follow one leader", self._leader, timeout_s=_SERVE_S
        )
        pids = {at: self.servers.pid(f"n{at}") for at in range(_SIZE)}
        return Roles(
            leader,
            by_role(pids, leader),
            # Measured: any other server costs its rates a sixth and more.
            (self._clients[leader],),
        )

    async def _leader(self) -> int | None:
        asked = (asyncio.to_thread(_ask, client) for client in self._clients)
        told = await asyncio.gather(*asked)
        leaders = {status.leader for status in told}
        members = [status.header.member_id for status in told]
        is_one = len(leaders) == 1 and told[0].leader in members
        return members.index(told[0].leader) if is_one else None

    async def kill_leader(self) -> float:
        """See ``base.FailoverPeer``."""
        return await self.lose_leader(self._kill, self._restart)

    def _kill(self, at: int) -> None:
        self.servers.kill(f"n{at}")

    def _restart(self, at: int) -> None:
        self._start(self.servers, at)

    async def lose_leader(
        self, strike: Callable[[int], None], mend: Callable[[int], None]
    ) -> float:
        """Take the leader away under a writer, then bring it back.

        Args:
            strike: Takes away the server with this number.
            mend: Brings it back, or has it come back.

        Returns:
            Seconds from the strike to the acknowledgement of a write begun after it.

        Raises:
            PeerFailed: No write was acknowledged, or one was lost.
        """
        self.servers.wake()
        roles = await self.roles()
        order = Order(
            measure="failover",
            endpoints=tuple(self._clients),
            prefix=self.new_prefix("failover"),
        )

        def at_once() -> Order:
            killed_ns = time.time_ns()
            strike(roles.leader)
            return Order(killed_ns=killed_ns)

        done = await self.program.ask(order, begin=at_once)
        mend(roles.leader)
        if done.found != done.acknowledged:
            raise PeerFailed(
                f"failover: {done.acknowledged} writes were acknowledged,"
                f" {done.found} were found"
            )
        return done.pause_s


def _ask(client: str) -> _Status:
    """Ask a server how it is."""
    connection = http.client.HTTPConnection(client, timeout=_ASK_S)
    try:
        connection.request("POST", "/v3/maintenance/status", b"{}")
        answer = connection.getresponse()
        body = answer.read()
    except http.client.HTTPException as error:
        raise ConnectionError(f"{client}: {error!r}") from error
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise ConnectionError(f"{client}: status {answer.status}")
    return msgspec.json.decode(body, type=_Status)
