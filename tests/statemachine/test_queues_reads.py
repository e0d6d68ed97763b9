"""What readers see, and how jobs stand in transactions, fences and rows."""

import pytest

from raftd.statemachine.queues import JobView
from raftd.statemachine.schema.base import Fence, FenceKind, Reason
from raftd.statemachine.schema.jobs import (
    CompleteJob,
    EnqueueJobs,
    FailJob,
    JobCompleted,
    JobFailed,
    JobsEnqueued,
    JobSpec,
    JobState,
    UniqueSpec,
)
from raftd.statemachine.schema.kv import IncrementKey, PutKey
from raftd.statemachine.schema.txn import (
    Compare,
    CompareOp,
    CompareTarget,
    Transact,
    Transacted,
)
from tests.statemachine.queues_harness import Q, QueueHarness, limits_with, refused

READY, SCHEDULED, RESERVED = JobState.READY, JobState.SCHEDULED, JobState.RESERVED
DONE, DEAD = JobState.DONE, JobState.DEAD


@pytest.fixture
def q() -> QueueHarness:
    return QueueHarness()


def ids(jobs: list[JobView]) -> list[int]:
    return [job.id for job in jobs]


# --- queries ---------------------------------------------------------------------


def test_what_is_not_there_is_none_and_not_an_error(q: QueueHarness) -> None:
    assert q.queues.get(1) is None
    assert q.queues.get_by_client_id("c") is None
    assert q.queues.stats("none") is None
    assert q.queues.options("none") is None
    assert q.queues.list_jobs("none") is None
    assert q.queues.depth("none") == 0


def test_counts_are_by_state_and_totals_since_the_queue_was_made(
    q: QueueHarness,
) -> None:
    q.add(delay_ms=50)
    for _ in range(5):
        q.add()
    done, failed, dead, _ = q.reserve(4)
    q.complete(done)
    q.fail(failed)
    q.fail(dead, is_fatal=True)
    stats = q.stats()
    assert stats.counts == {
        JobState.SCHEDULED: 2,
        JobState.READY: 1,
        JobState.BLOCKED: 0,
        JobState.RESERVED: 1,
        JobState.DONE: 1,
        JobState.DEAD: 1,
        JobState.CANCELLED: 0,
        JobState.EXPIRED: 0,
    }
    assert (stats.depth, q.queues.queue_depth(Q)) == (4, 4)
    assert (stats.enqueued, stats.completed, stats.failed, stats.dead) == (6, 1, 2, 1)
    assert q.reborn().stats() == stats


def test_the_age_of_the_oldest_ready_job_begins_when_it_was_due(
    q: QueueHarness,
) -> None:
    q.add(delay_ms=100, priority=9)
    assert q.stats().oldest_ready_ms is None
    q.wait(100)
    q.wait(30)
    q.add(priority=0, type="other")
    assert q.stats().oldest_ready_ms == 30
    (held,) = q.reserve(types=("other",))
    q.complete(held)
    q.wait(5)
    assert q.stats().oldest_ready_ms == 35


def test_lists_are_paged_by_id_and_filtered(q: QueueHarness) -> None:
    jobs = [q.add(type=f"t{n % 2}", delay_ms=n % 3) for n in range(12)]
    page = q.queues.list_jobs(Q, limit=5)
    assert page is not None
    assert (ids(page.jobs), page.next_after) == (jobs[:5], jobs[4])
    seen = ids(page.jobs)
    while page.next_after is not None:
        page = q.queues.list_jobs(Q, after=page.next_after, limit=5)
        assert page is not None
        seen += ids(page.jobs)
    assert seen == jobs
    page = q.queues.list_jobs(Q, (SCHEDULED,), "t1")
    assert page is not None
    assert ids(page.jobs) == [jobs[n] for n in range(12) if n % 2 and n % 3]


def test_a_page_looks_at_a_bounded_number_of_jobs(q: QueueHarness) -> None:
    for _ in range(2):
        q.enqueue(*(JobSpec(Q, b"") for _ in range(6000)))
    last = q.add(delay_ms=9)
    page = q.queues.list_jobs(Q, (SCHEDULED,))
    assert page is not None
    assert page.jobs == []
    assert page.next_after is not None
    page = q.queues.list_jobs(Q, (SCHEDULED,), after=page.next_after)
    assert page is not None
    assert (ids(page.jobs), page.next_after) == ([last], None)


def test_queues_are_listed_by_name(q: QueueHarness) -> None:
    for name in ("c", "a", "b"):
        q.configure(name)
    assert q.queues.list_queues() == ["a", "b", "c"]
    assert q.queues.list_queues(after="a", limit=1) == ["b"]


# --- fences and transactions -----------------------------------------------------


def test_a_reservation_fences_any_write(q: QueueHarness) -> None:
    job = q.add()
    held = q.take()
    fence = Fence(FenceKind.RESERVATION, "", held.token, job)
    q.do(PutKey(b"k", b"1"), fence)
    assert q.value(b"k") == b"1"
    q.wait(30_000)
    refused(q.do(PutKey(b"k", b"2"), fence), Reason.FENCED)
    assert q.value(b"k") == b"1"
    newer = q.take()
    found = refused(q.do(PutKey(b"k", b"2"), fence), Reason.FENCED)
    assert found.details["current"] == str(newer.token)


def test_complete_and_its_effects_are_one_entry(q: QueueHarness) -> None:
    job = q.add()
    held = q.take()
    command = Transact(
        (Compare(CompareTarget.RESERVATION_HELD, job=job, number=held.token),),
        (CompleteJob(job, held.token, b"7"), IncrementKey(b"total", 7)),
    )
    first = q.expect(Transacted, command)
    assert first.has_succeeded
    assert first.results[0] == JobCompleted()
    second = q.expect(Transacted, command)
    assert not second.has_succeeded
    assert q.value(b"total") == b"7"
    assert q.job(job).state is DONE


def test_a_refused_operation_takes_a_completion_back(q: QueueHarness) -> None:
    job = q.add(group="g", unique=UniqueSpec("u"))
    child = q.add(after=(job,))
    held = q.take()
    before = q.job(job)
    size_bytes = q.machine.context.size_bytes
    command = Transact(
        (),
        (CompleteJob(job, held.token, b"r"), PutKey(b"k", b"", if_mod_rev=99)),
    )
    found = refused(q.do(command), Reason.PRECONDITION)
    assert found.details["op"] == "1"
    assert q.job(job) == before
    assert q.state(child) is JobState.BLOCKED
    assert q.machine.context.size_bytes == size_bytes
    assert q.stats().completed == 0
    assert q.queues.holds_reservation(job, held.token)
    assert len(q.machine.leases.attachments(q.session)) == 1
    q.wait(30_000)
    assert q.state(job) is READY


def test_fail_and_enqueue_stand_in_transactions(q: QueueHarness) -> None:
    job = q.add()
    held = q.take()
    command = Transact(
        (Compare(CompareTarget.QUEUE_DEPTH, CompareOp.LESS, name=Q, number=2),),
        (
            FailJob(job, held.token, is_fatal=True),
            EnqueueJobs((JobSpec(Q, b"next"),)),
        ),
    )
    answer = q.expect(Transacted, command)
    assert answer.has_succeeded
    assert answer.results[0] == JobFailed(DEAD, 0)
    assert isinstance(answer.results[1], JobsEnqueued)
    assert q.stats().depth == 1


# --- refusals and rows -----------------------------------------------------------


def test_an_enqueue_refused_late_leaves_nothing_behind(q: QueueHarness) -> None:
    q.add(client_id="old", group="g", unique=UniqueSpec("old"))
    before = q.save()
    command = Transact(
        (),
        (
            EnqueueJobs(
                (
                    JobSpec(Q, b"", client_id="new", group="g", group_limit=4),
                    JobSpec(Q, b"", unique=UniqueSpec("new"), deadline_ms=5),
                    JobSpec("new", b"", delay_ms=10),
                )
            ),
            PutKey(b"k", b"", if_mod_rev=99),
        ),
    )
    refused(q.do(command), Reason.PRECONDITION)
    after = q.save()
    meta = [key for key in after if key[0] == 0]
    assert {key: after[key] for key in after if key not in meta} == {
        key: before[key] for key in before if key not in meta
    }
    assert q.queues.list_queues() == [Q]
    q.wait(10)
    assert q.stats().counts[READY] == 1


def test_a_refused_child_is_forgotten_by_its_parent(q: QueueHarness) -> None:
    parent = q.add()
    command = Transact(
        (),
        (
            EnqueueJobs((JobSpec(Q, b"", after=(parent,)),)),
            PutKey(b"k", b"", if_mod_rev=99),
        ),
    )
    refused(q.do(command), Reason.PRECONDITION)
    assert q.complete(q.take()) == JobCompleted()
    assert q.stats().depth == 0


def test_a_refused_completion_makes_nobody_go() -> None:
    q = QueueHarness(limits_with(done_kept_max=1, client_ids_max=1))
    jobs = [q.add(client_id=f"c{n}") for n in range(3)]
    for held in q.reserve(2):
        q.complete(held)
        q.wait(1)
    before = q.states(*jobs)
    assert before == [None, DONE, READY]
    held = q.take()
    rows = q.save()
    command = Transact(
        (),
        (CompleteJob(held.id, held.token), PutKey(b"k", b"", if_mod_rev=99)),
    )
    refused(q.do(command), Reason.PRECONDITION)
    assert q.states(*jobs) == [None, DONE, RESERVED]
    after = q.save()
    assert {key for key in rows if rows[key] != after.get(key)} <= {(0, b"machine")}
    known = EnqueueJobs(tuple(JobSpec(Q, b"", client_id=f"c{n}") for n in range(3)))
    assert q.expect(JobsEnqueued, known).ids == tuple(jobs)
    q.complete(held)
    assert q.states(*jobs) == [None, None, DONE]


def test_a_change_of_state_does_not_write_the_payload_again(q: QueueHarness) -> None:
    job = q.add(payload=bytes(1000))
    q.save()
    q.take()
    rows = [(table, len(value or b"")) for table, _, value in q.mark().rows()]
    assert 81 not in [table for table, _ in rows]
    assert sum(size for _, size in rows) < 500
    assert q.job(job).state is RESERVED


def test_jobs_are_loaded_with_everything_they_had(q: QueueHarness) -> None:
    jobs = [
        q.add(),
        q.add(payload=b"", client_id="c", type="t", content_type="ct", priority=9),
        q.add(
            meta={"a": "b"},
            max_attempts=3,
            reservation_ms=500,
            max_runtime_ms=900,
            deadline_ms=5000,
            unique=UniqueSpec("u"),
            group="g",
            group_limit=2,
        ),
        q.add(run_at_ms=q.wall_ms + 100),
    ]
    jobs.append(q.add(after=(jobs[0], jobs[3])))
    q.reserve(2)
    other = q.reborn()
    for job in jobs:
        assert other.job(job) == q.job(job)
    assert other.stats() == q.stats()
    assert other.queues.audit() == q.queues.audit()
    found = other.queues.get_by_client_id("c")
    assert found is not None
    assert found.id == jobs[1]
