"""Reserves that wait: in order, only while somebody waits and can be served."""

from __future__ import annotations

import msgspec

from raftd.node.refusals import NOT_APPLIED
from raftd.node.reserves import Reserves
from raftd.node.service import Answered, AnswerSink
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.entry import encode_batch, seal
from raftd.statemachine.schema.jobs import (
    EnqueueJobs,
    JobSpec,
    JobsReserved,
    ReserveJobs,
)
from raftd.statemachine.schema.kv import PutKey
from raftd.statemachine.schema.leases import RevokeLease
from tests.node.lone import Inbox
from tests.statemachine.harness import Harness


class _Desk:
    """Waiting reserves over a real machine; what they propose applies when told."""

    def __init__(self) -> None:
        self.harness = Harness()
        self.lease = self.harness.grant(60_000)
        self.reserves = Reserves(self.harness.machine, self._submit)
        self.proposed: list[tuple[msgspec.Raw, AnswerSink, int]] = []

    def _submit(self, request: msgspec.Raw, sink: AnswerSink, tag: int) -> None:
        self.proposed.append((request, sink, tag))

    def wait(
        self, sink: Inbox, tag: int = 0, deadline_ms: int | None = None, jobs: int = 1
    ) -> None:
        command = ReserveJobs(self.lease, (("q", 1),), "w", jobs)
        request = seal(0, 0, 0, command)
        assert self.reserves.offer(request, command, sink, tag, deadline_ms)

    def enqueue(self, count: int = 1) -> None:
        jobs = tuple(JobSpec("q", b"%d" % i) for i in range(count))
        self.harness.do(EnqueueJobs(jobs))

    def apply(self) -> None:
        """Apply what was proposed, as one entry."""
        proposed, self.proposed[:] = list(self.proposed), []
        harness = self.harness
        payload = encode_batch(
            harness.now_ms, harness.wall_ms, (), [request for request, _, _ in proposed]
        )
        applied = harness.apply(payload)
        for (_, sink, tag), answer, revision in zip(
            proposed, applied.answers, applied.revisions, strict=True
        ):
            assert isinstance(answer, JobsReserved | Refusal)
            sink.answer(tag, Answered(answer, revision))
            sink.flush()

    def steal(self) -> None:
        """Have somebody else take a job."""
        self.harness.do(ReserveJobs(self.lease, (("q", 1),), "thief", 1))


def test_only_the_first_are_proposed_when_jobs_come() -> None:
    desk, sink = _Desk(), Inbox()
    for tag in range(3):
        desk.wait(sink, tag)
    desk.reserves.poke()
    assert not desk.proposed
    desk.enqueue(2)
    desk.reserves.poke()
    desk.reserves.poke()
    assert [tag for _, _, tag in desk.proposed] == [0, 1]
    desk.apply()
    assert sorted(sink.answers) == [0, 1]
    assert sink.flushes == 2
    assert len(desk.reserves) == 1


def test_an_empty_answer_waits_on_and_does_not_spin() -> None:
    desk, sink = _Desk(), Inbox()
    desk.wait(sink)
    desk.enqueue()
    desk.reserves.poke()
    desk.steal()
    desk.apply()
    assert not sink.answers
    assert len(desk.reserves) == 1
    desk.reserves.poke()
    assert not desk.proposed
    desk.enqueue()
    desk.reserves.poke()
    desk.apply()
    assert isinstance(sink.only(), JobsReserved)


def test_who_left_while_being_asked_does_not_wait_on() -> None:
    desk, sink = _Desk(), Inbox()
    desk.wait(sink)
    desk.enqueue()
    desk.reserves.poke()
    desk.steal()
    desk.reserves.drop(sink)
    desk.apply()
    assert not sink.answers
    assert not len(desk.reserves)
    desk.enqueue()
    desk.reserves.poke()
    assert not desk.proposed


def test_who_left_while_parked_is_forgotten() -> None:
    desk, gone, stays = _Desk(), Inbox(), Inbox()
    desk.wait(gone)
    desk.wait(stays)
    desk.reserves.drop(gone)
    desk.enqueue(2)
    desk.reserves.poke()
    desk.apply()
    assert not gone.answers
    assert isinstance(stays.only(), JobsReserved)


def test_the_end_of_a_lease_ends_its_wait_with_the_refusal_of_apply() -> None:
    desk, sink = _Desk(), Inbox()
    desk.wait(sink)
    applied = desk.harness.entry(RevokeLease(desk.lease))
    desk.reserves.leases_closed(applied.closed)
    desk.apply()
    refusal = sink.only()
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.LEASE_EXPIRED
    assert not len(desk.reserves)


def test_deadlines_answer_with_nothing_and_a_lost_leader_with_why() -> None:
    desk, sink = _Desk(), Inbox()
    desk.wait(sink, 0, deadline_ms=100)
    desk.wait(sink, 1, deadline_ms=200)
    desk.wait(sink, 2)
    desk.reserves.expire(100)
    assert sink.only(0) == JobsReserved(())
    assert list(sink.answers) == [0]
    desk.reserves.refuse_all(NOT_APPLIED)
    assert [sink.only(tag) for tag in (1, 2)] == [NOT_APPLIED, NOT_APPLIED]
    assert not len(desk.reserves)


def test_a_refused_proposal_is_passed_on() -> None:
    desk, sink = _Desk(), Inbox()
    desk.wait(sink)
    desk.enqueue()
    desk.reserves.poke()
    ((_, wait, tag),) = desk.proposed
    wait.answer(tag, Answered(NOT_APPLIED, 0))
    wait.flush()
    assert sink.only() == NOT_APPLIED
    assert sink.flushes == 1
    desk.harness.do(PutKey(b"k", b"v"))
    desk.reserves.poke()
    assert len(desk.proposed) == 1
