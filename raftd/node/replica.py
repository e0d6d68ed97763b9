"""One member's share of the replicated state machine: synchronous, no I/O of its own.

It joins the core (what is agreed), the machine (what it means) and whoever waits for
answers. Inputs queue up; ``turn`` carries out all that they made possible, in the
order of effects of ``raftd.consensus.ready``: send and write first, then apply, then
answer. Store, links and clocks are behind ``Effects`` and arguments, so the simulator
runs this file as it is.

Rules: who waits for what is in ``delivery``, when entries are marked in ``marks``. A
state that was loaded beside the work is taken over in the turn in which the core says
so, before the core's next entry is applied.

Source: RELIABILITY.md sections 1 and 2; DESIGN.md section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from raftd.consensus.changes import decode_change
from raftd.consensus.core import Core
from raftd.consensus.messages import InstallSnapshot, Message
from raftd.consensus.ready import SoftState, Write
from raftd.consensus.types import (
    Entry,
    EntryKind,
    Index,
    Install,
    NodeId,
    Proposal,
    RefusalReason,
    Refused,
    Role,
    Term,
)
from raftd.node.batches import Batches, Renewed, Target
from raftd.node.delivery import Delivery
from raftd.node.lease_clock import CLOCK_APART_MS_MAX, LeaseClock, median_ms
from raftd.node.marks import Marks
from raftd.node.read_queue import ReadQueue
from raftd.node.refusals import HANDING_OVER, NOT_APPLIED, OVERLOADED, not_leader
from raftd.node.roster import Roster, after, first_roster
from raftd.node.service import AnswerSink
from raftd.node.settings import ReplicaSettings
from raftd.statemachine.answers import AppliedEntry
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.entry import MarkEntry, encode_batch, seal

__all__ = ["Effects", "Loaded", "Replica"]


class Loaded(msgspec.Struct, frozen=True):
    """A state that came from a leader, loaded and ready to be taken over.

    Attributes:
        index: The state is as of this entry,
        term: whose term this is.
        roster: Who takes part, as of that entry.
    """

    index: Index
    term: Term
    digest: bytes
    roster: Roster
    machine: Machine


class Effects(Protocol):
    """What a turn has done: carried out at once, or begun, never awaited."""

    def send(self, messages: Sequence[Message]) -> None:
        """Send to peers; losing a message is normal."""

    def write(self, write: Write, send_after: Sequence[Message]) -> None:
        """Begin a write; when durable send ``send_after``, then call ``stored``."""

    def changed(self, soft: SoftState) -> None:
        """Role, leader or term changed."""

    def applied(self, entry: AppliedEntry) -> None:
        """An entry was applied: tell watches and sessions."""

    def marked(self, index: int, mark: MarkEntry) -> None:
        """A mark was applied: take the checkpoint now, before the next entry."""

    def snapshot_wanted(self, node: NodeId) -> None:
        """A follower needs a snapshot: send it the newest checkpoint."""

    def roster_changed(self, roster: Roster) -> None:
        """A member change took effect."""

    def installed(self, index: int) -> None:
        """Another's state took the place of this member's; its write comes next."""


class Replica:
    """The production replica; see the module's rules."""

    def __init__(
        self, core: Core, machine: Machine, effects: Effects, settings: ReplicaSettings
    ) -> None:
        """Join a core and a machine that start from the same durable state."""
        self.core: Final = core
        self.machine: Final = machine
        self.clock: Final = LeaseClock(settings.heartbeat_ms)
        self.reads: Final = ReadQueue(core, machine)
        self._effects: Final = effects
        self._settings: Final = settings
        self._batches: Final = Batches(settings)
        self._delivery: Final = Delivery(self._batches, machine)
        self.marks: Final = Marks(core, settings)
        self._monotonic_ms = 0
        self._wall_ms = 0
        self._leading_term = 0
        self._refusal: Refusal | None = None
        self.roster = first_roster(core.membership.voters)
        """Who takes part, as of the last applied entry; set before the first turn."""
        self._loaded: Loaded | None = None

    # --- in ---------------------------------------------------------------------

    @property
    def monotonic_ms(self) -> int:
        """The monotonic clock as of the last tick."""
        return self._monotonic_ms

    @property
    def may_propose(self) -> bool:
        """Whether this member leads and its term's no-op is applied."""
        return 0 < self._leading_term == self.core.term

    @property
    def is_clock_apart(self) -> bool:
        """Whether this machine's clock is too far off the others' to lead."""
        others = [ms for ms in self.core.peer_wall_ms.values() if ms]
        if len(others) + 1 <= len(self.core.membership.voters) // 2:
            return False
        middle_ms = median_ms(self._wall_ms, others)
        return bool(others) and abs(self._wall_ms - middle_ms) > CLOCK_APART_MS_MAX

    def tick(self, monotonic_ms: int, wall_ms: int) -> None:
        """Let one tick of the core pass."""
        self._monotonic_ms = monotonic_ms
        self._wall_ms = wall_ms
        core = self.core
        core.local_wall_ms = wall_ms
        core.tick()
        if self.may_propose and core.role is Role.LEADER:
            self.clock.tick(monotonic_ms)
            self.clock.tick_wall(wall_ms, list(core.peer_wall_ms.values()))
        self.reads.retry()

    def step(self, messages: Sequence[Message]) -> None:
        """Take in what a peer sent."""
        step = self.core.step
        for message in messages:
            step(message)

    def stored(self, write_id: int) -> None:
        """A write is durable."""
        self.core.stored(write_id)

    def submit(self, request: msgspec.Raw, sink: AnswerSink, tag: int) -> None:
        """Queue a sealed request; its answer comes to the sink."""
        if not self.may_propose:
            self._delivery.answer([(sink, tag)], not_leader(self.core.leader))
        elif self._refusal is not None:
            self._delivery.answer([(sink, tag)], self._refusal)
        elif not self._batches.add(request, (sink, tag)):
            self._delivery.answer([(sink, tag)], OVERLOADED)

    def renew(
        self, leases: Sequence[int], done: Callable[[Sequence[int] | None], None]
    ) -> None:
        """Queue renewals.

        Args:
            leases: Leases and sessions.
            done: Called with those that are gone when the renewal counts, or with
                None if it may not (ask again, or elsewhere).
        """
        if self.may_propose and self._refusal is None:
            self._batches.add_renewals(leases, done, self._monotonic_ms)
        else:
            done(None)

    def refuse(self, refusal: Refusal | None) -> None:
        """Propose nothing any more, for a reason; None: propose again."""
        self._refusal = refusal
        if refusal is not None:
            self._delivery.answer(self._batches.drop_queued(), refusal)

    def mark_beyond(self, index: int) -> None:
        """Mark an entry at this index or behind it as soon as possible, if leading."""
        self.marks.want(index)

    def refuse_reads(self, refusal: Refusal) -> None:
        """Answer the reads that wait for more than is applied here."""
        self.reads.run(self._delivery.touched)
        self.reads.refuse_waiting(refusal, self._delivery.touched)

    @property
    def has_queued(self) -> bool:
        """Whether a turn would propose something."""
        if not self.may_propose or self._refusal is not None:
            return False
        batches = self._batches
        return batches.may_propose_more and batches.is_due(self._monotonic_ms)

    def drop_waiting(self, sink: AnswerSink) -> None:
        """Forget the waits of a sink that is gone; the state keeps its claims."""
        self._batches.forget(sink)
        self._delivery.drop(sink)

    def take_up(self, loaded: Loaded, leader: NodeId) -> bool:
        """Offer a loaded state to the core, and have a turn.

        Args:
            loaded: The snapshot of this leader, or of one before it.
            leader: Of the present term.

        Returns:
            Whether it became the state; else the log reaches as far, or is going to.
        """
        core = self.core
        self._loaded = loaded
        core.step(
            InstallSnapshot(
                leader,
                core.node_id,
                core.term,
                loaded.index,
                loaded.term,
                loaded.roster.membership,
            )
        )
        self.turn()
        is_taken = self._loaded is None
        self._loaded = None
        return is_taken

    # --- the turn ---------------------------------------------------------------

    def turn(self) -> None:
        """Carry out all that the inputs since the last turn made possible."""
        core = self.core
        self.reads.ask()
        self._propose()
        while core.has_ready:
            ready = core.ready()
            if ready.soft is not None:
                self._on_soft(ready.soft)
            if ready.send_now:
                self._effects.send(ready.send_now)
            if ready.write is not None:
                if ready.write.install is not None:
                    self._install(ready.write.install)
                self._effects.write(ready.write, ready.send_after)
            for node in ready.snapshots:
                self._effects.snapshot_wanted(node)
            if ready.commit:
                self._apply(ready.commit)
            for proposal, is_definite in ready.failed:
                if is_definite:
                    self._lose(proposal)
            self.reads.take(ready.reads, ready.reads_failed)
            self._propose()
        self.reads.run(self._delivery.touched)
        self._delivery.flush()

    def _on_soft(self, soft: SoftState) -> None:
        if soft.role is not Role.LEADER or soft.term != self._leading_term:
            self._leading_term = 0
            self._delivery.answer(self._batches.drop_queued(), not_leader(soft.leader))
        self._effects.changed(soft)

    def _start_leading(self) -> None:
        """The term's no-op is applied: from here on this member may propose."""
        self._leading_term = self.core.term
        machine = self.machine
        self.clock.start(
            now_ms=machine.context.now_ms,
            wall_ms=machine.context.wall_ms,
            monotonic_ms=self._monotonic_ms,
        )
        self.marks.start_term(self._monotonic_ms)
        self._batches.start_term()

    def _lose(self, proposal: Proposal) -> None:
        """Another entry is committed where this proposal stood."""
        lost = self._batches.take_lost(proposal.index, proposal.term)
        if lost is not None:
            self._delivery.refuse(lost, NOT_APPLIED)

    def _propose(self) -> None:
        if not self.may_propose or self._refusal is not None:
            return
        batches = self._batches
        self._maybe_mark()
        while batches.is_due(self._monotonic_ms) and batches.may_propose_more:
            requests, targets, renewals, renewed = batches.take()
            if not self._propose_batch(requests, targets, renewals, renewed):
                return
        if batches.is_idle and self._is_something_due():
            # What waits for company must not wait for its own expiry.
            self._propose_batch(*batches.take())

    def _is_something_due(self) -> bool:
        machine, clock = self.machine, self.clock
        due_ms, wall_due_ms = machine.next_due_ms, machine.next_due_wall_ms
        return (
            (due_ms is not None and due_ms <= clock.now_ms)
            or (wall_due_ms is not None and wall_due_ms <= clock.wall_ms)
            or machine.has_backlog
        )

    def _propose_batch(
        self,
        requests: list[msgspec.Raw],
        targets: list[Target],
        renewals: tuple[int, ...],
        renewed: list[Renewed],
    ) -> bool:
        payload = encode_batch(
            self.clock.now_ms, self.clock.wall_ms, renewals, requests
        )
        proposal = self.core.propose(payload)
        if isinstance(proposal, Refused):
            self._delivery.answer(targets, self._say_why(proposal))
            for _, done in renewed:
                done(None)
            return False
        self._batches.note_proposed(proposal.index, proposal.term, targets, renewed)
        return True

    def _say_why(self, refused: Refused) -> Refusal:
        match refused.reason:
            case RefusalReason.TRANSFERRING:
                return HANDING_OVER
            case RefusalReason.NOT_LEADER:
                return not_leader(self.core.leader)
            case _:
                return OVERLOADED

    def _maybe_mark(self) -> None:
        """Mark an entry when enough was written since the last mark, or if asked to."""
        mark = self.marks.due(self._monotonic_ms)
        if mark is not None:
            is_taken = self._propose_batch([seal(0, 0, 0, mark)], [], (), [])
            self.marks.note_proposed(is_taken=is_taken)

    # --- apply --------------------------------------------------------------------

    def _apply(self, entries: Sequence[Entry]) -> None:
        machine, marks, settle = self.machine, self.marks, self._delivery.settle
        for entry in entries:
            if entry.kind == EntryKind.CONFIG:
                self._apply_change(entry)
                continue
            applied = machine.apply(entry.index, entry.payload)
            if not entry.payload:
                if entry.term == self.core.term and self.core.role is Role.LEADER:
                    self._start_leading()
                settle(entry.index, entry.term, None)
                continue
            marks.note_applied(entry.index, len(entry.payload))
            settle(entry.index, entry.term, applied)
            self._effects.applied(applied)
            if applied.mark is not None:
                marks.note_mark(entry.index, self._monotonic_ms)
                self._effects.marked(entry.index, applied.mark)
        self.core.applied(entries[-1].index)

    def _apply_change(self, entry: Entry) -> None:
        """Let a member change take effect: in the core, then in the roster."""
        membership = self.core.apply_change(entry.index, entry.payload)
        self.roster = after(self.roster, decode_change(entry.payload), membership)
        self.machine.apply(entry.index, b"")
        self.marks.note_applied(entry.index, len(entry.payload))
        self._delivery.settle(entry.index, entry.term, None)
        self._effects.roster_changed(self.roster)

    def _install(self, install: Install) -> None:
        """Take over the state that was loaded; nothing of the old one is left."""
        loaded, self._loaded = self._loaded, None
        assert loaded is not None, "an install of what was not loaded"
        assert (loaded.index, loaded.term) == (install.index, install.term)
        self.machine.become(loaded.machine)
        self.roster = loaded.roster
        self.marks.note_installed(loaded.index, loaded.digest, self._monotonic_ms)
        self._delivery.leap(loaded.index)
        self._effects.installed(loaded.index)
        self._effects.roster_changed(self.roster)
