"""All nodes of one run, those included that join later.

Rules: a node that is new gets a blank disk which knows only how the cluster began. A
peer that knows a node to be removed does not listen to it and tells it so, if the run
has that rule on.

Source: RELIABILITY.md rules 44 and 46.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from raftd.consensus.messages import Message
from raftd.consensus.types import Membership, NodeId
from raftd.node.roster import MemberRecord, Roster, first_roster
from tests.sim.configs import is_quorum
from tests.sim.disk import Disk
from tests.sim.invariants import Invariants
from tests.sim.network import Network
from tests.sim.node import SimNode
from tests.sim.options import Options
from tests.sim.world import SimFailure, World

__all__ = ["Cluster", "record_of"]

_HOP_US: Final = 2000
_LEVEL_BEFORE: Final = 1
"""Of the release that knew of no changes of members, and of no snapshots."""


def record_of(node_id: int, name: str = "") -> MemberRecord:
    """Make a member's record."""
    return MemberRecord(
        NodeId(node_id), name or f"n{node_id}", f"p{node_id}", f"c{node_id}", b"", 2
    )


class Cluster:
    """See the module's rules."""

    def __init__(self, world: World, options: Options, invariants: Invariants) -> None:
        self._world: Final = world
        self._options: Final = options
        self._invariants: Final = invariants
        self.network: Final = Network(world, options, self._deliver)
        self.network.serve = self._serve
        self.nodes: Final[dict[int, SimNode]] = {}
        self._disks: Final[dict[int, Disk]] = {}
        self.is_calm = False
        self._leaving: Final[dict[int, None]] = {}
        """Who was to be removed or replaced: what he can tell does not count."""
        self.on_made: Callable[[SimNode], None] = lambda _: None
        ids = range(1, options.size + 1)
        if options.upgrade_us and options.is_managed:
            self.network.levels.update(dict.fromkeys(ids, _LEVEL_BEFORE))
        # The release before stored who the members are, and nothing of them.
        records = () if self.network.levels else map(record_of, ids)
        self._first_roster: Final = first_roster(ids, records)
        invariants.configs.begin(self._first_roster)
        for node_id in ids:
            self.make(node_id)

    def make(self, node_id: int) -> SimNode:
        """Return a node, a new one if there is none of this id."""
        node = self.nodes.get(node_id)
        if node is None:
            node = self.nodes[node_id] = SimNode(
                self._world,
                node_id,
                self._options,
                self.network,
                self._invariants,
                self._first_roster,
                self._disks,
            )
            node.on_roster = self._on_roster
            node.on_farewell = partial(self._on_farewell, node)
            self.on_made(node)
        return node

    def __getitem__(self, node_id: int) -> SimNode:
        """Return a node that was made."""
        return self.nodes[node_id]

    def ids(self) -> list[int]:
        """Return the ids of those that may still take part."""
        return [n for n, node in self.nodes.items() if not node.is_out]

    def asked(self) -> list[int]:
        """Return whom clients ask: in the end only those that run, and belong to it.

        Who left and was not told may run for ever, and answer no read.
        """
        if not self.is_calm:
            return self.ids()
        running = list(self.network.running)
        if not self._options.heal_drops:
            return running
        members = self._invariants.configs.latest.membership.members
        return [node for node in running if node in members] or running

    def all(self) -> list[SimNode]:
        """Return those that may still take part."""
        return [node for node in self.nodes.values() if not node.is_out]

    def stop(self) -> None:
        """End all that runs."""
        for node in self.nodes.values():
            if node.replica is not None:
                node.crash()
            node.disk.close()

    # --- upgrades -------------------------------------------------------------------

    def start_upgrades(self) -> None:
        """Upgrade those of the release before, one after the other."""
        for place, node_id in enumerate(self.network.levels, 1):
            at_us = place * self._options.upgrade_us
            self._world.after(at_us, f"upgrade n{node_id}", self._upgrade, node_id)

    def end_upgrades(self) -> None:
        """Upgrade at once who is left."""
        for node_id in list(self.network.levels):
            self._upgrade(node_id)

    def _upgrade(self, node_id: int) -> None:
        if self.network.levels.pop(node_id, None) is None:
            return
        node = self.nodes[node_id]
        if node.replica is not None:
            node.crash()
            node.start()

    # --- members --------------------------------------------------------------------

    def _is_barred(self, node: SimNode, src: int) -> bool:
        """Tell whether a node does not listen to somebody, and has told it so."""
        replica = node.replica
        if replica is None or src not in replica.roster.removed:
            return False
        if not self._options.bars_removed and not self.is_calm:
            return False
        managed = self._options.is_managed
        if node.knock(src) if managed else self.is_known():
            self._world.after(_HOP_US, f"ban n{src}", self.nodes[src].ban)
        return True

    def _on_roster(self, roster: Roster) -> None:
        """Make the nodes that were added; those that ask start them."""
        membership = roster.membership
        self._leaving.update(
            dict.fromkeys(record.replaces for record in roster.members)
        )
        self._leaving.update(dict.fromkeys(membership.outgoing))
        for member in membership.members:
            if member in self.network.levels and member not in self._leaving:
                raise SimFailure(
                    f"members change, and n{member} is of a release that cannot tell"
                )
            if member not in self.nodes:
                self._world.after(0, f"join n{member}", self._join, member)

    def _join(self, node_id: int) -> None:
        node = self.make(node_id)
        if node.replica is None:
            node.start()

    def _on_farewell(self, teller: SimNode, removed: Sequence[int]) -> None:
        for node_id in removed:
            if self.network.is_open(teller.node_id, node_id):
                node = self.nodes[node_id]
                self._world.after(_HOP_US, f"ban n{node_id}", node.ban)

    def is_known(self) -> bool:
        """Tell whether enough disks say that the last change is committed.

        Before that the others may need the word of who left to elect a leader.
        """
        configs = self._invariants.configs
        return self._know(configs.latest_index, configs.latest.membership)

    def _know(self, index: int, membership: Membership) -> bool:
        nodes = self.nodes
        return is_quorum(
            membership, [n for n in nodes if nodes[n].disk.commit >= index]
        )

    def needed(self) -> list[Membership]:
        """Return the configurations that may have to decide from here on.

        A change counts where it is applied. As long as no majority is sure to know
        that it is committed, those before it may have to elect the next leader.
        """
        configs = self._invariants.configs
        needed = configs.possible()
        for index, membership in configs.newest_first():
            needed.append(membership)
            if self._know(index, membership):
                break
        return needed

    def may_lose(self, node: SimNode) -> bool:
        """Tell whether the disk of one node may be damaged: the atlas."""
        if not self.is_known():
            return False
        sound = [
            n
            for n, each in self.nodes.items()
            if not each.disk.is_damaged and each is not node
        ]
        return all(is_quorum(config, sound) for config in self.needed())

    def _deliver(self, message: Message) -> None:
        node = self.nodes[message.dst]
        if not self._is_barred(node, message.src):
            node.receive(message)

    def _serve(
        self, dst: int, src: int, request: bytes, answer: Callable[[bytes], None]
    ) -> None:
        node = self.nodes[dst]
        if not self._is_barred(node, src):
            node.serve(src, request, answer)
