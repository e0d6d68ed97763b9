"""Faults: what happens to nodes, links, disks and clocks in a run, and its end.

Rules: in the first phase anything may happen to any number of nodes, for leaders and
candidates more often than for others; only damage for good is limited, to a minority
of every configuration that may count (the atlas). ``heal`` ends all of it at once for
some nodes, ``heal_rest`` for the others.

Source: RELIABILITY.md section 6 (swarm, phases).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raftd.consensus.types import Role
from tests.sim.cluster import Cluster
from tests.sim.configs import is_quorum
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
        cluster: Cluster,
    ) -> None:
        self._world: Final = world
        self._options: Final = options
        self._cluster: Final = cluster
        self._network: Final = cluster.network
        self._rng: Final = world.rng("faults")
        self._is_over = False
        self.has_struck = False
        """Whether somebody crashed at the point that the options name."""
        for node in cluster.all():
            self.watch(node)
        cluster.on_made = self.watch
        self._actions: Final[dict[str, Callable[[], None]]] = {
            "bad-sync": self._fail_sync,
            "crash": self._crash,
            "crash-all": self._crash_all,
            "crash-receiver": self._crash_receiver,
            "damage": self._damage,
            "full-disk": self._fill_disk,
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

    def watch(self, node: SimNode) -> None:
        """Crash it now and then just when something begins or ends on its disk."""
        node.files.on_point = lambda name: self._on_point(node, name)

    def _on_point(self, node: SimNode, name: str) -> None:
        if name == self._options.crash_at and not self.has_struck:
            self.has_struck = True
            self._world.after(0, f"{name} at n{node.node_id}", self._crash_one, node)
        chance = self._options.crash_points
        if "install" in name or "reset" in name:
            chance *= 20
        if not self._is_over and chance and self._rng.random() < chance:
            self._world.after(0, f"{name} at n{node.node_id}", self._crash_one, node)

    def heal(self, core: list[SimNode]) -> None:
        """End all faults, and have some nodes run well from here on, the rest not."""
        self._is_over = True
        self._cluster.is_calm = True
        self._network.calm()
        for node in self._cluster.all():
            node.calm()
            if node not in core:
                if node.replica is not None:
                    node.crash()
                continue
            if node.replica is None:
                node.start()
            node.resume()

    def heal_rest(self) -> None:
        """Start the others too."""
        for node in self._cluster.all():
            if node.replica is None:
                node.start()

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
        nodes = self._cluster.all()
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
        if node.replica is None or self._is_over:
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
            for node in self._cluster.all():
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
        rng, ids = self._rng, self._cluster.ids()
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

    # --- disks --------------------------------------------------------------------

    def _fail_sync(self) -> None:
        node = self._victim()
        self._world.note(f"bad sync n{node.node_id}")
        node.files.is_bad = True

        def restart() -> None:
            if node.replica is None:
                node.start()

        self._later(f"restart n{node.node_id}", restart)

    def _fill_disk(self) -> None:
        node = self._victim()
        self._world.note(f"full disk n{node.node_id}")
        node.disk.fill()
        self._later(f"room n{node.node_id}", node.disk.clean)

    def _crash_receiver(self) -> None:
        """Crash one that is in the middle of a snapshot, if there is one."""
        nodes = [node for node in self._cluster.all() if node.disk.staged is not None]
        if nodes:
            self._crash_one(self._rng.choice(nodes))

    def _damage(self) -> None:
        """Flip bits on the disk of a node that is down: it does not start again."""
        nodes = [node for node in self._cluster.all() if node.replica is None]
        if not nodes or self._rng.random() < 0.5 or not self._cluster.is_known():
            return
        node = self._rng.choice(nodes)
        sound = [
            n
            for n, each in self._cluster.nodes.items()
            if not each.disk.is_damaged and each is not node
        ]
        if all(is_quorum(config, sound) for config in self._cluster.needed()):
            self._world.note(f"damage n{node.node_id}")
            node.disk.is_damaged = True
