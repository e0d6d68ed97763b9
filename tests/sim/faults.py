"""Faults: what happens to nodes, links, disks and clocks in a run, and its end.

Rules: in the first phase anything may happen to any number of nodes, for leaders and
candidates more often than for others; only damage for good is limited, to a minority
of every configuration that may count (the atlas). Whatever is drawn is recorded before
it is carried out; a script is carried out without a draw. ``heal`` ends all of it at
once for some nodes, ``heal_rest`` for the others.

Source: RELIABILITY.md section 6 (swarm, phases).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from raftd.consensus.types import Role
from tests.sim.actions import Action
from tests.sim.cluster import Cluster
from tests.sim.node import SimNode
from tests.sim.options import Options
from tests.sim.shapes import draw_shape
from tests.sim.strikes import Strikes
from tests.sim.world import World

__all__ = ["Faults"]


class Faults:
    """Hurts a cluster until told to stop."""

    def __init__(
        self,
        world: World,
        options: Options,
        cluster: Cluster,
        record: Callable[[Action], None],
    ) -> None:
        self._world: Final = world
        self._options: Final = options
        self._cluster: Final = cluster
        self._strikes: Final = Strikes(world, cluster)
        self._record: Final = record
        self._rng: Final = world.rng("faults")
        self._is_scripted = False
        self.has_struck = False
        """Whether somebody crashed at the point that the options name."""
        for node in cluster.all():
            self.watch(node)
        cluster.on_made = self.watch
        self._draws: Final[dict[str, Callable[[], None]]] = {
            "bad-sync": lambda: self._lasting("bad-sync"),
            "crash": lambda: self._crash(self._victim()),
            "crash-all": self._crash_all,
            "crash-receiver": self._crash_receiver,
            "damage": self._damage,
            "full-disk": lambda: self._lasting("full-disk"),
            "link-down": self._link_down,
            "partition": self._partition,
            "pause": self._pause,
            "restart": self._restart,
            "stall": lambda: self._lasting("stall"),
            "transfer": self._transfer,
            "wall-step": lambda: self._do("wall-step", self._victim()),
        }

    def start(self) -> None:
        """Begin to draw."""
        if self._options.faults:
            self._next()

    def follow(self, actions: Iterable[Action]) -> None:
        """Draw nothing; do what is written."""
        self._is_scripted = True
        for action in actions:
            if action.name in self._strikes.names:
                self._world.at_last(
                    action.at_us, "fault", self._strikes.carry_out, action
                )

    def watch(self, node: SimNode) -> None:
        """Crash it now and then just when something begins or ends on its disk."""
        node.files.on_point = lambda name: self._on_point(node, name)

    def heal(self, core: list[SimNode]) -> None:
        """End all faults, and have some nodes run well from here on, the rest not."""
        self._strikes.is_over = True
        self._cluster.is_calm = True
        self._cluster.network.calm()
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

    # --- what is drawn --------------------------------------------------------------

    def _next(self) -> None:
        delay_us = 1 + int(self._rng.expovariate(1 / self._options.fault_interval_us))
        self._world.after(delay_us, "fault", self._strike)

    def _strike(self) -> None:
        if self._strikes.is_over:
            return
        name = self._rng.choice(self._options.faults)
        self._draws[name]()
        self._next()

    def _do(
        self,
        name: str,
        node: SimNode,
        *,
        peer: int = 0,
        for_us: int = 0,
        is_on: bool = False,
        kind: str = "",
        pairs: tuple[tuple[int, int], ...] = (),
    ) -> None:
        action = Action(
            at_us=self._world.now_us,
            name=name,
            node=node.node_id,
            peer=peer,
            for_us=for_us,
            is_on=is_on,
            kind=kind,
            pairs=pairs,
        )
        self._record(action)
        self._strikes.carry_out(action)

    def _duration_us(self) -> int:
        return 1 + int(self._rng.expovariate(1 / self._options.downtime_us))

    def _lasting(self, name: str) -> None:
        node = self._victim()
        self._do(name, node, for_us=self._duration_us())

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

    def _on_point(self, node: SimNode, name: str) -> bool:
        """Decide whether a node crashes here, and have it crash."""
        at = f"{name} at n{node.node_id}"
        if name == self._options.crash_at and not self.has_struck:
            self.has_struck = True
            self._world.after(0, at, self._crash, node)
            return True
        if self._is_scripted or self._strikes.is_over:
            return False
        chance = self._options.crash_points
        if "install" in name or "reset" in name:
            chance *= 20
        if chance and self._rng.random() < chance:
            self._world.after(0, at, self._crash, node)
            return True
        return False

    def _crash(self, node: SimNode) -> None:
        if node.replica is not None and not self._strikes.is_over:
            self._do("crash", node, for_us=self._duration_us())

    def _crash_all(self) -> None:
        if self._rng.random() < 0.3:  # not all too often: nothing else gets done
            for node in self._cluster.all():
                self._crash(node)

    def _crash_receiver(self) -> None:
        """Crash one that is in the middle of a snapshot, if there is one."""
        nodes = [node for node in self._cluster.all() if node.disk.staged is not None]
        if nodes:
            self._crash(self._rng.choice(nodes))

    def _restart(self) -> None:
        node = self._victim()
        if node.replica is not None:
            self._do("restart", node)

    def _link_down(self) -> None:
        a, b = self._victim(), self._victim()
        if a is not b:
            is_gone = self._rng.random() < 0.5
            self._do("link-down", a, peer=b.node_id, is_on=is_gone)

    def _partition(self) -> None:
        rng, ids = self._rng, self._cluster.ids()
        if self._options.shapes:
            victim = self._victim().node_id
            is_one_way = rng.random() < 0.3
            shape, pairs = draw_shape(rng, self._options.shapes, ids, victim)
        else:
            shape = rng.choice(["isolate", "split", "links"])
            is_one_way = rng.random() < 0.3
            pairs = self._old_shape(shape)
        if rng.random() < 0.5:
            pairs = [(b, a) for a, b in pairs]
        self._do(
            "partition",
            self._cluster.all()[0],
            for_us=self._duration_us(),
            is_on=is_one_way,
            kind=shape,
            pairs=tuple(pairs),
        )

    def _old_shape(self, shape: str) -> list[tuple[int, int]]:
        """Draw as runs did before there were more shapes: old seeds mean the same."""
        rng, ids = self._rng, self._cluster.ids()
        if shape == "links":
            return [(a, b) for a in ids for b in ids if a != b and rng.random() < 0.4]
        side = {self._victim().node_id: None}
        if shape == "split":
            side |= dict.fromkeys(n for n in ids if rng.random() < 0.5)
        return [(a, b) for a in side for b in ids if b not in side]

    def _pause(self) -> None:
        node = self._victim()
        if node.is_up:
            self._do("pause", node, for_us=self._duration_us())

    def _transfer(self) -> None:
        node, other = self._victim(), self._victim()
        if node is not other:
            self._do("transfer", node, peer=other.node_id)

    def _damage(self) -> None:
        """Flip bits on the disk of a node that is down: it does not start again."""
        nodes = [node for node in self._cluster.all() if node.replica is None]
        if not nodes or self._rng.random() < 0.5 or not self._cluster.is_known():
            return
        self._do("damage", self._rng.choice(nodes))
