"""Changes of the membership, asked of whoever believes to lead, at any bad moment.

Rules: learners are added, promoted (having caught up or not), removed; voters too, the
leader among them; a voter is replaced by a joint change. What is asked for is possible:
enough of the new voters have disks that are not damaged. A core may still refuse.

Source: RELIABILITY.md rules 39 to 46, and section 5 (membership churn).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raftd.consensus.changes import InvalidChange, after
from raftd.consensus.types import (
    ChangeKind,
    ConfigChange,
    ConfigStep,
    Membership,
    NodeId,
    Proposal,
)
from raftd.node.member_words import (
    AddMember,
    RemoveMember,
    ReplaceMember,
    UpdateMember,
)
from raftd.node.replica import Replica
from raftd.node.roster import MemberRecord, encode_context
from tests.sim.cluster import Cluster, record_of
from tests.sim.configs import is_quorum
from tests.sim.node import SimNode
from tests.sim.options import Options
from tests.sim.world import World

__all__ = ["Changes"]

_VOTERS_MAX: Final = 5
_LEARNERS_MAX: Final = 2

_Steps = list[tuple[ChangeKind, int]]


class Changes:
    """Changes a cluster's members until told to stop."""

    def __init__(self, world: World, options: Options, cluster: Cluster) -> None:
        self._world: Final = world
        self._options: Final = options
        self._cluster: Final = cluster
        self._rng: Final = world.rng("members")
        self._updates = 0
        self.is_over = False
        self._kinds: Final[dict[str, Callable[[Replica], _Steps]]] = {
            "add": self._add,
            "promote": self._promote,
            "remove": self._remove,
            "replace": self._replace,
            "update": lambda _: [],
        }

    def start(self) -> None:
        """Begin."""
        if self._options.changes:
            self._next()

    def _next(self) -> None:
        mean_us = self._options.change_interval_us
        delay_us = 1 + int(self._rng.expovariate(1 / mean_us))
        self._world.after(delay_us, "change", self._ask)

    def _ask(self) -> None:
        if self.is_over:
            return
        self._next()
        leaders = [node for node in self._cluster.all() if node.is_leader]
        if leaders:
            leader = self._rng.choice(leaders)
            if self._options.is_managed:
                self._wish(leader)
            else:
                leader.do(self._change)

    def _wish(self, leader: SimNode) -> None:
        """Ask the manager, mostly for what it finds reasonable."""
        rng, replica = self._rng, leader.replica
        assert replica is not None, "it leads"
        kind = rng.choice(self._options.changes)
        membership = replica.core.membership
        node = rng.choice(membership.members)
        self._updates += 1
        name, address = f"m{self._updates}", f"p{self._updates}:1"
        is_forced = rng.random() < 0.3
        match kind:
            case "remove":
                left = tuple(n for n in membership.voters if n != node)
                if self._is_survivable(Membership(left, membership.outgoing)):
                    leader.wish(RemoveMember(node, is_forced=is_forced))
            case "replace":
                leader.wish(ReplaceMember(node, name, address, is_forced=is_forced))
            case "update":
                leader.wish(UpdateMember(node, name))
            case _:
                if len(membership.voters) < _VOTERS_MAX:
                    leader.wish(AddMember(name, address, is_forced=is_forced))

    def _change(self, replica: Replica) -> None:
        if self.is_over:
            return
        kind = self._rng.choice(self._options.changes)
        steps = self._kinds[kind](replica)
        if not steps and kind != "update":
            return
        change = ConfigChange(
            tuple(ConfigStep(kind, NodeId(node)) for kind, node in steps),
            encode_context(self._records(replica, steps)),
        )
        membership = replica.core.membership
        try:
            new = after(membership, change)
        except InvalidChange:
            return
        if not self._is_survivable(new):
            return
        told = replica.core.change(change)
        self._world.note(f"n{replica.core.node_id} is asked to {kind} {steps}: {told}")
        if isinstance(told, Proposal):
            for _, node_id in steps:
                self._world.after(0, f"join n{node_id}", self._join, node_id)

    def _join(self, node_id: int) -> None:
        node = self._cluster.make(node_id)
        if node.replica is None and not self.is_over and self._rng.random() < 0.9:
            node.start()

    def _records(self, replica: Replica, steps: _Steps) -> list[MemberRecord]:
        known = replica.roster
        records = [
            record_of(node)
            for kind, node in steps
            if kind is not ChangeKind.REMOVE and known.get(node) is None
        ]
        if not steps:
            self._updates += 1
            node = self._rng.choice(known.membership.members)
            records.append(record_of(node, f"n{node}.{self._updates}"))
        return records

    def _is_survivable(self, new: Membership) -> bool:
        """Tell whether the voters with sound disks are enough."""
        nodes = self._cluster.nodes
        sound = [
            n
            for n in (*new.voters, *new.outgoing)
            if n not in nodes or not nodes[n].disk.is_damaged
        ]
        return is_quorum(new, sound)

    # --- kinds ------------------------------------------------------------------

    def _add(self, replica: Replica) -> _Steps:
        if len(replica.core.membership.learners) >= _LEARNERS_MAX:
            return []
        return [(ChangeKind.ADD_LEARNER, replica.roster.next_id)]

    def _promote(self, replica: Replica) -> _Steps:
        membership = replica.core.membership
        if not membership.learners or len(membership.voters) >= _VOTERS_MAX:
            return []
        return [(ChangeKind.PROMOTE, self._rng.choice(membership.learners))]

    def _remove(self, replica: Replica) -> _Steps:
        membership = replica.core.membership
        if len(membership.voters) == 1 and not membership.learners:
            return []
        return [(ChangeKind.REMOVE, self._rng.choice(membership.members))]

    def _replace(self, replica: Replica) -> _Steps:
        """Put a learner, or a stranger, in the place of one voter or two."""
        rng, membership = self._rng, replica.core.membership
        new = replica.roster.next_id
        if membership.learners and rng.random() < 0.7:
            new = rng.choice(membership.learners)
        old = list(membership.voters)
        rng.shuffle(old)
        count = 2 if len(old) > 2 and rng.random() < 0.2 else 1
        gone = [(ChangeKind.REMOVE, int(node)) for node in old[:count]]
        return [(ChangeKind.PROMOTE, new), *gone]
