"""Faults: what happens to nodes, links, disks and clocks in a run, and its end.

Rules: in the first phase anything may happen to any number of nodes, for leaders and
candidates more often than for others; ``heal`` ends all of it at once.

Source: RELIABILITY.md section 6 (swarm, phases).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raftd.consensus.types import Role
from tests.sim.network import Network
from tests.sim.node import SimNode
from tests.sim.options import Options
from tests.sim.world import World

__all__ = ["Faults"]


class Faults:
    """Hurts a cluster until told to stop."""

    def __init__(
        self,
        world: World,
        options: Options,
        nodes: dict[int, SimNode],
        network: Network,
    ) -> None:
        self._world: Final = world
        self._options: Final = options
        self._nodes: Final = nodes
        self._network: Final = network
        self._rng: Final = world.rng("faults")
        self._is_over = False
        self._actions: Final[dict[str, Callable[[], None]]] = {
            "crash": self._crash,
            "crash-all": self._crash_all,
            "link-down": self._link_down,
            "partition": self._partition,
            "pause": self._pause,
            "restart": self._restart,
            "stall": self._stall,
            "transfer": self._transfer,
            "wall-step": self._step_wall,
        }

    def start(self) -> None:
        """Begin."""
        if self._options.faults:
            self._next()

    def heal(self) -> None:
        """End all faults, and have everything run well from here on."""
        self._is_over = True
        self._network.calm()
        for node in self._nodes.values():
            node.calm()
            if node.replica is None:
                node.start()
            node.resume()

    def _next(self) -> None:
        delay_us = 1 + int(self._rng.expovariate(1 / self._options.fault_interval_us))
        self._world.after(delay_us, "fault", self._strike)

    def _strike(self) -> None:
        if self._is_over:
            return
        name = self._rng.choice(self._options.faults)
        self._actions[name]()
        self._next()

    def _duration_us(self) -> int:
        return 1 + int(self._rng.expovariate(1 / self._options.downtime_us))

    def _later(self, name: str, action: Callable[[], None]) -> None:
        def act() -> None:
            if not self._is_over:
                action()

        self._world.after(self._duration_us(), name, act)

    def _victim(self) -> SimNode:
        """Draw a node; every other time one that leads or wants to."""
        nodes = list(self._nodes.values())
        if self._rng.random() < 0.5:
            active = [
                node
                for node in nodes
                if node.replica is not None
                and node.replica.core.role is not Role.FOLLOWER
            ]
            nodes = active or nodes
        return self._rng.choice(nodes)

    def _crash(self) -> None:
        self._crash_one(self._victim())

    def _crash_one(self, node: SimNode) -> None:
        if node.replica is None:
            return
        self._world.note(f"crash n{node.node_id}")
        node.crash()

        def restart() -> None:
            if node.replica is None:
                node.start()

        self._later(f"restart n{node.node_id}", restart)

    def _restart(self) -> None:
        """Crash, and be there again at once, within the same election."""
        node = self._victim()
        if node.replica is not None:
            self._world.note(f"crash n{node.node_id}")
            node.crash()
            node.start()

    def _crash_all(self) -> None:
        if self._rng.random() < 0.3:  # not all too often: nothing else gets done
            for node in self._nodes.values():
                self._crash_one(node)

    def _link_down(self) -> None:
        a, b = self._victim(), self._victim()
        if a is b:
            return
        is_gone = self._rng.random() < 0.5
        self._world.note(f"link n{a.node_id}-n{b.node_id} down gone={is_gone}")
        a.link_down(b.node_id, is_gone=is_gone)
        b.link_down(a.node_id, is_gone=is_gone)

    def _partition(self) -> None:
        rng, ids = self._rng, list(self._nodes)
        shape = rng.choice(["isolate", "split", "links"])
        is_one_way = rng.random() < 0.3
        if shape == "links":
            pairs = [(a, b) for a in ids for b in ids if a != b and rng.random() < 0.4]
        else:
            side = {self._victim().node_id: None}
            if shape == "split":
                side |= dict.fromkeys(n for n in ids if rng.random() < 0.5)
            pairs = [(a, b) for a in side for b in ids if b not in side]
        if rng.random() < 0.5:
            pairs = [(b, a) for a, b in pairs]
        for a, b in pairs:
            self._network.block(a, b)
            if not is_one_way:
                self._network.block(b, a)
        self._world.note(f"partition {shape} one_way={is_one_way} {pairs}")
        self._later("mend", self._network.mend)

    def _pause(self) -> None:
        node = self._victim()
        if node.is_up:
            self._world.note(f"pause n{node.node_id}")
            node.pause()
            self._later(f"resume n{node.node_id}", node.resume)

    def _stall(self) -> None:
        node = self._victim()
        node.stall(self._world.now_us + self._duration_us())
        self._world.note(f"stall n{node.node_id}")

    def _transfer(self) -> None:
        node, other = self._victim(), self._victim()
        if node is not other:
            self._world.note(f"transfer n{node.node_id} to n{other.node_id}")
            node.transfer(other.node_id)

    def _step_wall(self) -> None:
        node = self._victim()
        self._world.note(f"wall step n{node.node_id}")
        node.clock.step_wall()
