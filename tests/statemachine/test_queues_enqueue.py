"""Enqueue: what becomes of a new job, and what is refused with nothing left behind."""

import pytest

from raftd.statemachine.schema.base import Reason
from raftd.statemachine.schema.jobs import (
    Backoff,
    EnqueueJobs,
    JobCompleted,
    JobsEnqueued,
    JobSpec,
    JobState,
    UniqueSpec,
    UniqueUntil,
)
from raftd.statemachine.schema.queues import PurgeQueue
from tests.statemachine.queues_harness import Q, QueueHarness, limits_with, refused

READY, SCHEDULED = JobState.READY, JobState.SCHEDULED
HOUR_MS = 3_600_000


@pytest.fixture
def q() -> QueueHarness:
    return QueueHarness()


def test_a_new_job_is_ready_and_the_event_says_so(q: QueueHarness) -> None:
    answer = q.expect(JobsEnqueued, EnqueueJobs((JobSpec(Q, b"abc"),)))
    (job,) = answer.ids
    assert (answer.states, answer.existed) == ((READY,), (False,))
    assert q.job(job).payload == b"abc"
    assert q.told(job) == [READY]
    assert q.events[-1].previous is None
    assert q.events[-1].rev < job == q.machine.revision


def test_a_batch_gets_rising_ids_in_its_own_order(q: QueueHarness) -> None:
    specs = [JobSpec(Q, bytes([n]), priority=9 - n) for n in range(5)]
    ids = q.enqueue(*specs)
    assert ids == sorted(ids)
    assert [q.job(job).payload for job in ids] == [bytes([n]) for n in range(5)]


def test_a_batch_with_one_bad_job_leaves_nothing(q: QueueHarness) -> None:
    q.enqueue()
    before, revision = q.save(), q.machine.revision
    specs = (
        JobSpec("new queue", b"", client_id="c", group="g", group_limit=2),
        JobSpec(Q, b"", delay_ms=5, unique=UniqueSpec("u", UniqueUntil.WINDOW, 9)),
        JobSpec(Q, b"", priority=10),
    )
    found = refused(q.do(EnqueueJobs(specs)), Reason.INVALID_REQUEST)
    assert found.details["job_index"] == "2"
    assert q.machine.revision == revision
    assert q.queues.list_queues() == [Q]
    assert q.save().keys() == before.keys()
    assert (q.add(client_id="c"), q.add()) == (revision + 2, revision + 4)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (JobSpec("", b""), Reason.INVALID_NAME),
        (JobSpec("a\nb", b""), Reason.INVALID_NAME),
        (JobSpec("q" * 257, b""), Reason.INVALID_NAME),
        (JobSpec(Q, bytes((1 << 20) + 1)), Reason.TOO_LARGE),
        (JobSpec(Q, b"", type="t" * 257), Reason.TOO_LARGE),
        (JobSpec(Q, b"", content_type="t" * 257), Reason.TOO_LARGE),
        (JobSpec(Q, b"", client_id="é" * 129), Reason.TOO_LARGE),
        (JobSpec(Q, b"", group="g" * 257), Reason.TOO_LARGE),
        (JobSpec(Q, b"", meta={"k": "v" * 65_536}), Reason.TOO_LARGE),
        (JobSpec(Q, b"", priority=-1), Reason.INVALID_REQUEST),
        (JobSpec(Q, b"", delay_ms=-1), Reason.INVALID_REQUEST),
        (JobSpec(Q, b"", run_at_ms=-1), Reason.INVALID_REQUEST),
        (JobSpec(Q, b"", delay_ms=1, run_at_ms=1), Reason.INVALID_REQUEST),
        (JobSpec(Q, b"", max_attempts=0), Reason.INVALID_REQUEST),
        (JobSpec(Q, b"", backoff_jitter=101), Reason.INVALID_REQUEST),
        (JobSpec(Q, b"", reservation_ms=0), Reason.INVALID_REQUEST),
        (JobSpec(Q, b"", max_runtime_ms=0), Reason.INVALID_REQUEST),
        (JobSpec(Q, b"", deadline_ms=0), Reason.INVALID_REQUEST),
        (JobSpec(Q, b"", group="g", group_limit=0), Reason.INVALID_REQUEST),
        (JobSpec(Q, b"", after=tuple(range(101))), Reason.TOO_LARGE),
        (JobSpec(Q, b"", after=(999,)), Reason.NOT_FOUND),
        (JobSpec(Q, b"", unique=UniqueSpec("")), Reason.INVALID_REQUEST),
        (JobSpec(Q, b"", unique=UniqueSpec("k" * 1025)), Reason.TOO_LARGE),
        (
            JobSpec(Q, b"", unique=UniqueSpec("k", UniqueUntil.WINDOW)),
            Reason.INVALID_REQUEST,
        ),
    ],
)
def test_a_job_that_cannot_be_is_refused(
    q: QueueHarness, spec: JobSpec, reason: Reason
) -> None:
    refused(q.do(EnqueueJobs((spec,))), reason)
    assert q.queues.list_queues() == []


def test_a_batch_has_at_least_one_job_and_at_most_the_limit() -> None:
    q = QueueHarness(limits_with(enqueue_jobs_max=2))
    spec = JobSpec(Q, b"")
    refused(q.do(EnqueueJobs(())), Reason.INVALID_REQUEST)
    found = refused(q.do(EnqueueJobs((spec,) * 3)), Reason.TOO_LARGE)
    assert found.details["limit_name"] == "enqueue_jobs_max"
    assert len(q.enqueue(spec, spec)) == 2


def test_queues_are_bounded_in_number() -> None:
    q = QueueHarness(limits_with(queues_max=1))
    q.enqueue()
    found = refused(q.do(EnqueueJobs((JobSpec("other", b""),))), Reason.TOO_MANY)
    assert found.details["limit_name"] == "queues_max"


def test_a_delayed_job_is_ready_when_the_lease_clock_says_so(q: QueueHarness) -> None:
    job = q.add(delay_ms=1000)
    assert q.state(job) is SCHEDULED
    q.wait(999)
    assert q.reserve() == []
    q.wait(1)
    assert q.told(job) == [SCHEDULED, READY]
    assert q.take().id == job


def test_a_run_at_job_is_ready_when_the_wall_clock_says_so(q: QueueHarness) -> None:
    job = q.add(run_at_ms=q.wall_ms + 50)
    past = q.add(run_at_ms=q.wall_ms - 50)
    assert q.states(job, past) == [SCHEDULED, READY]
    q.now_ms += 100_000
    q.entry()
    assert q.state(job) is SCHEDULED
    q.wall_ms += 50
    q.entry()
    assert q.state(job) is READY


def test_a_full_queue_refuses_and_drops_nothing(q: QueueHarness) -> None:
    q.configure(depth_max=2)
    q.enqueue(JobSpec(Q, b""), JobSpec(Q, b"", delay_ms=5))
    found = refused(q.do(EnqueueJobs((JobSpec(Q, b""),))), Reason.QUEUE_FULL)
    assert (found.details["limit"], found.details["size"]) == ("2", "3")
    assert q.stats().depth == 2
    q.complete(q.take())
    q.enqueue()


def test_a_full_state_refuses_jobs_but_lets_them_be_completed() -> None:
    q = QueueHarness(limits_with(state_bytes_max=10_000))
    command = EnqueueJobs((JobSpec(Q, bytes(500)),))
    while isinstance(answer := q.do(command), JobsEnqueued):
        pass
    found = refused(answer, Reason.QUOTA)
    assert found.details["limit"] == "10000"
    for job in q.reserve(100):
        assert isinstance(q.complete(job), JobCompleted)
    assert q.stats().depth == 0


def test_the_same_client_id_gets_the_same_job_while_it_lives(q: QueueHarness) -> None:
    job = q.add(client_id="order 7")
    again = q.expect(
        JobsEnqueued, EnqueueJobs((JobSpec("elsewhere", b"x", client_id="order 7"),))
    )
    assert (again.ids, again.states, again.existed) == ((job,), (READY,), (True,))
    found = q.queues.get_by_client_id("order 7")
    assert found is not None
    assert found.id == job


def test_a_client_id_twice_in_one_batch_is_one_job(q: QueueHarness) -> None:
    spec = JobSpec(Q, b"", client_id="c")
    answer = q.expect(JobsEnqueued, EnqueueJobs((spec, spec)))
    assert answer.ids[0] == answer.ids[1]
    assert answer.existed == (False, True)
    assert q.stats().enqueued == 1


def test_a_client_id_is_known_after_the_job_was_done(q: QueueHarness) -> None:
    job = q.add(client_id="c")
    q.complete(q.take())
    again = q.expect(JobsEnqueued, EnqueueJobs((JobSpec(Q, b"", client_id="c"),)))
    assert (again.ids, again.states) == ((job,), (JobState.DONE,))


def test_a_client_id_is_remembered_an_hour_after_the_job_is_gone(
    q: QueueHarness,
) -> None:
    job = q.add(client_id="c")
    q.complete(q.take())
    q.do(PurgeQueue(Q, (JobState.DONE,)))
    assert q.state(job) is None
    assert q.queues.get_by_client_id("c") is None
    q.wait(HOUR_MS - 1)
    for harness in (q, q.reborn()):
        again = harness.expect(
            JobsEnqueued, EnqueueJobs((JobSpec(Q, b"", client_id="c"),))
        )
        assert (again.ids, again.states, again.existed) == (
            (job,),
            (JobState.DONE,),
            (True,),
        )
    q.wait(1)
    assert q.add(client_id="c") > job


def test_the_oldest_client_ids_are_forgotten_beyond_the_limit() -> None:
    q = QueueHarness(limits_with(client_ids_max=2))
    jobs = [q.add(client_id=f"c{n}") for n in range(3)]
    for _ in jobs:
        q.complete(q.take())
        q.do(PurgeQueue(Q, (JobState.DONE,)))
        q.wait(1)
    answer = q.expect(
        JobsEnqueued,
        EnqueueJobs(tuple(JobSpec(Q, b"", client_id=f"c{n}") for n in range(3))),
    )
    assert answer.existed == (False, True, True)


def test_a_job_keeps_its_own_settings_and_shares_the_rest(q: QueueHarness) -> None:
    q.configure(max_attempts=7)
    plain = q.add()
    own = q.add(max_attempts=3, meta={"trace": "1"}, backoff=Backoff.FIXED)
    assert (q.job(plain).max_attempts, q.job(own).max_attempts) == (7, 3)
    assert q.job(own).meta == {"trace": "1"}
    q.configure(max_attempts=9)
    assert (q.job(plain).max_attempts, q.job(own).max_attempts) == (9, 3)


def test_sizes_are_counted_and_given_back(q: QueueHarness) -> None:
    q.enqueue()
    empty = q.machine.context.size_bytes - q.queues.audit()
    q.add(client_id="c", meta={"a": "b"}, group="g", type="t", unique=UniqueSpec("u"))
    q.add(delay_ms=10)
    assert q.machine.context.size_bytes == empty + q.queues.audit()
    jobs = q.reserve(5)
    q.fail(jobs[0], error="no", is_fatal=True)
    q.complete(jobs[1], b"result")
    assert q.machine.context.size_bytes == empty + q.queues.audit()
