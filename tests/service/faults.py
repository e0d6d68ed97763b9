"""Faults of level B: what happens to nodes, clients and the links between them.

Rules: at any number of nodes at a time; for leaders more often than for others. All of
it ends with ``heal``. The first client is never killed, because it brings the run to
its end; it is paused and cut off like any other.

Source: RELIABILITY.md section 6 (swarm per seed); ``tests.sim.faults``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.service.loads import Client, Clients
from tests.service.nodes import Nodes, ServiceNode
from tests.service.options import ServiceOptions
from tests.service.wires import WireNet
from tests.sim.world import World

__all__ = ["Faults"]


class Faults:
    """Hurts a run until told to stop."""

    def __init__(
        self,
        world: World,
        options: ServiceOptions,
        nodes: Nodes,
        clients: Clients,
        net: WireNet,
    ) -> None:
        self._world: Final = world
        self._options: Final = options
        self._nodes: Final = nodes
        self._clients: Final = clients
        self._net: Final = net
        self._rng: Final = world.rng("faults")
        self._is_over = False
        self.count = 0
        """How many there were."""
        self._actions: Final[dict[str, Callable[[], None]]] = {
            "bad-sync": self._fail_sync,
            "break": self._break,
            "client-crash": self._crash_client,
            "client-pause": self._pause_client,
            "crash": self._crash,
            "crash-all": self._crash_all,
            "cut-client": self._cut_client,
            "full-disk": self._fill_disk,
            "partition": self._partition,
            "pause": self._pause,
            "restart": self._restart,
            "roll": self._roll,
            "stall": self._stall,
            "transfer": self._transfer,
            "wall-step": self._step_wall,
        }

    def start(self) -> None:
        """Begin."""
        if self._options.faults:
            self._next()

    def heal(self) -> None:
        """End all faults; everything runs well from here on."""
        self._is_over = True
        self._nodes.network.calm()
        self._net.calm()
        for node in self._nodes.all():
            node.calm()
            if not node.host.is_up:
                node.start()
            node.host.resume()
        for client in self._clients.processes:
            client.host.resume()

    def _next(self) -> None:
        delay_us = 1 + int(self._rng.expovariate(1 / self._options.fault_interval_us))
        self._world.after(delay_us, "fault", self._strike)

    def _strike(self) -> None:
        if not self._is_over:
            self.count += 1
            self._actions[self._rng.choice(self._options.faults)]()
            self._next()

    def _later(self, name: str, action: Callable[[], None]) -> None:
        def act() -> None:
            if not self._is_over:
                action()

        duration_us = 1 + int(self._rng.expovariate(1 / self._options.downtime_us))
        self._world.after(duration_us, name, act)

    def _victim(self) -> ServiceNode:
        """Draw a node; every other time one that leads."""
        nodes = self._nodes.all()
        if self._rng.random() < 0.5:
            nodes = [node for node in nodes if node.is_leader] or nodes
        return self._rng.choice(nodes)

    def _client(self) -> Client:
        return self._rng.choice(self._clients.processes)

    # --- nodes ------------------------------------------------------------------------

    def _crash(self) -> None:
        self._crash_one(self._victim())

    def _crash_one(self, node: ServiceNode) -> None:
        if node.host.is_up:
            self._world.note(f"crash {node.host.name}")
            node.crash()
            self._later(f"restart {node.host.name}", node.start)

    def _restart(self) -> None:
        node = self._victim()
        if node.host.is_up:
            self._world.note(f"crash {node.host.name}")
            node.crash()
            node.start()

    def _crash_all(self) -> None:
        if self._rng.random() < 0.3:  # not all too often: nothing else gets done
            for node in self._nodes.all():
                self._crash_one(node)

    def _roll(self) -> None:
        """Stop a node in good order, and start it again."""
        node = self._victim()
        self._world.note(f"stop {node.host.name}")

        def begin() -> None:
            if self._is_over:
                node.start()
            else:
                self._later(f"restart {node.host.name}", node.start)

        node.stop(begin)

    def _pause(self) -> None:
        host = self._victim().host
        if host.is_up and not host.is_paused:
            self._world.note(f"pause {host.name}")
            host.pause()
            self._later(f"resume {host.name}", host.resume)

    def _stall(self) -> None:
        node = self._victim()
        duration_us = int(self._rng.expovariate(1 / self._options.downtime_us))
        self._world.note(f"stall {node.host.name}")
        node.files.stall(self._world.now_us + duration_us)

    def _fail_sync(self) -> None:
        """Fail the next transaction, and with it the node."""
        node = self._victim()
        self._world.note(f"bad sync {node.host.name}")
        node.files.is_bad = True
        self._later(f"restart {node.host.name}", node.start)

    def _fill_disk(self) -> None:
        node = self._victim()
        self._world.note(f"full disk {node.host.name}")
        node.disk.fill()
        self._later(f"room {node.host.name}", node.disk.clean)

    def _transfer(self) -> None:
        node, other = self._victim(), self._victim()
        if node is not other:
            self._world.note(f"transfer {node.host.name} to {other.host.name}")
            node.transfer(other.node_id)

    def _step_wall(self) -> None:
        node = self._victim()
        self._world.note(f"wall step {node.host.name}")
        node.host.clock.step_wall()

    def _partition(self) -> None:
        """Cut nodes from each other, for messages and for relayed streams."""
        rng, ids = self._rng, self._nodes.node_ids
        side = {self._victim().node_id: None}
        if rng.random() < 0.5:
            side |= dict.fromkeys(n for n in ids if rng.random() < 0.5)
        pairs = [(a, b) for a in side for b in ids if b not in side]
        is_one_way = rng.random() < 0.3
        if rng.random() < 0.5:
            pairs = [(b, a) for a, b in pairs]
        self._world.note(f"partition one_way={is_one_way} {pairs}")
        for a, b in pairs:
            self._cut(a, b)
            if not is_one_way:
                self._cut(b, a)
        self._later("mend", self._mend)

    def _cut(self, src: int, dst: int) -> None:
        self._nodes.network.block(src, dst)
        self._net.block(f"n{src}", f"n{dst}")

    def _mend(self) -> None:
        self._nodes.network.mend()
        self._net.mend()

    # --- clients ----------------------------------------------------------------------

    def _break(self) -> None:
        """Break connections: some, all of a node, or all of a client."""
        rng = self._rng
        host = rng.choice(
            [
                *(node.host for node in self._nodes.all()),
                *(client.host for client in self._clients.processes),
            ]
        )
        share = rng.choice([0.2, 1.0])
        self._world.note(f"break connections of {host.name}")
        for wire in self._net.wires():
            if host in wire.hosts and rng.random() < share and not wire.is_broken:
                wire.break_off()

    def _cut_client(self) -> None:
        """Keep a client from some nodes, or all, one way or both."""
        rng, client = self._rng, self._client().host.name
        for node in self._nodes.all():
            if rng.random() < 0.6:
                ways = rng.choice(["to", "from", "both"])
                self._world.note(f"cut {client} {ways} {node.host.name}")
                if ways != "from":
                    self._net.block(client, node.host.name)
                if ways != "to":
                    self._net.block(node.host.name, client)
        self._later("mend", self._mend)

    def _pause_client(self) -> None:
        host = self._client().host
        if host.is_up and not host.is_paused:
            self._world.note(f"pause {host.name}")
            host.pause()
            self._later(f"resume {host.name}", host.resume)

    def _crash_client(self) -> None:
        if self._clients.others():
            client = self._rng.choice(self._clients.others())
            if client.host.is_up:
                self._world.note(f"crash {client.host.name}")
                client.crash()
                self._later(f"restart {client.host.name}", client.start)
