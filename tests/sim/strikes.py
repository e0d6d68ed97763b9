"""Carries out what is done to a cluster: crashes, cuts, pauses, bad and full disks.

Rules: nothing is drawn here. What cannot be done, as the node is down already or never
was, is passed over. When the faults are over, nothing happens any more that was begun.

Source: RELIABILITY.md section 6 (swarm).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.sim.actions import Action
from tests.sim.cluster import Cluster
from tests.sim.node import SimNode
from tests.sim.world import World

__all__ = ["Strikes"]


class Strikes:
    """See the module's rules."""

    def __init__(self, world: World, cluster: Cluster) -> None:
        self._world: Final = world
        self._cluster: Final = cluster
        self._network: Final = cluster.network
        self.is_over = False
        self._ways: Final[dict[str, Callable[[SimNode, Action], None]]] = {
            "bad-sync": self._fail_sync,
            "crash": self._crash,
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

    @property
    def names(self) -> list[str]:
        """What can be done here."""
        return list(self._ways)

    def carry_out(self, action: Action) -> None:
        """Do it, if it can be done."""
        node = self._cluster.nodes.get(action.node)
        if node is not None and not self.is_over and not node.is_out:
            self._ways[action.name](node, action)

    def _later(self, delay_us: int, name: str, act: Callable[[], None]) -> None:
        def act_unless_over() -> None:
            if not self.is_over:
                act()

        self._world.after(delay_us, name, act_unless_over)

    def _start_later(self, node: SimNode, delay_us: int) -> None:
        def start() -> None:
            if node.replica is None:
                node.start()

        self._later(delay_us, f"restart n{node.node_id}", start)

    def _crash(self, node: SimNode, action: Action) -> None:
        if node.replica is not None:
            self._world.note(f"crash n{node.node_id}")
            node.crash()
            self._start_later(node, action.for_us)

    def _restart(self, node: SimNode, _: Action) -> None:
        """Crash, and be there again at once, within the same election."""
        if node.replica is not None:
            self._world.note(f"crash n{node.node_id}")
            node.crash()
            node.start()

    def _link_down(self, node: SimNode, action: Action) -> None:
        other = self._cluster.nodes.get(action.peer)
        if other is None:
            return
        a, b = node.node_id, other.node_id
        self._world.note(f"link n{a}-n{b} down gone={action.is_on}")
        node.link_down(b, is_gone=action.is_on)
        other.link_down(a, is_gone=action.is_on)

    def _partition(self, _: SimNode, action: Action) -> None:
        pairs = list(action.pairs)
        for a, b in pairs:
            self._network.block(a, b)
            if not action.is_on:
                self._network.block(b, a)
        self._world.note(f"partition {action.kind} one_way={action.is_on} {pairs}")
        self._later(action.for_us, "mend", self._network.mend)

    def _pause(self, node: SimNode, action: Action) -> None:
        if node.is_up:
            self._world.note(f"pause n{node.node_id}")
            node.pause()
            self._later(action.for_us, f"resume n{node.node_id}", node.resume)

    def _stall(self, node: SimNode, action: Action) -> None:
        node.stall(self._world.now_us + action.for_us)
        self._world.note(f"stall n{node.node_id}")

    def _transfer(self, node: SimNode, action: Action) -> None:
        self._world.note(f"transfer n{node.node_id} to n{action.peer}")
        node.transfer(action.peer)

    def _step_wall(self, node: SimNode, _: Action) -> None:
        self._world.note(f"wall step n{node.node_id}")
        node.clock.step_wall()

    # --- disks --------------------------------------------------------------------

    def _fail_sync(self, node: SimNode, action: Action) -> None:
        self._world.note(f"bad sync n{node.node_id}")
        node.files.is_bad = True
        self._start_later(node, action.for_us)

    def _fill_disk(self, node: SimNode, action: Action) -> None:
        self._world.note(f"full disk n{node.node_id}")
        node.disk.fill()
        self._later(action.for_us, f"room n{node.node_id}", node.disk.clean)

    def _damage(self, node: SimNode, _: Action) -> None:
        """Flip bits on the disk of a node that is down: it does not start again."""
        if node.replica is None and self._cluster.may_lose(node):
            self._world.note(f"damage n{node.node_id}")
            node.disk.is_damaged = True
