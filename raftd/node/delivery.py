"""Answers on their way to whoever waits for them.

Rules: a proposal waits under (index, term); another term at its index means that it
was definitely not applied. A waiting answer (a lock, a campaign) waits under its
ticket, which every member computes alike. Sinks are flushed once, at the end of a turn.
What waits for entries that a snapshot leapt over gets no answer here any more: it is
told that the outcome is unknown.

Source: RELIABILITY.md rule 22; DESIGN.md section 3.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from raftd.node.batches import Batches, Proposed, Target
from raftd.node.refusals import LEADERSHIP_LOST, NOT_APPLIED
from raftd.node.service import Answered, AnswerSink
from raftd.statemachine.answers import AppliedEntry, Pending
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Refusal, Result

__all__ = ["Delivery"]

_FINAL: Final = (Result, Refusal)
"""What ends a request; a mark and a pending answer do not."""


class Delivery:
    """Everyone who waits for an entry or a ticket on this member."""

    def __init__(self, batches: Batches, machine: Machine) -> None:
        """Answer what comes out of batches with what the machine says."""
        self.touched: Final[dict[AnswerSink, None]] = {}
        self._batches: Final = batches
        self._machine: Final = machine
        self._waiting: Final[dict[int, list[Target]]] = {}

    def answer(self, targets: Iterable[Target], refusal: Refusal) -> None:
        """Tell some of them the same."""
        revision = self._machine.revision
        for sink, tag in targets:
            sink.answer(tag, Answered(refusal, revision))
            self.touched[sink] = None

    def refuse(self, proposed: Proposed, refusal: Refusal) -> None:
        """Tell all who wait for a proposal the same; renewals are asked again."""
        self.answer(proposed.targets, refusal)
        for _, done in proposed.renewed:
            done(None)
        self._batches.note_answered(proposed)

    def settle(self, index: int, term: int, applied: AppliedEntry | None) -> None:
        """Answer whoever waits for an entry, or for a ticket that it decided.

        Args:
            index: Of the entry.
            term: Of the entry.
            applied: What it did; None if it was no batch of requests.
        """
        for proposed in self._batches.settle(index, term):
            if applied is not None and proposed.term == term:
                self._deliver(proposed, applied)
            else:
                self.refuse(proposed, NOT_APPLIED)
        if applied is not None and applied.decided:
            waiting, revision = self._waiting, self._machine.revision
            for decision in applied.decided:
                for sink, tag in waiting.pop(decision.ticket, ()):
                    sink.answer(tag, Answered(decision.answer, revision))
                    self.touched[sink] = None

    def leap(self, index: int) -> None:
        """Entries up to this one are never applied here: a snapshot holds them."""
        for proposed in self._batches.take_until(index):
            self.refuse(proposed, LEADERSHIP_LOST)
        for targets in self._waiting.values():
            self.answer(targets, LEADERSHIP_LOST)
        self._waiting.clear()

    def _deliver(self, proposed: Proposed, applied: AppliedEntry) -> None:
        """Answer an entry's requests; those that wait go under their tickets."""
        touched = self.touched
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

    def drop(self, sink: AnswerSink) -> None:
        """Forget the waits of a sink that is gone; the state keeps its claims."""
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

    def flush(self) -> None:
        """Send what was answered in this turn."""
        touched = self.touched
        while touched:
            sinks = list(touched)
            touched.clear()
            for sink in sinks:
                sink.flush()
