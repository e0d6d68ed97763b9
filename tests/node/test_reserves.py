"""Reserves that wait: in order, only while somebody waits and can be served."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import msgspec
import pytest

from raftd.node.refusals import NOT_APPLIED
from raftd.node.reserves import Reserves
from raftd.node.service import Answered, AnswerSink
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.entry import encode_batch, seal
from raftd.statemachine.schema.jobs import (
    CompleteJob,
    EnqueueJobs,
    JobSpec,
    JobsReserved,
    ReserveJobs,
)
from raftd.statemachine.schema.kv import PutKey
from raftd.statemachine.schema.leases import RevokeLease
from raftd.statemachine.schema.queues import ConfigureQueue, QueueOptions
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
        self,
        sink: Inbox,
        tag: int = 0,
        deadline_ms: int | None = None,
        jobs: int = 1,
        queues: tuple[str, ...] = ("q",),
        types: tuple[str, ...] = (),
    ) -> None:
        weighted = tuple((queue, 1) for queue in queues)
        command = ReserveJobs(self.lease, weighted, "w", jobs, types=types)
        request = seal(0, 0, 0, command)
        assert self.reserves.offer(request, command, sink, tag, deadline_ms)

    def enqueue(self, count: int = 1, queue: str = "q", type_: str = "") -> None:
        jobs = tuple(JobSpec(queue, b"%d" % i, type=type_) for i in range(count))
        self.harness.do(EnqueueJobs(jobs))

    @property
    def tags(self) -> list[int]:
        """Whose reserves are proposed and not yet applied."""
        return [tag for _, _, tag in self.proposed]

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


def test_a_job_that_is_there_is_proposed_for_at_once() -> None:
    desk, sink = _Desk(), Inbox()
    desk.enqueue(2)
    for tag in range(3):
        desk.wait(sink, tag)
    assert desk.tags == [0, 1]
    assert len(desk.reserves) == 1
    desk.apply()
    assert sorted(sink.answers) == [0, 1]
    desk.reserves.poke()
    assert not desk.proposed


def test_who_comes_later_passes_nobody() -> None:
    desk, sink = _Desk(), Inbox()
    desk.wait(sink, 0)
    desk.enqueue()
    desk.wait(sink, 1)
    desk.reserves.poke()
    assert desk.tags == [0]


def test_a_wait_for_several_queues_is_served_by_any_and_then_waits_for_none() -> None:
    desk, sink = _Desk(), Inbox()
    desk.wait(sink, 0, queues=("p", "q"))
    desk.wait(sink, 1, queues=("q", "p"))
    desk.enqueue(queue="p")
    desk.reserves.poke()
    assert desk.tags == [0]
    desk.enqueue()
    desk.reserves.poke()
    assert desk.tags == [0, 1]
    desk.apply()
    assert len(sink.answers) == 2
    desk.enqueue(2)
    desk.reserves.poke()
    assert not desk.proposed


def test_types_are_served_apart_and_no_more_than_there_are() -> None:
    desk, sink = _Desk(), Inbox()
    for tag in range(3):
        desk.wait(sink, tag, types=("mail",))
    desk.wait(sink, 3)
    desk.wait(sink, 4, types=("post", "mail"))
    desk.enqueue(2, type_="web")
    desk.reserves.poke()
    assert desk.tags == [3]
    desk.apply()
    desk.enqueue(type_="mail")
    desk.reserves.poke()
    assert desk.tags[0] == 0
    assert 1 not in desk.tags
    desk.apply()
    assert 0 in sink.answers
    desk.enqueue(5, type_="post")
    desk.reserves.poke()
    desk.apply()
    assert sorted(sink.answers) == [0, 3, 4]


def test_what_was_asked_for_and_not_taken_goes_to_the_next() -> None:
    desk, sink = _Desk(), Inbox()
    desk.wait(sink, 0, jobs=50)
    desk.wait(sink, 1)
    desk.enqueue(2)
    desk.reserves.poke()
    assert desk.tags == [0]
    desk.enqueue(49)
    desk.reserves.poke()
    assert desk.tags == [0, 1]
    desk.wait(sink, 2)
    desk.steal()
    desk.apply()
    desk.reserves.poke()
    assert not desk.proposed
    desk.enqueue()
    desk.reserves.poke()
    assert len(desk.tags) == 1


def test_a_job_whose_reserve_was_refused_goes_to_the_next() -> None:
    desk, sink = _Desk(), Inbox()
    desk.enqueue()
    desk.wait(sink, 0)
    desk.wait(sink, 1)
    desk.reserves.poke()
    ((_, wait, tag),) = desk.proposed
    wait.answer(tag, Answered(NOT_APPLIED, 0))
    desk.proposed.clear()
    desk.reserves.poke()
    assert desk.tags == [1]


def test_a_place_that_falls_free_is_given_to_who_waits() -> None:
    desk, sink = _Desk(), Inbox()
    desk.harness.do(ConfigureQueue("q", QueueOptions(concurrency_max=1)))
    desk.enqueue(2)
    desk.wait(sink, 0)
    desk.wait(sink, 1)
    desk.apply()
    desk.reserves.poke()
    assert not desk.proposed
    held = sink.only(0)
    assert isinstance(held, JobsReserved)
    desk.harness.do(CompleteJob(held.jobs[0].id, held.jobs[0].token))
    desk.reserves.poke()
    assert desk.tags == [1]


def test_a_reserve_that_names_no_queue_does_not_wait() -> None:
    desk = _Desk()
    command = ReserveJobs(desk.lease, (), "w", 1)
    request = seal(0, 0, 0, command)
    assert not desk.reserves.offer(request, command, Inbox(), 0, None)


def _steps_of(work: Callable[[], None]) -> int:
    """Count the lines of Python that some work runs through, loops included."""
    steps = 0

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal steps
        steps += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return steps


def _crowded(count: int) -> _Desk:
    """Many who wait for other queues, and who have more time."""
    desk, crowd = _Desk(), Inbox()
    for tag in range(count):
        desk.wait(crowd, tag, deadline_ms=1_000_000 + tag, queues=(f"other{tag}",))
        desk.wait(crowd, tag, deadline_ms=1_000_000, queues=("other",))
    desk.reserves.poke()
    return desk


def _serve(desk: _Desk, sink: Inbox) -> None:
    desk.wait(sink)
    desk.enqueue()
    desk.reserves.poke()
    desk.apply()
    assert sink.answers


def _expire(desk: _Desk, sink: Inbox) -> None:
    desk.wait(sink, deadline_ms=5)
    desk.reserves.expire(4)
    desk.reserves.expire(5)
    assert sink.answers


def _drop(desk: _Desk, sink: Inbox) -> None:
    desk.wait(sink)
    before = len(desk.reserves)
    desk.reserves.drop(sink)
    assert len(desk.reserves) == before - 1


def _close(desk: _Desk, _sink: Inbox) -> None:
    desk.reserves.leases_closed((desk.lease + 1,))
    assert not desk.proposed


def _turn(desk: _Desk, _sink: Inbox) -> None:
    desk.harness.do(PutKey(b"k", b"v"))
    desk.reserves.expire(4)
    desk.reserves.poke()


@pytest.mark.parametrize("work", [_serve, _expire, _drop, _close, _turn])
def test_nobody_else_who_waits_is_looked_at(
    work: Callable[[_Desk, Inbox], None],
) -> None:
    steps = []
    for count in (8, 800):
        desk, sink = _crowded(count), Inbox()
        steps.append(_steps_of(partial(work, desk, sink)))
    few, many = steps
    assert many <= 1.1 * few + 30  # the heap of deadlines is a little deeper
