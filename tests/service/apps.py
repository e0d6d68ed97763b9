"""The composition root of production over a simulated disk, links and clock.

Rules: ``raftd.server.app`` wires everything; only what it would open (data directory,
peer links, HTTP) is handed to it. A write of the core, a message and a checkpoint are
shown to the watcher on their way.

Source: ``raftd.server.app``; ``tests.sim.parts``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, Final

import raftd.server.app as production
from raftd.consensus.types import NodeId
from raftd.node.errors import LinkDown
from raftd.node.member_sight import Shown
from raftd.node.roster import LEVEL, MemberRecord, Roster
from raftd.server import state_view
from raftd.server.app import App
from raftd.server.option_kinds import Address, Member
from raftd.server.settings import Settings
from raftd.statemachine.answers import AppliedEntry
from raftd.statemachine.machine import Machine
from raftd.storage.errors import StorageError
from raftd.transport.greeting import Formed
from tests.service.loop import ServiceLoop, current_loop
from tests.sim.network import Network
from tests.sim.options import Options
from tests.sim.ports import DiskPort, Files, LogPort, PeerPort, SimClock, StatePort
from tests.sim.watcher import WatchedCore, Watcher

__all__ = [
    "CLUSTER_ID",
    "Links",
    "ServiceApp",
    "client_address",
    "node_record",
    "simulated",
]

CLUSTER_ID: Final = b"service-level-b!"
_PORT: Final = 7400


def client_address(node_id: int) -> str:
    """Return where clients find a node."""
    return f"n{node_id}:{_PORT}"


def node_record(node_id: int) -> MemberRecord:
    """Return what the roster says of a node."""
    shown = _shown(node_id)
    return MemberRecord(
        NodeId(node_id),
        shown.name,
        shown.peer_address,
        shown.client_address,
        shown.incarnation,
        LEVEL,
    )


def _shown(node_id: int) -> Shown:
    mark = node_id.to_bytes(16, "big")
    return Shown(
        mark, LEVEL, f"n{node_id}:7401", client_address(node_id), f"n{node_id}"
    )


class Links(PeerPort):
    """The links of one life, with calls answered as the node says."""

    def __init__(
        self, node_id: int, network: Network, loop: ServiceLoop, watcher: Watcher
    ) -> None:
        super().__init__(node_id, network, loop, watcher.on_send)
        self._own_loop: Final = loop
        self.handler: Callable[[NodeId, bytes], Awaitable[bytes]] | None = None
        self.on_messages: Any = None
        self.on_down: Any = None

    def shown(self, peer: NodeId) -> Shown | None:
        """Return what a peer says of itself on a link that is up."""
        return _shown(peer) if self.is_up(peer) else None

    async def call(self, peer: NodeId, request: bytes, timeout_s: float) -> bytes:
        """Ask a peer.

        Raises:
            LinkDown: Never sent.
            LinkLost: No answer came; it may have been carried out.
        """
        if not self.is_up(peer):
            raise LinkDown(f"there is no link to node {peer}")
        return await super().call(peer, request, timeout_s)

    def serve(self, handler: Callable[[NodeId, bytes], Awaitable[bytes]]) -> None:
        """Have peers' calls answered."""
        self.handler = handler

    def answer(
        self, peer: NodeId, request: bytes, reply: Callable[[bytes], None]
    ) -> None:
        """Have one call answered; on the node's loop."""

        async def run() -> None:
            assert self.handler is not None, "it is served"
            with contextlib.suppress(StorageError):  # the node is ending
                reply(await self.handler(peer, request))

        if self.handler is not None:
            self._own_loop.create_task(run())

    async def stop(self) -> None:
        """Take nothing more in."""
        self.handler = None


class _Neighbours:
    """Stands in for ``raftd.server.formation.Neighbours``: they have met before."""

    def __init__(self, links: Links) -> None:
        self.links: Final = links
        self.own: Final = _shown(links.node_id)
        self.has_knocked = False
        banned: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.greeting: Final = SimpleNamespace(banned=banned)

    def note_roster(self, roster: Roster) -> None:
        """Know these; the links of a run are there anyway."""

    def tell(self, removed: Sequence[int]) -> None:
        """Tell nobody: nobody is removed."""


class _Stores:
    """Stands in for an open data directory."""

    def __init__(self, files: Files, loop: ServiceLoop) -> None:
        disk = files.disk
        meta = disk.meta if disk.state_index else None
        self.log: Final = LogPort(files, loop)
        self.state: Final = StatePort(files, loop)
        self.recovery: Final = SimpleNamespace(checkpoint=meta)
        self.files_replaced: Final = None

    async def close(self) -> None:
        """Nothing is open."""


class _NoHttp:
    """Stands in for the HTTP server."""

    def __init__(self, node: object) -> None:
        """Serve nobody."""

    async def start(self, host: str, port: int) -> None:
        """Do nothing."""

    async def stop(self) -> None:
        """Do nothing."""


class ServiceApp(App):
    """One life of a member; see the module's rules."""

    def __init__(
        self,
        options: Options,
        node_ids: Sequence[int],
        links: Links,
        files: Files,
        watcher: Watcher,
        rng: Random,
    ) -> None:
        """Keep what ``start`` needs; on the loop of the life."""
        super().__init__(_settings(options, node_ids, links.node_id))
        self.options: Final = options
        self.files: Final = files
        self.links: Final = links
        self.watcher: Final = watcher
        self.rng: Final = rng

    async def start(self) -> None:
        """Start up to serving, from what is on disk."""
        disk = self.files.disk
        if disk.is_full:
            DiskPort(disk).release_ballast()
            self._begins_full = True
        loop = current_loop()
        stores: Any = _Stores(self.files, loop)
        neighbours: Any = _Neighbours(self.links)
        self._stores, self._neighbours = stores, neighbours
        voters = tuple(disk.roster.membership.voters)
        formed = Formed(CLUSTER_ID, {}, voters)
        machine = disk.load_machine()
        self.watcher.on_loaded(machine.applied_index, disk.roster)
        loop.host.app = self
        self._build(formed, disk.roster, neighbours, machine)
        await self._open_doors()

    def make_core(self, machine: Machine) -> WatchedCore:
        """Make a core that is watched."""
        config = self.options.config(self.links.node_id)
        core = WatchedCore(config, self.files.disk.persisted(self.rng), self.rng)
        core.watch = self.watcher.on_ready
        core.on_tick = self._on_tick
        assert core.applied_index == machine.applied_index, "one checkpoint"
        return core

    def _on_tick(self) -> None:
        if self.node is not None:
            self.watcher.on_tick(self.node.driver.replica)

    def _build(self, *parts: Any) -> None:
        super()._build(*parts)
        assert self.node is not None, "it was just built"
        driver = self.node.driver
        tell, watcher = driver.on_applied, self.watcher

        def on_applied(entry: AppliedEntry) -> None:
            watcher.on_applied(driver.replica, entry)
            tell(entry)

        driver.on_applied = on_applied

    def _on_checkpoint(self, index: int, digest: bytes) -> None:
        self.watcher.on_digest(index, digest)
        super()._on_checkpoint(index, digest)

    def _on_roster(self, roster: Roster) -> None:
        if self._driver is not None and self._driver.replica.roster is not roster:
            self.watcher.on_roster(self._driver.replica, roster)
        super()._on_roster(roster)

    def _on_installed(self, index: int) -> None:
        assert self._driver is not None, "start comes first"
        self.watcher.on_installed(self._driver.replica, index)
        super()._on_installed(index)


def _settings(options: Options, node_ids: Sequence[int], node_id: int) -> Settings:
    members = tuple(
        Member(
            id=n,
            name=f"n{n}",
            peer=Address(f"n{n}", _PORT + 1),
            client=Address(f"n{n}", _PORT),
        )
        for n in node_ids
    )
    return Settings(
        node_id=node_id,
        members=members,
        data_dir=Path("nowhere"),
        client_listen=Address(f"n{node_id}", _PORT),
        heartbeat_ms=options.heartbeat_ms,
        election_ms=max(
            options.election_ticks * options.heartbeat_ms, 10 * options.heartbeat_ms
        ),
    )


def _running() -> ServiceApp:
    app = current_loop().host.app
    assert app is not None, "only a node builds one"
    return app


def _data_disk(*_: object) -> DiskPort:
    return DiskPort(_running().files.disk)


def _clock() -> SimClock:
    loop = current_loop()
    return SimClock(loop.world, loop.host.clock)


_PATCHES: Final[tuple[tuple[Any, str, Any], ...]] = (
    (production, "DataDisk", _data_disk),
    (production, "SystemClock", _clock),
    (production, "HttpServer", _NoHttp),
    (
        production,
        "make_core",
        lambda _, __, machine, ___: _running().make_core(machine),
    ),
    (production, "make_replica_settings", lambda _: _running().options.settings()),
    (state_view, "_file_bytes", lambda _, __: 0),
)


@contextlib.contextmanager
def simulated() -> Iterator[None]:
    """Have the composition root take what is simulated while the body runs."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in _PATCHES]
    try:
        for owner, name, value in _PATCHES:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
