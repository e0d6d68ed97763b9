"""A replica of one voter, in memory: every write is durable when the test says so."""

from __future__ import annotations

import random
from collections.abc import Sequence

from raftd.consensus.config import Config
from raftd.consensus.core import Core
from raftd.consensus.messages import (
    AppendReply,
    Message,
    PreVoteReply,
    VoteReply,
)
from raftd.consensus.ready import SoftState, Write
from raftd.consensus.state import Persisted
from raftd.consensus.types import Membership, NodeId, Role, Term
from raftd.node.replica import Replica
from raftd.node.roster import Roster
from raftd.node.service import Answered
from raftd.node.settings import ReplicaSettings
from raftd.statemachine.answers import AppliedEntry
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.entry import AnyCommand, MarkEntry, seal

__all__ = ["Inbox", "Lone", "core_of"]

TICK_MS = 50


class Inbox:
    """A sink that keeps what it was told."""

    def __init__(self) -> None:
        self.answers: dict[int, list[Answered]] = {}
        self.flushes = 0

    def answer(self, tag: int, answered: Answered) -> None:
        self.answers.setdefault(tag, []).append(answered)

    def flush(self) -> None:
        self.flushes += 1

    def close(self, refusal: Refusal) -> None:
        raise AssertionError(refusal)

    def only(self, tag: int = 0) -> object:
        """Return the one answer under a tag."""
        (answered,) = self.answers[tag]
        return answered.answer


def core_of(*voters: int, uncommitted_bytes_max: int = 1 << 20) -> Core:
    """Make a blank core of member 1."""
    return Core(
        Config(
            node_id=NodeId(1),
            heartbeat_ticks=2,
            election_ticks=10,
            uncommitted_bytes_max=uncommitted_bytes_max,
        ),
        Persisted(Membership(tuple(NodeId(voter) for voter in voters))),
        random.Random(1),
    )


class Lone:
    """Its effects, and its clocks."""

    def __init__(
        self,
        *voters: int,
        settings: ReplicaSettings | None = None,
        uncommitted_bytes_max: int = 1 << 20,
    ) -> None:
        self.machine = Machine()
        self.core = core_of(
            *(voters or (1,)), uncommitted_bytes_max=uncommitted_bytes_max
        )
        self.replica = Replica(
            self.core, self.machine, self, settings or ReplicaSettings()
        )
        self.marks: list[int] = []
        self.wanted: list[NodeId] = []
        self.rosters: list[Roster] = []
        self.installs: list[int] = []
        self.applied_entries: list[AppliedEntry] = []
        self._unstored: list[int] = []
        self._now_ms = 0

    # --- Effects ----------------------------------------------------------------

    def send(self, messages: Sequence[Message]) -> None:
        return

    def write(self, write: Write, send_after: Sequence[Message]) -> None:
        self._unstored.append(write.id)

    def changed(self, soft: SoftState) -> None:
        return

    def applied(self, entry: AppliedEntry) -> None:
        self.applied_entries.append(entry)

    def marked(self, index: int, mark: MarkEntry) -> None:
        self.marks.append(index)
        assert list(self.machine.take_checkpoint().rows())
        self.machine.checkpoint_written()

    def snapshot_wanted(self, node: NodeId) -> None:
        self.wanted.append(node)

    def roster_changed(self, roster: Roster) -> None:
        self.rosters.append(roster)

    def installed(self, index: int) -> None:
        self.installs.append(index)

    # --- driving ----------------------------------------------------------------

    def lead(self) -> None:
        """Tick until this member leads."""
        while not self.replica.may_propose:
            self.tick()
            self.settle()

    def win(self, other: int) -> None:
        """Tick until this member leads, by the votes of one of the others."""
        one, two = self.core.node_id, NodeId(other)
        while self.core.role is not Role.LEADER:
            self.tick()
            self.settle()
            term = self.core.term
            if self.core.role is Role.PRE_CANDIDATE:
                self.hear(PreVoteReply(two, one, Term(term + 1), True))
            elif self.core.role is Role.CANDIDATE:
                self.hear(VoteReply(two, one, term, True))

    def follow(self, other: int) -> None:
        """Have another follow the log to its end."""
        core = self.core
        reply = AppendReply(
            NodeId(other), core.node_id, core.term, True, core.last_index
        )
        self.hear(reply)

    def hear(self, message: Message) -> None:
        """Take in a message, and carry out what comes of it."""
        self.replica.step([message])
        self.settle()

    def tick(self, count: int = 1) -> None:
        """Let time pass, with nothing carried out."""
        for _ in range(count):
            self._now_ms += TICK_MS
            self.replica.tick(self._now_ms, 1_000_000 + self._now_ms)

    def settle(self) -> None:
        """Have turns until nothing is left to be written."""
        self.replica.turn()
        while self._unstored:
            self.replica.stored(self._unstored.pop(0))
            self.replica.turn()

    def submit(self, command: AnyCommand, sink: Inbox, tag: int = 0) -> None:
        self.replica.submit(seal(0, 0, 0, command), sink, tag)

    def do(self, command: AnyCommand) -> object:
        """Carry out one command."""
        inbox = Inbox()
        self.submit(command, inbox)
        self.settle()
        return inbox.only()
