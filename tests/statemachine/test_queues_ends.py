"""How reservations and jobs end by themselves, or from outside."""

import pytest

from raftd.statemachine.schema.base import Reason
from raftd.statemachine.schema.jobs import (
    CancelJob,
    CompleteJob,
    ExtendJob,
    JobCancelled,
    JobCompleted,
    JobExtended,
    JobFailed,
    JobReleased,
    JobSaved,
    JobSnoozed,
    JobState,
    ReleaseJob,
    SavepointJob,
    SnoozeJob,
)
from raftd.statemachine.schema.leases import RevokeLease
from raftd.statemachine.schema.sessions import CloseSession
from tests.statemachine.queues_harness import Q, QueueHarness, limits_with, refused

READY, SCHEDULED, RESERVED = JobState.READY, JobState.SCHEDULED, JobState.RESERVED
DONE, DEAD, CANCELLED = JobState.DONE, JobState.DEAD, JobState.CANCELLED
EXPIRED = JobState.EXPIRED


@pytest.fixture
def q() -> QueueHarness:
    return QueueHarness()


def counters(q: QueueHarness, job: int) -> tuple[int, int, int]:
    found = q.job(job)
    return found.attempt, found.crashes, found.delivery


# --- reservations and sessions ---------------------------------------------------


def test_a_reservation_not_started_ends_free_of_charge(q: QueueHarness) -> None:
    job = q.add()
    q.take()
    q.wait(29_999)
    assert q.state(job) is RESERVED
    q.wait(1)
    assert (q.state(job), counters(q, job)) == (READY, (0, 0, 1))
    assert q.machine.leases.attachments(q.session) == []


def test_a_started_reservation_that_ends_is_a_crash(q: QueueHarness) -> None:
    job = q.add(backoff_jitter=0)
    held = q.take()
    q.do(ExtendJob(job, held.token))
    q.wait(30_000)
    assert (q.state(job), counters(q, job)) == (SCHEDULED, (0, 1, 1))
    assert "worker" in q.job(job).error
    q.wait(999)
    assert q.state(job) is SCHEDULED
    q.wait(1)
    assert q.state(job) is READY


def test_the_last_crash_kills(q: QueueHarness) -> None:
    q.configure(max_crashes=2, backoff_base_ms=0)
    job = q.add()
    for state in (READY, DEAD):
        held = q.take()
        q.do(SavepointJob(job, held.token, None))
        q.wait(30_000)
        assert q.state(job) is state
    assert counters(q, job) == (0, 2, 2)
    assert q.stats().dead == 1


@pytest.mark.parametrize("is_revoked", [True, False])
def test_jobs_go_back_when_their_workers_session_is_lost(
    q: QueueHarness, is_revoked: bool
) -> None:
    idle, busy = q.add(), q.add()
    lease = q.grant(ttl_ms=1000)
    held = q.reserve(2, lease=lease, reservation_ms=60_000)
    q.do(ExtendJob(busy, held[1].token))
    if is_revoked:
        q.do(RevokeLease(lease))
    else:
        q.wait(1000)
    assert q.states(idle, busy) == [READY, SCHEDULED]
    assert (counters(q, idle), counters(q, busy)) == ((0, 0, 1), (0, 1, 1))
    q.wait(1000)
    assert [job.id for job in q.reserve(9)] == [idle, busy]


def test_a_clean_goodbye_returns_jobs_at_once_and_free(q: QueueHarness) -> None:
    q.configure(grace_ms=5000)
    jobs = [q.add(), q.add()]
    worker = q.open(b"w" * 16)
    held = q.reserve(2, lease=worker)
    q.do(ExtendJob(jobs[1], held[1].token))
    q.do(CloseSession(worker))
    assert q.states(*jobs) == [READY, READY]
    assert [counters(q, job) for job in jobs] == [(0, 0, 1), (0, 0, 1)]


def test_grace_keeps_a_lost_job_from_the_next_worker_for_a_while(
    q: QueueHarness,
) -> None:
    q.configure(grace_ms=500, concurrency_max=1)
    by_time, by_lease = q.add(), q.add()
    held = q.take()
    q.wait(30_000)
    assert q.state(by_time) is RESERVED
    assert not q.queues.holds_reservation(by_time, held.token)
    assert q.queues.reservation_token(by_time) == 0
    refused(q.complete(held), Reason.RESERVATION_EXPIRED)
    q.wait(499)
    assert q.reserve() == []
    q.wait(1)
    assert q.state(by_time) is READY
    q.complete(q.take())
    lease = q.grant(ttl_ms=1000)
    q.take(lease=lease)
    q.wait(1000)
    assert q.state(by_lease) is RESERVED
    q.wait(500)
    assert q.state(by_lease) is READY


def test_grace_survives_a_reload(q: QueueHarness) -> None:
    q.configure(grace_ms=500)
    job = q.add()
    held = q.take()
    q.wait(30_000)
    other = q.reborn()
    refused(other.complete(held), Reason.RESERVATION_EXPIRED)
    other.wait(500)
    assert other.state(job) is READY


def test_a_completed_job_has_left_its_session(q: QueueHarness) -> None:
    job = q.add()
    lease = q.grant()
    held = q.take(lease=lease)
    q.complete(held)
    q.do(RevokeLease(lease))
    assert q.state(job) is DONE


def test_a_reservation_due_beyond_the_cap_still_counts() -> None:
    q = QueueHarness(limits_with(work_rows_max=2))
    jobs = [q.add() for _ in range(3)]
    held = q.reserve(3)
    q.now_ms += 30_000
    applied = q.entry(CompleteJob(jobs[2], held[2].token))
    assert applied.answers == [JobCompleted()]
    assert q.states(*jobs) == [READY, READY, DONE]


# --- cancel ----------------------------------------------------------------------


def test_a_waiting_job_is_cancelled_at_once(q: QueueHarness) -> None:
    ready, scheduled = q.add(), q.add(delay_ms=10)
    for job in (ready, scheduled):
        assert q.cancel(job) == JobCancelled(CANCELLED)
        assert q.cancel(job) == JobCancelled(CANCELLED), "again is no harm"
    assert q.reserve() == []
    q.wait(10)
    assert q.states(ready, scheduled) == [CANCELLED, CANCELLED]


def test_a_reserved_job_is_asked_for_at_its_worker(q: QueueHarness) -> None:
    job = q.add()
    held = q.take()
    assert q.cancel(job) == JobCancelled(RESERVED)
    assert q.job(job).is_cancel_requested
    assert q.do(ExtendJob(job, held.token)) == JobExtended(
        30_000, cancel_requested=True
    )
    assert q.do(SavepointJob(job, held.token, b"")) == JobSaved(
        30_000, cancel_requested=True
    )


def test_a_worker_confirms_by_giving_the_job_back(q: QueueHarness) -> None:
    jobs = [q.add() for _ in range(4)]
    held = q.reserve(4)
    for job in jobs:
        q.cancel(job)
    assert q.fail(held[0]) == q.fail(held[0]) == JobFailed(CANCELLED, 0)
    release = ReleaseJob(jobs[1], held[1].token)
    assert q.do(release) == q.do(release) == JobReleased()
    snooze = SnoozeJob(jobs[2], held[2].token, 10)
    assert q.do(snooze) == q.do(snooze) == JobSnoozed()
    assert q.complete(held[3]) == JobCompleted(), "it was faster than the cancel"
    assert q.states(*jobs) == [CANCELLED, CANCELLED, CANCELLED, DONE]


def test_a_cancelled_reservation_that_ends_is_cancelled(q: QueueHarness) -> None:
    timed, closed = q.add(), q.add()
    worker = q.open(b"w" * 16, ttl_ms=60_000)
    q.take(reservation_ms=1000)
    held = q.take(lease=worker)
    q.do(ExtendJob(closed, held.token))
    q.cancel(timed)
    q.cancel(closed)
    q.wait(1000)
    q.do(CloseSession(worker))
    assert q.states(timed, closed) == [CANCELLED, CANCELLED]
    assert counters(q, closed) == (0, 0, 1)


def test_a_job_that_ended_otherwise_is_not_cancelled(q: QueueHarness) -> None:
    job = q.add()
    q.complete(q.take())
    found = refused(q.cancel(job), Reason.JOB_FINAL)
    assert found.details["state"] == "DONE"
    refused(q.do(CancelJob(999)), Reason.NOT_FOUND)


# --- deadlines -------------------------------------------------------------------


def test_a_job_that_waits_too_long_expires(q: QueueHarness) -> None:
    ready, scheduled = q.add(deadline_ms=100), q.add(deadline_ms=100, delay_ms=200)
    q.wait(99)
    assert q.states(ready, scheduled) == [READY, SCHEDULED]
    q.wait(1)
    assert q.states(ready, scheduled) == [EXPIRED, EXPIRED]
    assert q.told(ready) == [READY, EXPIRED]


def test_a_deadline_does_not_take_a_job_from_its_worker(q: QueueHarness) -> None:
    job, other = q.add(deadline_ms=100), q.add(deadline_ms=100)
    held = q.reserve(2)
    q.wait(100)
    assert q.states(job, other) == [RESERVED, RESERVED]
    assert q.complete(held[0]) == JobCompleted()
    assert q.fail(held[1]) == JobFailed(EXPIRED, 0)


def test_a_deadline_waits_while_the_job_is_out_and_back(q: QueueHarness) -> None:
    job = q.add(deadline_ms=100)
    held = q.take()
    q.wait(50)
    assert q.machine.next_due_ms == q.now_ms + 50
    q.do(ReleaseJob(job, held.token))
    q.wait(49)
    assert q.state(job) is READY
    q.wait(1)
    assert q.state(job) is EXPIRED


def test_timers_are_found_again_after_a_reload(q: QueueHarness) -> None:
    late = q.add(delay_ms=1000)
    expiring = q.add(deadline_ms=1500, priority=9)
    walled = q.add(run_at_ms=q.wall_ms + 1000)
    out = q.add(priority=0)
    held = q.take(reservation_ms=1000)
    assert held.id == out
    other = q.reborn()
    for harness in (q, other):
        harness.wait(1000)
        assert harness.states(late, expiring, walled, out) == [READY] * 4
        harness.wait(500)
        assert harness.state(expiring) is EXPIRED
    assert q.save() == other.save()


def test_a_queue_that_only_waits_has_no_other_timer(q: QueueHarness) -> None:
    q.add(queue="idle")
    session_ends_ms = 1000 + 86_400_000
    assert q.machine.next_due_ms == session_ends_ms
    q.add(queue=Q, delay_ms=50)
    assert q.machine.next_due_ms == q.now_ms + 50
