"""Unique keys: one job at a time, for as long as was agreed."""

import pytest

from raftd.statemachine.schema.base import Reason
from raftd.statemachine.schema.jobs import (
    EnqueueJobs,
    JobsEnqueued,
    JobSpec,
    JobState,
    OnConflict,
    ReleaseJob,
    UniqueSpec,
    UniqueUntil,
)
from raftd.statemachine.schema.queues import JobsRedriven, PurgeQueue, RedriveJobs
from tests.statemachine.queues_harness import Q, QueueHarness, refused

READY, SCHEDULED, RESERVED = JobState.READY, JobState.SCHEDULED, JobState.RESERVED
DONE, DEAD = JobState.DONE, JobState.DEAD

STARTED = UniqueSpec("k", UniqueUntil.STARTED)
UNTIL_DONE = UniqueSpec("k", UniqueUntil.DONE)
WINDOW = UniqueSpec("k", UniqueUntil.WINDOW, 1000)


@pytest.fixture
def q() -> QueueHarness:
    return QueueHarness()


def again(q: QueueHarness, unique: UniqueSpec, **fields: object) -> JobsEnqueued:
    spec = JobSpec(**{"queue": Q, "payload": b"again", "unique": unique, **fields})  # type: ignore[arg-type]  # the fields' types are those of JobSpec
    return q.expect(JobsEnqueued, EnqueueJobs((spec,)))


@pytest.mark.parametrize("unique", [STARTED, UNTIL_DONE, WINDOW])
def test_a_second_job_is_answered_with_the_first(
    q: QueueHarness, unique: UniqueSpec
) -> None:
    job = q.add(unique=unique)
    answer = again(q, unique)
    assert (answer.ids, answer.states, answer.existed) == ((job,), (READY,), (True,))
    assert q.job(job).payload == b"payload"
    assert q.stats().enqueued == 1


def test_keys_belong_to_their_queue(q: QueueHarness) -> None:
    q.add(unique=UNTIL_DONE)
    assert again(q, UNTIL_DONE, queue="other").existed == (False,)


def test_until_started_frees_the_key_at_the_first_reservation(
    q: QueueHarness,
) -> None:
    first = q.add(unique=STARTED)
    held = q.take()
    second = again(q, STARTED)
    assert second.existed == (False,)
    q.do(ReleaseJob(first, held.token))
    assert again(q, STARTED).ids == second.ids, "given back, it has no claim any more"


def test_until_done_frees_the_key_at_any_end(q: QueueHarness) -> None:
    jobs = []
    for end in ("done", "dead", "cancelled", "purged"):
        job = q.add(unique=UNTIL_DONE)
        jobs.append(job)
        if end == "cancelled":
            q.cancel(job)
        elif end == "purged":
            q.do(PurgeQueue(Q, (READY,)))
        else:
            held = q.take()
            assert again(q, UNTIL_DONE).states == (RESERVED,)
            if end == "done":
                q.complete(held)
            else:
                q.fail(held, is_fatal=True)
    assert len(dict.fromkeys(jobs)) == 4


def test_a_window_holds_the_key_whatever_becomes_of_the_job(q: QueueHarness) -> None:
    job = q.add(unique=WINDOW)
    q.complete(q.take())
    assert again(q, WINDOW).states == (DONE,)
    q.do(PurgeQueue(Q, (DONE,)))
    q.wait(999)
    for harness in (q, q.reborn()):
        answer = again(harness, WINDOW)
        assert (answer.ids, answer.states, answer.existed) == ((job,), (DONE,), (True,))
    q.wait(1)
    assert again(q, WINDOW).existed == (False,)


def test_a_window_ends_while_its_job_still_waits(q: QueueHarness) -> None:
    q.add(unique=WINDOW)
    q.wait(1000)
    assert again(q, WINDOW).existed == (False,)
    assert q.stats().depth == 2


def test_a_windows_row_goes_with_the_window(q: QueueHarness) -> None:
    size_bytes = q.machine.context.size_bytes
    job = q.add(unique=WINDOW)
    q.cancel(job)
    assert 84 in {table for table, _ in q.save()}
    q.do(PurgeQueue(Q, (JobState.CANCELLED,)))
    q.wait(1000)
    assert 84 not in {table for table, _ in q.save()}
    assert q.machine.context.size_bytes == size_bytes + 500, "the queue is left"


def test_replace_gives_a_waiting_job_the_new_content(q: QueueHarness) -> None:
    replace = UniqueSpec("k", on_conflict=OnConflict.REPLACE)
    job = q.add(unique=UNTIL_DONE, meta={"a": "1"}, priority=3)
    q.save()
    answer = again(q, replace, meta={"b": "2"}, content_type="new", priority=9)
    assert (answer.ids, answer.existed) == ((job,), (True,))
    found = q.job(job)
    assert (found.payload, found.meta, found.content_type) == (
        b"again",
        {"b": "2"},
        "new",
    )
    assert found.priority == 3
    assert q.reborn().job(job) == found


def test_replace_leaves_a_job_in_a_workers_hands_alone(q: QueueHarness) -> None:
    job = q.add(unique=UNTIL_DONE)
    q.take()
    answer = again(q, UniqueSpec("k", on_conflict=OnConflict.REPLACE))
    assert (answer.ids, answer.states) == ((job,), (RESERVED,))
    assert q.job(job).payload == b"payload"


def test_debounce_moves_a_waiting_job_to_the_new_time(q: QueueHarness) -> None:
    debounce = UniqueSpec("k", on_conflict=OnConflict.DEBOUNCE)
    job = again(q, debounce, delay_ms=100).ids[0]
    for _ in range(3):
        q.wait(99)
        assert again(q, debounce, delay_ms=100).states == (SCHEDULED,)
    q.wait(99)
    assert q.state(job) is SCHEDULED
    q.wait(1)
    assert q.state(job) is READY
    again(q, debounce, run_at_ms=q.wall_ms + 10)
    assert q.state(job) is SCHEDULED
    again(q, debounce)
    assert q.state(job) is READY


def test_a_redriven_job_takes_its_key_again_if_it_is_free(q: QueueHarness) -> None:
    job = q.add(unique=UNTIL_DONE)
    q.fail(q.take(), is_fatal=True)
    other = again(q, UNTIL_DONE).ids[0]
    assert q.do(RedriveJobs(Q)) == JobsRedriven(0)
    q.cancel(other)
    assert q.do(RedriveJobs(Q)) == JobsRedriven(1)
    assert again(q, UNTIL_DONE).ids == (job,)
    assert q.do(RedriveJobs(Q, (JobState.CANCELLED,))) == JobsRedriven(0)


def test_of_two_dead_jobs_under_one_key_only_one_is_redriven(q: QueueHarness) -> None:
    for _ in range(2):
        q.add(unique=UNTIL_DONE)
        q.fail(q.take(), is_fatal=True)
    assert q.do(RedriveJobs(Q)) == JobsRedriven(1)
    assert (q.stats().counts[READY], q.stats().counts[DEAD]) == (1, 1)


def test_keys_are_found_again_after_a_reload(q: QueueHarness) -> None:
    started = UniqueSpec("s", UniqueUntil.STARTED)
    q.add(unique=started)
    q.take()
    jobs = q.add(unique=UNTIL_DONE), q.add(unique=started)
    other = q.reborn()
    assert again(other, UNTIL_DONE).ids == (jobs[0],)
    assert again(other, started).ids == (jobs[1],)


def test_a_refused_batch_takes_no_key(q: QueueHarness) -> None:
    bad = (JobSpec(Q, b"", unique=UNTIL_DONE), JobSpec(Q, b"", priority=77))
    refused(q.do(EnqueueJobs(bad)), Reason.INVALID_REQUEST)
    assert again(q, UNTIL_DONE).existed == (False,)
