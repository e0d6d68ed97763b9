"""Redrive: another life for jobs that have ended."""

import pytest

from raftd.statemachine.schema.base import Reason
from raftd.statemachine.schema.jobs import JobSpec, JobState
from raftd.statemachine.schema.queues import JobsRedriven, RedriveJobs
from tests.statemachine.queues_harness import Q, QueueHarness, limits_with, refused

READY, RESERVED, DONE = JobState.READY, JobState.RESERVED, JobState.DONE
DEAD, CANCELLED, EXPIRED = JobState.DEAD, JobState.CANCELLED, JobState.EXPIRED


@pytest.fixture
def q() -> QueueHarness:
    return QueueHarness()


def kill(q: QueueHarness, count: int) -> None:
    """Have jobs fail for good."""
    for _ in range(count):
        q.add()
    for held in q.reserve(count):
        q.fail(held, is_fatal=True)


def test_a_redriven_job_has_its_id_and_a_new_life(q: QueueHarness) -> None:
    job = q.add(max_attempts=1, deadline_ms=50)
    old = q.take()
    q.fail(old, error="bad luck")
    q.wait(100)
    assert q.do(RedriveJobs(Q)) == JobsRedriven(1)
    found = q.job(job)
    assert (found.state, found.attempt, found.crashes, found.delivery) == (
        READY,
        0,
        0,
        0,
    )
    assert (found.ended_ms, found.error, found.payload) == (
        None,
        "bad luck",
        b"payload",
    )
    refused(q.complete(old), Reason.RESERVATION_LOST)
    new = q.take()
    assert (new.id, new.delivery) == (job, 1)
    assert new.token > old.token
    assert q.told(job) == [READY, RESERVED, DEAD, READY, RESERVED]


def test_redrive_takes_states_types_ids_and_a_number(q: QueueHarness) -> None:
    mail, web, more = q.add(type="mail"), q.add(type="web"), q.add(type="mail")
    for held in q.reserve(3):
        q.fail(held, is_fatal=True)
    cancelled = q.add()
    q.cancel(cancelled)
    assert q.do(RedriveJobs(Q, (EXPIRED,))) == JobsRedriven(0)
    assert q.do(RedriveJobs(Q, type="mail", jobs_max=1)) == JobsRedriven(1)
    assert q.states(mail, web, more) == [READY, DEAD, DEAD]
    named = RedriveJobs(Q, jobs=(mail, more, more, 999, cancelled))
    assert q.do(named) == JobsRedriven(1)
    assert q.do(RedriveJobs(Q, (DEAD, CANCELLED))) == JobsRedriven(2)
    assert q.states(mail, web, more, cancelled) == [READY] * 4


def test_a_done_job_is_redriven_by_force_if_its_payload_is_not_gone(
    q: QueueHarness,
) -> None:
    bare, full = q.add(payload=b""), q.add()
    for held in q.reserve(2):
        q.complete(held, b"result")
    assert q.do(RedriveJobs(Q, (DONE,), is_forced=True)) == JobsRedriven(1)
    assert q.states(bare, full) == [READY, DONE]
    assert q.job(bare).result == b""


def test_a_redrive_does_not_overfill_its_queue(q: QueueHarness) -> None:
    kill(q, 5)
    q.configure(depth_max=2)
    assert q.do(RedriveJobs(Q)) == JobsRedriven(2)
    assert q.do(RedriveJobs(Q)) == JobsRedriven(0)
    assert q.stats().counts[DEAD] == 3


def test_a_large_redrive_goes_in_steps() -> None:
    limits = limits_with(work_rows_max=10)
    q = QueueHarness(limits)
    kill(q, 60)
    q.enqueue(*(JobSpec(Q, b"") for _ in range(30)))
    assert q.do(RedriveJobs(Q, jobs_max=45)) == JobsRedriven(45)
    assert q.stats().counts[DEAD] == 40, "a step at once, another in the background"
    q = q.reborn(limits)
    while q.machine.has_backlog:
        q.entry()
    assert q.stats().counts[DEAD] == 15
    assert q.stats().counts[READY] == 75
