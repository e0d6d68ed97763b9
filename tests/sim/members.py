"""Changes of the membership, asked of whoever believes to lead, at any bad moment.

Rules: learners are added, promoted (having caught up or not), removed; voters too, the
leader among them; a voter is replaced by a joint change. What is asked for is possible:
enough of the new voters have disks that are not damaged. A core may still refuse.
Whatever is drawn is recorded before it is asked for; a script asks without a draw.

Source: RELIABILITY.md rules 39 to 46, and section 5 (membership churn).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
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
    MemberChange,
    RemoveMember,
    ReplaceMember,
    UpdateMember,
)
from raftd.node.replica import Replica
from raftd.node.roster import MemberRecord, encode_context
from tests.sim.actions import Action
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

    def __init__(
        self,
        world: World,
        options: Options,
        cluster: Cluster,
        record: Callable[[Action], None],
    ) -> None:
        self._record: Final = record
        self._is_scripted = False
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

    def follow(self, actions: Iterable[Action]) -> None:
        """Draw nothing; ask for what is written."""
        self._is_scripted = True
        ways = {
            "change": self._ask_again,
            "join": self._join_again,
            "wish": self._wish_again,
        }
        for action in actions:
            if action.name in ways:
                self._world.at_last(action.at_us, "change", ways[action.name], action)

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
                self._draw_wish(leader)
            else:
                leader.do(self._draw_change)

    # --- asked of the manager -----------------------------------------------------

    def _draw_wish(self, leader: SimNode) -> None:
        """Ask the manager, mostly for what it finds reasonable."""
        rng, replica = self._rng, leader.replica
        assert replica is not None, "it leads"
        kind = rng.choice(self._options.changes)
        membership = replica.core.membership
        node = rng.choice(membership.members)
        self._updates += 1
        is_forced = rng.random() < 0.3
        if kind not in {"remove", "replace", "update"}:
            kind = "add"
        if kind == "remove":
            left = tuple(n for n in membership.voters if n != node)
            if not self._is_survivable(Membership(left, membership.outgoing)):
                return
        if kind == "add" and len(membership.voters) >= _VOTERS_MAX:
            return
        action = Action(
            at_us=self._world.now_us,
            name="wish",
            node=leader.node_id,
            peer=node,
            for_us=self._updates,
            is_on=is_forced,
            kind=kind,
        )
        self._record(action)
        leader.wish(_wish_of(action))

    def _wish_again(self, action: Action) -> None:
        leader = self._cluster.nodes.get(action.node)
        if leader is not None and leader.is_leader and not self.is_over:
            leader.wish(_wish_of(action))

    # --- asked of the core --------------------------------------------------------

    def _draw_change(self, replica: Replica) -> None:
        if self.is_over:
            return
        kind = self._rng.choice(self._options.changes)
        steps = self._kinds[kind](replica)
        if not steps and kind != "update":
            return
        node = 0
        if not steps:
            self._updates += 1
            node = self._rng.choice(replica.roster.membership.members)
        action = Action(
            at_us=self._world.now_us,
            name="change",
            node=replica.core.node_id,
            peer=node,
            for_us=self._updates,
            kind=kind,
            pairs=tuple((int(each), each_node) for each, each_node in steps),
        )
        self._record(action)
        self._change(action, replica)

    def _ask_again(self, action: Action) -> None:
        leader = self._cluster.nodes.get(action.node)
        if leader is not None and leader.is_leader and not self.is_over:
            leader.do(partial(self._change, action))

    def _change(self, action: Action, replica: Replica) -> None:
        change = ConfigChange(
            tuple(
                ConfigStep(ChangeKind(kind), NodeId(node))
                for kind, node in action.pairs
            ),
            encode_context(_records(action, replica)),
        )
        membership = replica.core.membership
        try:
            new = after(membership, change)
        except InvalidChange:
            return
        if not self._is_survivable(new):
            return
        told = replica.core.change(change)
        steps = [(ChangeKind(kind), node) for kind, node in action.pairs]
        self._world.note(
            f"n{replica.core.node_id} is asked to {action.kind} {steps}: {told}"
        )
        if not isinstance(told, Proposal):
            return
        for _, node_id in action.pairs:
            # At once: healing may begin before it joins, and may need it.
            node = self._cluster.make(node_id)
            if not self._is_scripted:
                self._world.after(0, f"join n{node_id}", self._join, node)

    def _join(self, node: SimNode) -> None:
        if node.replica is None and not self.is_over and self._rng.random() < 0.9:
            action = Action(at_us=self._world.now_us, name="join", node=node.node_id)
            self._record(action)
            node.start()

    def _join_again(self, action: Action) -> None:
        node = self._cluster.nodes.get(action.node)
        if node is not None and node.replica is None and not self.is_over:
            node.start()

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


def _records(action: Action, replica: Replica) -> list[MemberRecord]:
    known = replica.roster
    records = [
        record_of(node)
        for kind, node in action.pairs
        if ChangeKind(kind) is not ChangeKind.REMOVE and known.get(NodeId(node)) is None
    ]
    if not action.pairs:
        records.append(record_of(action.peer, f"n{action.peer}.{action.for_us}"))
    return records


def _wish_of(action: Action) -> MemberChange:
    node = NodeId(action.peer)
    name, address = f"m{action.for_us}", f"p{action.for_us}:1"
    match action.kind:
        case "remove":
            return RemoveMember(node, is_forced=action.is_on)
        case "replace":
            return ReplaceMember(node, name, address, is_forced=action.is_on)
        case "update":
            return UpdateMember(node, name)
        case _:
            return AddMember(name, address, is_forced=action.is_on)
