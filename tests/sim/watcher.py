"""What is looked at in one life of a node, where the production code shows it.

Rules: a leader was elected by a quorum of its configuration, and commits only what a
quorum of it has: both counted on disks, not by messages. Core and roster name the same
members at every tick.

Source: RELIABILITY.md section 6; rules 7, 11, 23 and 42.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from raftd.consensus.core import Core
from raftd.consensus.messages import Message
from raftd.consensus.ready import Ready
from raftd.consensus.types import Role
from raftd.node.replica import Replica
from raftd.node.roster import Roster
from raftd.statemachine.answers import AppliedEntry
from tests.sim.bounds import check_bounds
from tests.sim.configs import is_quorum
from tests.sim.disk import Disk
from tests.sim.invariants import Invariants, Life
from tests.sim.options import Options
from tests.sim.world import SimFailure

__all__ = ["WatchedCore", "Watcher"]


class WatchedCore(Core):
    """The production core, watched at its only door out."""

    __slots__ = ("on_tick", "watch")

    watch: Callable[[Core, Ready], None]
    on_tick: Callable[[], None]

    def tick(self) -> None:
        """Let one tick pass, and look at what the last one did."""
        self.on_tick()
        super().tick()

    def ready(self) -> Ready:
        """Take all that became due, and show it."""
        ready = super().ready()
        self.watch(self, ready)
        return ready


class Watcher:
    """See the module's rules."""

    def __init__(
        self,
        invariants: Invariants,
        node_id: int,
        disks: Mapping[int, Disk],
        options: Options,
    ) -> None:
        """Begin to watch a life.

        Args:
            invariants: Of the run.
            node_id: Whose life.
            disks: Of all nodes.
            options: Of the run.
        """
        self._invariants: Final = invariants
        self._node_id: Final = node_id
        self._disks: Final = disks
        self._options: Final = options
        self._cap_ms: Final = 2 * options.heartbeat_ms
        """A tick moves the lease clock by so much at the most."""
        self._life: Final = Life(node_id)

    def on_loaded(self, index: int, roster: Roster) -> None:
        """Check what the life begins with."""
        self._invariants.on_loaded(self._life, index, roster)
        disk = self._disks[self._node_id]
        if disk.state_index:
            self.on_digest(disk.state_index, disk.meta.digest)

    def on_ready(self, core: Core, ready: Ready) -> None:
        """Check what a core gives out."""
        self._invariants.on_ready(self._life, core, ready)
        if core.role is Role.LEADER:
            self._check_leader(core, ready)

    def _check_leader(self, core: Core, ready: Ready) -> None:
        life, members = self._life, core.membership
        if ready.soft is not None and ready.soft.role is Role.LEADER:
            votes = [
                n
                for n, disk in self._disks.items()
                if disk.voted(core.term, core.node_id)
            ]
            if not is_quorum(members, votes):
                raise SimFailure(f"n{core.node_id} is elected by {votes} of {members}")
            life.led_commit = core.commit_index
        if core.commit_index > life.led_commit:
            life.led_commit = index = core.commit_index
            term = core.term_at(index)
            having = [n for n, disk in self._disks.items() if disk.has(index, term)]
            if not is_quorum(members, having):
                raise SimFailure(f"{index} is committed by {having} of {members}")

    def on_send(self, message: Message) -> None:
        """Check what a message promises."""
        self._invariants.on_sent(self._disks[self._node_id], message)

    def on_tick(self, replica: Replica) -> None:
        """Check what lasts from tick to tick."""
        if replica.core.membership != replica.roster.membership:
            raise SimFailure(f"n{self._node_id}: core and roster have other members")
        term = replica.core.term if replica.may_propose else 0
        self._invariants.on_tick(self._life, term, replica.clock.now_ms, self._cap_ms)
        check_bounds(replica, self._options)

    def on_applied(self, replica: Replica, entry: AppliedEntry) -> None:
        """Check what an entry did."""
        self._invariants.on_applied(self._life, replica.machine, entry)

    def on_digest(self, index: int, digest: bytes) -> None:
        """Check a checkpoint that is durable."""
        self._invariants.on_digest(self._node_id, index, digest)

    def on_roster(self, replica: Replica, roster: Roster) -> None:
        """Check who the members are from here on."""
        index = replica.machine.applied_index
        self._invariants.on_roster(self._life, index, roster)

    def on_installed(self, replica: Replica, index: int) -> None:
        """Check a state that came from a leader."""
        self._invariants.on_installed(self._life, index, replica.marks.digest)
