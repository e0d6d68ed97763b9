"""What operators do to queues, how long ended jobs are kept, and work in steps."""

import pytest

from raftd.statemachine.schema.base import Reason
from raftd.statemachine.schema.entry import AnyCommand
from raftd.statemachine.schema.jobs import (
    Backoff,
    CompleteJob,
    EnqueueJobs,
    ExtendJob,
    JobsEnqueued,
    JobSpec,
    JobState,
    ReleaseJob,
)
from raftd.statemachine.schema.queues import (
    ConfigureQueue,
    DeleteQueue,
    PauseQueue,
    PurgeQueue,
    QueueConfigured,
    QueueDeleted,
    QueueOptions,
    QueuePaused,
    QueuePurged,
    RedriveJobs,
)
from tests.statemachine.queues_harness import Q, QueueHarness, limits_with, refused

READY, SCHEDULED, BLOCKED = JobState.READY, JobState.SCHEDULED, JobState.BLOCKED
RESERVED, DONE, DEAD = JobState.RESERVED, JobState.DONE, JobState.DEAD
CANCELLED, EXPIRED = JobState.CANCELLED, JobState.EXPIRED
HOUR_MS = 3_600_000


@pytest.fixture
def q() -> QueueHarness:
    return QueueHarness()


def finish(q: QueueHarness, count: int, **fields: object) -> list[int]:
    """Have jobs ended: completed, or failed with these fields."""
    jobs = [q.add() for _ in range(count)]
    for held in q.reserve(count):
        if fields:
            q.fail(held, **fields)
        else:
            q.complete(held, b"result")
    return jobs


# --- configure and pause ---------------------------------------------------------


def test_a_queue_has_every_setting_and_keeps_what_is_not_named(
    q: QueueHarness,
) -> None:
    q.do(ConfigureQueue(Q, QueueOptions()))
    defaults = q.queues.options(Q)
    assert defaults is not None
    assert defaults == QueueOptions(
        depth_max=1_000_000,
        max_attempts=20,
        max_crashes=5,
        backoff=Backoff.EXPONENTIAL,
        backoff_base_ms=1000,
        backoff_cap_ms=HOUR_MS,
        backoff_jitter=25,
        reservation_ms=30_000,
        grace_ms=0,
        concurrency_max=0,
        may_complete_late=False,
        done_retention_ms=HOUR_MS,
        dead_retention_ms=14 * 24 * HOUR_MS,
    )
    q.configure(max_attempts=3, may_complete_late=True)
    q.configure(backoff=Backoff.LINEAR)
    found = q.reborn().queues.options(Q)
    assert found is not None
    assert (found.max_attempts, found.backoff, found.depth_max) == (
        3,
        Backoff.LINEAR,
        1_000_000,
    )
    assert found.may_complete_late


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (ConfigureQueue("", QueueOptions()), Reason.INVALID_NAME),
        (ConfigureQueue(Q, QueueOptions(depth_max=0)), Reason.INVALID_REQUEST),
        (ConfigureQueue(Q, QueueOptions(backoff_jitter=101)), Reason.INVALID_REQUEST),
        (ConfigureQueue(Q, QueueOptions(grace_ms=-1)), Reason.INVALID_REQUEST),
        (ConfigureQueue(Q, QueueOptions(reservation_ms=0)), Reason.INVALID_REQUEST),
        (PauseQueue("none", is_paused=True), Reason.NOT_FOUND),
        (PurgeQueue("none", (READY,)), Reason.NOT_FOUND),
        (DeleteQueue("none"), Reason.NOT_FOUND),
        (RedriveJobs("none"), Reason.NOT_FOUND),
        (RedriveJobs(Q, (READY,)), Reason.INVALID_REQUEST),
        (RedriveJobs(Q, (DONE,)), Reason.INVALID_REQUEST),
        (RedriveJobs(Q, jobs_max=0), Reason.INVALID_REQUEST),
        (RedriveJobs(Q, jobs_max=100_001), Reason.INVALID_REQUEST),
        (RedriveJobs(Q, jobs=tuple(range(1001))), Reason.TOO_LARGE),
        (RedriveJobs(Q, type="t" * 257), Reason.TOO_LARGE),
    ],
)
def test_a_verb_that_cannot_be_is_refused(
    q: QueueHarness, command: AnyCommand, reason: Reason
) -> None:
    refused(q.do(command), reason)
    assert q.queues.list_queues() == []


def test_saying_the_same_again_changes_nothing(q: QueueHarness) -> None:
    q.configure(depth_max=5)
    before = q.machine.revision
    assert q.do(ConfigureQueue(Q, QueueOptions(depth_max=5))) == QueueConfigured()
    assert q.do(PauseQueue(Q, is_paused=False)) == QueuePaused()
    assert q.machine.revision == before


def test_a_pause_survives_a_reload(q: QueueHarness) -> None:
    q.add()
    q.do(PauseQueue(Q, is_paused=True))
    assert q.reborn().reserve() == []


# --- retention -------------------------------------------------------------------


def test_done_jobs_are_kept_for_an_hour(q: QueueHarness) -> None:
    early = finish(q, 2)
    q.wait(1000)
    late = finish(q, 1)
    q.wait(HOUR_MS - 1001)
    assert q.states(*early, *late) == [DONE, DONE, DONE]
    q.wait(1)
    assert q.states(*early, *late) == [None, None, DONE]
    assert q.told(early[0])[-1] is None
    q.wait(1000)
    assert q.states(*late) == [None]
    assert q.stats().completed == 3


def test_dead_cancelled_and_expired_jobs_are_kept_for_two_weeks(
    q: QueueHarness,
) -> None:
    jobs = finish(q, 1, is_fatal=True)
    jobs += [q.add(), q.add(deadline_ms=1)]
    q.cancel(jobs[1])
    q.wait(1)
    assert q.states(*jobs) == [DEAD, CANCELLED, EXPIRED]
    q.wait(14 * 24 * HOUR_MS - 2)
    assert q.states(*jobs) == [DEAD, CANCELLED, EXPIRED]
    q.wait(2)
    assert q.states(*jobs) == [None, None, None]


def test_the_oldest_go_first_beyond_the_number_kept() -> None:
    q = QueueHarness(limits_with(done_kept_max=2, dead_kept_max=1))
    jobs = []
    for _ in range(4):
        jobs += finish(q, 1)
        q.wait(1)
    assert q.states(*jobs) == [None, None, DONE, DONE]
    dead = finish(q, 1, is_fatal=True)
    q.wait(1)
    waiting = q.add()
    q.cancel(waiting)
    assert q.states(*dead, waiting) == [None, CANCELLED]


def test_a_shorter_retention_counts_at_once(q: QueueHarness) -> None:
    jobs = finish(q, 1)
    q.wait(500)
    q.configure(done_retention_ms=600)
    q.wait(99)
    assert q.states(*jobs) == [DONE]
    q.wait(1)
    assert q.states(*jobs) == [None]


def test_retention_goes_on_after_a_reload_and_in_bounded_steps() -> None:
    limits = limits_with(work_rows_max=100)
    q = QueueHarness(limits)
    for _ in range(3):
        finish(q, 100)
    other = q.reborn(limits)
    for harness in (q, other):
        harness.wait(HOUR_MS)
        assert harness.stats().counts[DONE] == 200
        assert harness.machine.has_backlog
        harness.entry()
        harness.entry()
        assert harness.stats().counts[DONE] == 0
    assert q.save() == other.save()


# --- purge and delete ------------------------------------------------------------


def test_purge_removes_the_states_named_and_never_reserved_ones(
    q: QueueHarness,
) -> None:
    done = finish(q, 1)
    dead = finish(q, 1, is_fatal=True)
    held = q.add()
    q.take()
    ready, scheduled = q.add(), q.add(delay_ms=10)
    refused(q.do(PurgeQueue(Q, (RESERVED,))), Reason.INVALID_REQUEST)
    refused(q.do(PurgeQueue(Q, ())), Reason.INVALID_REQUEST)
    assert q.do(PurgeQueue(Q, (DONE, READY, DONE))) == QueuePurged(2)
    assert q.states(*done, *dead, held, ready, scheduled) == [
        None,
        DEAD,
        RESERVED,
        None,
        SCHEDULED,
    ]
    assert q.do(PurgeQueue(Q, (DONE,))) == QueuePurged(0)
    assert q.do(PurgeQueue(Q, (SCHEDULED, DEAD))) == QueuePurged(2)
    assert q.stats().depth == 1


def test_purging_few_ended_jobs_does_not_look_at_the_waiting_ones() -> None:
    q = QueueHarness(limits_with(work_rows_max=5))
    dead = finish(q, 3, is_fatal=True)
    q.enqueue(*(JobSpec(Q, b"") for _ in range(200)))
    assert q.do(PurgeQueue(Q, (DEAD,))) == QueuePurged(3)
    assert q.states(*dead) == [None] * 3
    assert not q.machine.has_backlog


def test_a_large_purge_goes_in_steps_and_spares_what_came_later() -> None:
    limits = limits_with(work_rows_max=10)
    q = QueueHarness(limits)
    q.enqueue(*(JobSpec(Q, b"", client_id=f"c{n}") for n in range(55)))
    assert q.do(PurgeQueue(Q, (READY,))) == QueuePurged(55)
    assert q.stats().depth == 35, "a step at once, another in the background"
    later = q.add()
    q = q.reborn(limits)
    entries = 0
    while q.machine.has_backlog:
        q.entry()
        entries += 1
    assert entries >= 2
    assert q.stats().depth == 1
    assert q.state(later) is READY


def test_a_queue_with_jobs_is_deleted_only_by_force(q: QueueHarness) -> None:
    q.add()
    q.add(delay_ms=9)
    held = q.take()
    found = refused(q.do(DeleteQueue(Q)), Reason.PRECONDITION)
    assert found.details["size"] == "2"
    assert q.do(DeleteQueue(Q, is_forced=True)) == QueueDeleted(2)
    assert q.queues.list_queues() == []
    assert (q.queues.stats(Q), q.queues.options(Q), q.queues.depth(Q)) == (
        None,
        None,
        0,
    )
    refused(q.complete(held), Reason.NOT_FOUND)
    assert q.machine.leases.attachments(q.session) == []
    rows = {table for table, _ in q.save() if 70 <= table < 90}
    assert rows == set()


def test_a_drained_queue_counts_as_empty(q: QueueHarness) -> None:
    finish(q, 3)
    assert q.do(DeleteQueue(Q)) == QueueDeleted(3)
    finish(q, 1, is_fatal=True)
    refused(q.do(DeleteQueue(Q)), Reason.PRECONDITION)


def test_a_deleted_queue_gives_back_the_size_it_counted(q: QueueHarness) -> None:
    before = q.machine.context.size_bytes
    q.add(client_id="", unique=None, group="g", meta={"a": "b"})
    finish(q, 2)
    q.do(DeleteQueue(Q, is_forced=True))
    assert q.machine.context.size_bytes == before


def test_a_large_deleted_queue_is_gone_for_everybody_at_once() -> None:
    limits = limits_with(work_rows_max=10)
    q = QueueHarness(limits)
    jobs = q.enqueue(
        *(JobSpec(Q, b"", client_id=f"c{n}", group=f"g{n % 3}") for n in range(50))
    )
    held = q.reserve(3)
    assert q.do(DeleteQueue(Q, is_forced=True)) == QueueDeleted(50)
    q = q.reborn(limits)
    assert q.machine.has_backlog
    last = held[-1]
    calls: tuple[AnyCommand, ...] = (
        CompleteJob(jobs[-1], last.token),
        ExtendJob(last.id, last.token),
        ReleaseJob(last.id, last.token),
    )
    for call in calls:
        refused(q.do(call), Reason.NOT_FOUND)
    assert q.reserve() == []
    assert q.states(*jobs) == [None] * 50
    assert q.queues.list_jobs(Q) is None
    again = EnqueueJobs((JobSpec("other", b"", client_id="c49"),))
    assert q.expect(JobsEnqueued, again).existed == (True,)


def test_the_name_of_a_deleted_queue_is_free_when_its_jobs_are_removed() -> None:
    q = QueueHarness(limits_with(work_rows_max=10))
    q.enqueue(*(JobSpec(Q, b"") for _ in range(50)))
    q.do(DeleteQueue(Q, is_forced=True))
    refused(q.do(EnqueueJobs((JobSpec(Q, b""),))), Reason.PRECONDITION)
    refused(q.do(ConfigureQueue(Q, QueueOptions())), Reason.PRECONDITION)
    while q.machine.has_backlog:
        q.entry()
    q.enqueue()
    assert (q.stats().enqueued, q.stats().depth) == (1, 1)


def test_background_work_ends_when_its_queue_is_deleted() -> None:
    q = QueueHarness(limits_with(work_rows_max=5))
    finish(q, 40, is_fatal=True)
    q.enqueue(*(JobSpec(Q, b"") for _ in range(30)))
    q.do(RedriveJobs(Q))
    q.do(PurgeQueue(Q, (READY,)))
    q.do(DeleteQueue(Q, is_forced=True))
    for _ in range(40):
        q.entry()
    assert not q.machine.has_backlog
    assert {table for table, _ in q.save() if 70 <= table < 90} == set()


def test_only_what_can_be_blocked_is_blocked(q: QueueHarness) -> None:
    parent = q.add(delay_ms=10)
    child = q.add(after=(parent,))
    assert q.do(PurgeQueue(Q, (BLOCKED,))) == QueuePurged(1)
    assert q.states(parent, child) == [SCHEDULED, None]
    q.wait(10)
    q.complete(q.take())
