"""What is looked at while a simulated node runs, and what must hold then.

Rules: looking changes nothing. A leader must have been elected by disks, and what it
commits must be on the disks of a quorum: what memory says does not count.

Source: RELIABILITY.md section 6 (invariants).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Final

from raftd.consensus.core import Core
from raftd.consensus.messages import Message
from raftd.consensus.ready import Ready
from raftd.consensus.types import Role
from raftd.node.replica import Replica
from raftd.statemachine.answers import AppliedEntry
from tests.sim.configs import is_quorum
from tests.sim.disk import Disk
from tests.sim.invariants import Invariants, Life
from tests.sim.options import Options
from tests.sim.world import SimFailure

__all__ = ["Farewell", "Watched", "WatchedCore"]


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


class Farewell:
    """Keeps who is to be told of its removal; see ``raftd.transport.greeting``."""

    def __init__(self, on_tell: Callable[[Sequence[int]], None]) -> None:
        self.has_knocked = False
        self.told: tuple[int, ...] = ()
        self._on_tell: Final = on_tell

    def tell(self, removed: Sequence[int]) -> None:
        """Tell these from now on."""
        self.told = tuple(removed)
        self.has_knocked = False
        self._on_tell(removed)


class Watched(ABC):
    """The part of a node that looks at what it does."""

    def __init__(
        self,
        node_id: int,
        options: Options,
        invariants: Invariants,
        disk: Disk,
        disks: dict[int, Disk],
    ) -> None:
        """Look at one node, among the disks of all."""
        self.node_id: Final = node_id
        self.disk: Final = disk
        self.life = Life(node_id)
        self._options: Final = options
        self._invariants: Final = invariants
        # Of all nodes, to be looked at only.
        self._disks: Final = disks
        disks[node_id] = disk

    @property
    @abstractmethod
    def replica(self) -> Replica | None:
        """The replica of this life; None while the node is down."""

    def _on_ready(self, core: Core, ready: Ready) -> None:
        self._invariants.on_ready(self.life, core, ready)
        if core.role is Role.LEADER:
            self._check_leader(core, ready)

    def _check_leader(self, core: Core, ready: Ready) -> None:
        """Check that disks have what this leader was elected by, and commits."""
        life, members = self.life, core.membership
        if ready.soft is not None and ready.soft.role is Role.LEADER:
            votes = [
                n
                for n, disk in self._disks.items()
                if disk.voted(core.term, core.node_id)
            ]
            if not is_quorum(members, votes):
                raise SimFailure(f"n{self.node_id} is elected by {votes} of {members}")
            life.led_commit = core.commit_index
        if core.commit_index > life.led_commit:
            life.led_commit = index = core.commit_index
            term = core.term_at(index)
            having = [n for n, disk in self._disks.items() if disk.has(index, term)]
            if not is_quorum(members, having):
                raise SimFailure(f"{index} is committed by {having} of {members}")

    def _on_send(self, message: Message) -> None:
        self._invariants.on_sent(self.disk, message)

    def _on_tick(self) -> None:
        replica = self.replica
        assert replica is not None, "it ticks"
        cap_ms = 2 * self._options.heartbeat_ms
        if replica.core.membership != replica.roster.membership:
            raise SimFailure(f"n{self.node_id}: core and roster have other members")
        term = replica.core.term if replica.may_propose else 0
        self._invariants.on_tick(self.life, term, replica.clock.now_ms, cap_ms)

    def _on_applied(self, entry: AppliedEntry) -> None:
        replica = self.replica
        assert replica is not None, "it applies"
        self._invariants.on_applied(self.life, replica.machine, entry)

    def _on_checkpoint(self, index: int, digest: bytes) -> None:
        replica = self.replica
        assert replica is not None, "it took it"
        replica.marks.note_stored(index, digest)
        self._on_digest(index, digest)

    def _on_digest(self, index: int, digest: bytes) -> None:
        self._invariants.on_digest(self.node_id, index, digest)
