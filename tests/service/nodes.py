"""The nodes of a run: each a host, a disk, and one life after the other.

Rules: a crash keeps what the disk keeps; a stop in good order hands over first; a node
whose disk failed is started again by whoever watches over it. Anything else that ends
a node ends the run.

Source: ``tests.sim.node``; ``raftd.server.main``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from raftd.consensus.messages import Message
from raftd.consensus.types import NodeId, Role
from raftd.node.errors import NodeFailed
from raftd.node.replica import Replica
from raftd.node.roster import first_roster
from raftd.storage.errors import DiskFailed
from tests.service.apps import Links, ServiceApp, client_address, node_record
from tests.service.hosts import Host
from tests.service.options import ServiceOptions
from tests.service.wires import WireNet
from tests.sim.disk import Disk
from tests.sim.invariants import Invariants
from tests.sim.network import Network
from tests.sim.ports import Files
from tests.sim.watcher import Watcher
from tests.sim.world import SimFailure, World

__all__ = ["Nodes", "ServiceNode"]


class ServiceNode:
    """One node through all its lives."""

    def __init__(self, nodes: Nodes, node_id: int) -> None:
        world, options = nodes.world, nodes.options
        self.node_id: Final = node_id
        self.host: Final = Host(
            world,
            f"n{node_id}",
            options.node.drift_ppm,
            is_shuffled=options.is_shuffled,
        )
        ids = nodes.node_ids
        self.disk: Final = Disk(first_roster(ids, map(node_record, ids)))
        self.files: Final = Files(
            world,
            self.disk,
            world.rng(f"disk/{node_id}"),
            options.node.write_us,
            options.node.here,
        )
        self._nodes: Final = nodes
        self._world: Final = world
        self.is_calm = False

    @property
    def app(self) -> ServiceApp | None:
        """The composition root of this life."""
        return self.host.app

    @property
    def replica(self) -> Replica | None:
        """The replica of this life, None if it is down."""
        app = self.host.app
        if app is None or app.node is None:
            return None
        return app.node.driver.replica

    @property
    def is_ready(self) -> bool:
        """Whether it says that it may be counted on."""
        app = self.host.app
        return app is not None and app.node is not None and app.node.readiness.is_ready

    @property
    def is_leader(self) -> bool:
        """Whether it believes to lead."""
        return self.replica is not None and self.replica.core.role is Role.LEADER

    def check_nobody_is_served(self) -> None:
        """Check that no stream is left when all clients have gone.

        Raises:
            SimFailure: One is.
        """
        node = self.app.node if self.app is not None else None
        if node is None:
            return
        for what, count in (
            ("streams", len(node.streams)),
            ("watches", len(node.watches)),
        ):
            if count:
                raise SimFailure(f"{self.host.name} still serves {count} {what}")

    def start(self) -> None:
        """Start, or start again, from what is on disk."""
        if self.host.is_up:
            return
        self.disk.recover()
        self._world.note(f"{self.host.name} starts")
        lag_us = 0 if self.is_calm else self._nodes.options.node.turn_lag_us
        (loop,) = self.host.boot(lag_us, "")
        nodes = self._nodes
        nodes.network.running[self.node_id] = None

        async def live() -> None:
            watcher = Watcher(
                nodes.invariants, self.node_id, nodes.disks, nodes.options.node
            )
            links = Links(self.node_id, nodes.network, loop, watcher)
            app = ServiceApp(
                nodes.options.node,
                nodes.node_ids,
                links,
                self.files,
                watcher,
                self.host.rng,
            )
            await app.start()
            failed = await app.wait_failed()
            self._on_failed(failed)

        loop.call_soon(loop.create_task, live())
        loop.poke()

    def _on_failed(self, error: NodeFailed) -> None:
        cause = error.__cause__
        if isinstance(cause, DiskFailed):
            self._world.note(f"{self.host.name} ends: {error}")
            self._world.after(0, f"{self.host.name} ends", self._end, self.host.life)
            return
        failure = SimFailure(f"{self.host.name} ends: {error}")
        failure.__cause__ = cause
        self._world.fail(cause if isinstance(cause, SimFailure) else failure)

    def _end(self, life: int) -> None:
        if self.host.is_up and self.host.life == life:
            self.crash()
            if self.is_calm:
                self.start()

    def crash(self) -> None:
        """Lose all but the disk, and of what was being written some."""
        self.files.crash()
        self.host.kill()
        self.host.app = None
        self._nodes.network.running.pop(self.node_id, None)

    def stop(self, then: Callable[[], None]) -> None:
        """Stop in good order, as SIGTERM has it do, then end."""
        app, life = self.app, self.host.life
        if app is None or app.node is None:
            return

        async def end() -> None:
            await app.stop()
            self._world.after(0, f"{self.host.name} stopped", gone)

        def gone() -> None:
            if self.host.is_up and self.host.life == life:
                self.crash()
                then()

        loop = self.host.loops[0]
        loop.take(lambda: loop.create_task(end()))

    def calm(self) -> None:
        """Have it work well from here on."""
        self.is_calm = True
        self.disk.clean()
        self.files.calm()
        self.host.clock.calm()
        for loop in self.host.loops:
            loop.lag_us = 0

    def transfer(self, peer: int) -> None:
        """Hand leadership over, if it leads."""
        self._do(lambda replica: replica.core.transfer(NodeId(peer)))

    def mark_beyond(self, index: int) -> None:
        """Have all take a checkpoint at an entry or behind it, if it leads."""
        self._do(lambda replica: replica.mark_beyond(index))

    def link_down(self, peer: int, *, is_gone: bool) -> None:
        """A link broke; ``is_gone``: by the other process's end."""
        app = self.app
        if app is not None and app.node is not None:
            down = partial(app.node.driver.link_down, NodeId(peer), is_gone)
            self.host.loops[0].take(down)

    def _do(self, action: Callable[[Replica], object]) -> None:
        app = self.app
        if app is None or app.node is None:
            return
        driver = app.node.driver

        def act() -> None:
            action(driver.replica)
            driver.wake()

        self.host.loops[0].take(act)

    # --- what comes from peers --------------------------------------------------------

    def receive(self, message: Message) -> None:
        """Take in a peer's message."""
        app = self.app
        if app is not None and app.links.on_messages is not None:
            self.host.loops[0].take(app.links.on_messages, (message,))

    def serve(self, peer: int, request: bytes, answer: Callable[[bytes], None]) -> None:
        """Take in a peer's call."""
        app = self.app
        if app is not None:
            self.host.loops[0].take(app.links.answer, NodeId(peer), request, answer)


class Nodes:
    """All nodes of one run."""

    def __init__(
        self,
        world: World,
        options: ServiceOptions,
        net: WireNet,
        invariants: Invariants,
    ) -> None:
        self.world: Final = world
        self.options: Final = options
        self.invariants: Final = invariants
        self.node_ids: Final = tuple(range(1, options.size + 1))
        self.network: Final = Network(world, options.node, self._deliver)
        self.network.serve = self._serve
        self._nodes: Final = {n: ServiceNode(self, n) for n in self.node_ids}
        self.disks: Final = {n: node.disk for n, node in self._nodes.items()}
        invariants.configs.begin(self.disks[1].roster)
        for node in self._nodes.values():
            net.addresses[client_address(node.node_id)] = node.host

    def __getitem__(self, node_id: int) -> ServiceNode:
        return self._nodes[node_id]

    def all(self) -> list[ServiceNode]:
        """Return all nodes."""
        return list(self._nodes.values())

    def stop(self) -> None:
        """End all that runs."""
        for node in self.all():
            if node.host.is_up:
                node.crash()

    def _deliver(self, message: Message) -> None:
        self._nodes[message.dst].receive(message)

    def _serve(
        self, dst: int, src: int, request: bytes, answer: Callable[[bytes], None]
    ) -> None:
        self._nodes[dst].serve(src, request, answer)
