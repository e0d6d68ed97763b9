"""One member's share of the replicated state machine: synchronous, no I/O of its own.

It joins the core (what is agreed), the machine (what it means) and whoever waits for
answers. Inputs queue up; ``turn`` carries out all that they made possible, in the
order of effects of ``raftd.consensus.ready``: send and write first, then apply, then
answer. Store, links and clocks are behind ``Effects`` and arguments, so the simulator
runs this file as it is.

Rules: a proposal waits under (index, term); another term at its index means that it
was definitely not applied. A waiting answer (a lock, a campaign) waits under its
ticket, which every member computes alike.

Source: RELIABILITY.md sections 1 and 2; DESIGN.md section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import msgspec

from raftd.consensus.core import Core
from raftd.consensus.messages import Message
from raftd.consensus.ready import SoftState, Write
from raftd.consensus.types import Entry, Proposal, RefusalReason, Refused, Role
from raftd.node.batches import Batches, Proposed, Renewed, Target
from raftd.node.lease_clock import CLOCK_APART_MS_MAX, LeaseClock, median_ms
from raftd.node.read_queue import ReadQueue
from raftd.node.refusals import HANDING_OVER, NOT_APPLIED, OVERLOADED, not_leader
from raftd.node.service import Answered, AnswerSink
from raftd.node.settings import ReplicaSettings
from raftd.statemachine.answers import AppliedEntry, Pending
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Refusal, Result
from raftd.statemachine.schema.entry import MarkEntry, encode_batch, seal

__all__ = ["Effects", "Replica"]


_FINAL: Final = (Result, Refusal)
"""What ends a request; a mark and a pending answer do not."""


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
        self._waiting: Final[dict[int, list[Target]]] = {}
        self._touched: Final[dict[AnswerSink, None]] = {}
        self._monotonic_ms = 0
        self._wall_ms = 0
        self._leading_term = 0
        self._applied_bytes = 0
        self._mark_due_ms = 0
        self._is_mark_pending = False
        self._last_mark = 0
        self._mark_wanted = 0
        self._refusal: Refusal | None = None
        self.may_mark: Callable[[], bool] = _always
        self.digest_at = 0
        self.digest = b""

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
            self._answer(sink, tag, not_leader(self.core.leader))
        elif self._refusal is not None:
            self._answer(sink, tag, self._refusal)
        elif not self._batches.add(request, (sink, tag)):
            self._answer(sink, tag, OVERLOADED)

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
            for sink, tag in self._batches.drop_queued():
                self._answer(sink, tag, refusal)

    def mark_beyond(self, index: int) -> None:
        """Mark an entry at this index or behind it as soon as possible, if leading."""
        wanted = min(index, self.core.commit_index)  # or it would never be enough
        self._mark_wanted = max(self._mark_wanted, wanted)

    @property
    def has_queued(self) -> bool:
        """Whether a turn would propose something."""
        return self.may_propose and self._batches.is_due(self._monotonic_ms)

    def drop_waiting(self, sink: AnswerSink) -> None:
        """Forget the waits of a sink that is gone; the state keeps its claims."""
        self._batches.forget(sink)
        for ticket in [
            ticket
            for ticket, targets in self._waiting.items()
            if any(target[0] is sink for target in targets)
        ]:
            left = [t for t in self._waiting[ticket] if t[0] is not sink]
            if left:
                self._waiting[ticket] = left
            else:
                del self._waiting[ticket]

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
                self._effects.write(ready.write, ready.send_after)
            if ready.commit:
                self._apply(ready.commit)
            for proposal, is_definite in ready.failed:
                if is_definite:
                    self._lose(proposal)
            self.reads.take(ready.reads, ready.reads_failed)
            self._propose()
        self.reads.run(self._touched)
        self._flush()

    def _on_soft(self, soft: SoftState) -> None:
        if soft.role is not Role.LEADER or soft.term != self._leading_term:
            self._leading_term = 0
            for sink, tag in self._batches.drop_queued():
                self._answer(sink, tag, not_leader(soft.leader))
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
        self._mark_due_ms = self._monotonic_ms + self._settings.mark_interval_ms
        self._is_mark_pending = False
        self._batches.start_term()

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
            refusal = self._say_why(proposal)
            for sink, tag in targets:
                self._answer(sink, tag, refusal)
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
        settings = self._settings
        is_wanted = self._mark_wanted > self._last_mark
        if self._is_mark_pending or not (self._applied_bytes or is_wanted):
            return
        if not self.may_mark():
            return
        if (
            is_wanted
            or self._applied_bytes >= settings.mark_log_bytes
            or self._monotonic_ms >= self._mark_due_ms
        ):
            matches = self.core.match_indexes()
            cut_index = min(matches.values()) if matches else 0
            mark = MarkEntry(self.digest_at, self.digest, cut_index)
            self._is_mark_pending = self._propose_batch(
                [seal(0, 0, 0, mark)], [], (), []
            )

    # --- apply and answer -------------------------------------------------------

    def _apply(self, entries: Sequence[Entry]) -> None:
        machine = self.machine
        for entry in entries:
            applied = machine.apply(entry.index, entry.payload)
            if not entry.payload:
                if entry.term == self.core.term and self.core.role is Role.LEADER:
                    self._start_leading()
                self._settle_without(entry)
                continue
            self._applied_bytes += len(entry.payload)
            self._settle(entry, applied)
            self._effects.applied(applied)
            if applied.mark is not None:
                self._applied_bytes = 0
                self._last_mark = entry.index
                self._is_mark_pending = False
                self._mark_due_ms = self._monotonic_ms + self._settings.mark_interval_ms
                self._effects.marked(entry.index, applied.mark)
        self.core.applied(entries[-1].index)

    def _settle(self, entry: Entry, applied: AppliedEntry) -> None:
        """Answer whoever waits for this entry, or for a ticket that it decided."""
        for proposed in self._batches.settle(entry.index, entry.term):
            if proposed.term == entry.term:
                self._deliver(proposed, applied)
            else:
                self._fail(proposed)
        if applied.decided:
            waiting, revision = self._waiting, self.machine.revision
            for decision in applied.decided:
                for sink, tag in waiting.pop(decision.ticket, ()):
                    sink.answer(tag, Answered(decision.answer, revision))
                    self._touched[sink] = None

    def _settle_without(self, entry: Entry) -> None:
        for proposed in self._batches.settle(entry.index, entry.term):
            self._fail(proposed)

    def _lose(self, proposal: Proposal) -> None:
        """Another entry is committed where this proposal stood."""
        lost = self._batches.take_lost(proposal.index, proposal.term)
        if lost is not None:
            self._fail(lost)

    def _deliver(self, proposed: Proposed, applied: AppliedEntry) -> None:
        """Answer an entry's requests; those that wait go under their tickets."""
        touched = self._touched
        for (sink, tag), answer, revision in zip(
            proposed.targets, applied.answers, applied.revisions, strict=False
        ):
            if type(answer) is Pending:
                if not self._batches.is_gone(sink):
                    self._waiting.setdefault(answer.ticket, []).append((sink, tag))
            elif isinstance(answer, _FINAL):
                sink.answer(tag, Answered(answer, revision))
                touched[sink] = None
        if proposed.renewed:
            lost = dict.fromkeys(applied.lost)
            for leases, done in proposed.renewed:
                done([lease for lease in leases if lease in lost])
        self._batches.note_answered(proposed)

    def _fail(self, proposed: Proposed) -> None:
        """Another leader's entry stands at this index: nothing of it was applied."""
        for sink, tag in proposed.targets:
            self._answer(sink, tag, NOT_APPLIED)
        for _, done in proposed.renewed:
            done(None)
        self._batches.note_answered(proposed)

    def _answer(self, sink: AnswerSink, tag: int, refusal: Any) -> None:
        sink.answer(tag, Answered(refusal, self.machine.revision))
        self._touched[sink] = None

    def _flush(self) -> None:
        touched = self._touched
        while touched:
            sinks = list(touched)
            touched.clear()
            for sink in sinks:
                sink.flush()


def _always() -> bool:
    return True
