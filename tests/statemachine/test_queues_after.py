"""Jobs after other jobs: who waits for whom, and what an end means to a child."""

import pytest

from raftd.statemachine.schema.base import Reason
from raftd.statemachine.schema.jobs import (
    EnqueueJobs,
    JobsEnqueued,
    JobSpec,
    JobState,
    OnParentFailure,
)
from raftd.statemachine.schema.queues import DeleteQueue, PurgeQueue, RedriveJobs
from tests.statemachine.queues_harness import Q, QueueHarness, limits_with, refused

READY, SCHEDULED, BLOCKED = JobState.READY, JobState.SCHEDULED, JobState.BLOCKED
DONE, DEAD, CANCELLED = JobState.DONE, JobState.DEAD, JobState.CANCELLED
CONTINUE = OnParentFailure.CONTINUE


@pytest.fixture
def q() -> QueueHarness:
    return QueueHarness()


def test_a_child_is_ready_when_its_last_parent_is_done(q: QueueHarness) -> None:
    parents = q.add(), q.add(queue="elsewhere")
    child = q.add(after=parents)
    assert (q.state(child), q.job(child).waits_for) == (BLOCKED, parents)
    q.complete(q.take())
    assert (q.state(child), q.job(child).waits_for) == (BLOCKED, parents[1:])
    (held,) = q.reserve(queues=(("elsewhere", 1),))
    q.complete(held)
    assert (q.state(child), q.job(child).waits_for) == (READY, ())
    assert q.events[-1].rev == q.events[-2].rev, "in the entry of its cause"


def test_parents_that_are_done_are_not_waited_for(q: QueueHarness) -> None:
    parent = q.add()
    q.complete(q.take())
    assert q.state(q.add(after=(parent, parent))) is READY


def test_a_child_that_is_also_delayed_waits_for_both(q: QueueHarness) -> None:
    parent = q.add()
    early, late = (
        q.add(after=(parent,), delay_ms=10),
        q.add(after=(parent,), delay_ms=90),
    )
    assert q.states(early, late) == [SCHEDULED, SCHEDULED]
    q.wait(10)
    assert q.states(early, late) == [BLOCKED, SCHEDULED]
    q.complete(q.take())
    assert q.states(early, late) == [READY, SCHEDULED]
    q.wait(80)
    assert q.state(late) is READY


def test_a_dead_parent_cancels_the_whole_line_below_it(q: QueueHarness) -> None:
    parent = q.add()
    child = q.add(after=(parent,))
    grandchild = q.add(after=(child,))
    q.fail(q.take(), is_fatal=True)
    assert q.states(parent, child, grandchild) == [DEAD, CANCELLED, CANCELLED]


@pytest.mark.parametrize("end", ["cancel", "expire", "purge"])
def test_any_other_end_of_a_parent_is_a_failure(q: QueueHarness, end: str) -> None:
    parent = q.add(deadline_ms=10)
    cascade = q.add(after=(parent,))
    carry_on = q.add(after=(parent,), on_parent_failure=CONTINUE)
    match end:
        case "cancel":
            q.cancel(parent)
        case "expire":
            q.wait(10)
        case _:
            q.do(PurgeQueue(Q, (READY,)))
    assert q.states(cascade, carry_on) == [CANCELLED, READY]


def test_a_parent_in_a_deleted_queue_is_a_failure(q: QueueHarness) -> None:
    parent = q.add(queue="gone")
    child = q.add(after=(parent,))
    q.do(DeleteQueue("gone", is_forced=True))
    assert q.state(child) is CANCELLED
    refused(q.do(EnqueueJobs((JobSpec(Q, b"", after=(parent,)),))), Reason.NOT_FOUND)


def test_a_child_of_a_failed_parent_is_cancelled_from_the_start(
    q: QueueHarness,
) -> None:
    parent = q.add()
    q.cancel(parent)
    answer = q.expect(
        JobsEnqueued,
        EnqueueJobs(
            (
                JobSpec(Q, b"", after=(parent,)),
                JobSpec(Q, b"", after=(parent,), on_parent_failure=CONTINUE),
            )
        ),
    )
    assert answer.states == (CANCELLED, READY)
    assert q.told(answer.ids[0]) == [CANCELLED]


def test_redriving_a_parent_does_not_revive_its_children(q: QueueHarness) -> None:
    parent = q.add()
    child = q.add(after=(parent,))
    q.fail(q.take(), is_fatal=True)
    q.do(RedriveJobs(Q, (DEAD,)))
    assert q.states(parent, child) == [READY, CANCELLED]
    q.do(RedriveJobs(Q, (CANCELLED,)))
    assert q.state(child) is READY, "it waits for nobody in its next life"


def test_a_cancelled_child_does_not_hold_on_to_its_parent(q: QueueHarness) -> None:
    parent = q.add()
    child = q.add(after=(parent,))
    q.cancel(child)
    q.complete(q.take())
    assert q.states(parent, child) == [DONE, CANCELLED]


def test_a_child_in_a_closed_group_stays_blocked(q: QueueHarness) -> None:
    parent = q.add()
    head = q.add(group="g", delay_ms=50)
    child = q.add(group="g", after=(parent,))
    q.complete(q.take())
    assert q.states(head, child) == [SCHEDULED, BLOCKED]
    q.wait(50)
    q.complete(q.take())
    assert q.state(child) is READY


def test_a_child_that_waits_keeps_its_group_closed(q: QueueHarness) -> None:
    parent = q.add()
    child = q.add(group="g", after=(parent,))
    second = q.add(group="g")
    assert q.states(child, second) == [BLOCKED, BLOCKED]
    q.complete(q.take())
    assert q.states(child, second) == [READY, BLOCKED]


def test_a_batch_may_not_name_parents_it_cannot_know(q: QueueHarness) -> None:
    found = refused(
        q.do(EnqueueJobs((JobSpec(Q, b""), JobSpec(Q, b"", after=(12345,))))),
        Reason.NOT_FOUND,
    )
    assert found.details == {"job": "12345", "job_index": "1"}


def test_many_children_are_told_in_bounded_steps() -> None:
    limits = limits_with(promotions_max=10, work_rows_max=10)
    q = QueueHarness(limits)
    parent = q.add()
    children = q.enqueue(*(JobSpec(Q, b"", after=(parent,)) for _ in range(55)))
    q.complete(q.take())
    told = [state for child in children for state in q.told(child)].count(READY)
    assert 10 <= told <= 20, "a command's share, and an entry's background share"
    assert q.machine.has_backlog
    q = q.reborn(limits)
    entries = 0
    while q.machine.has_backlog:
        q.entry()
        entries += 1
    assert entries >= 2
    assert q.states(*children) == [READY] * 55


def test_a_long_line_of_descendants_falls_in_bounded_steps() -> None:
    q = QueueHarness(limits_with(promotions_max=10, work_rows_max=10))
    line = [q.add()]
    for _ in range(60):
        line.append(q.add(after=(line[-1],)))
    q.fail(q.take(), is_fatal=True)
    assert q.states(*line).count(CANCELLED) <= 20
    while q.machine.has_backlog:
        q.entry()
    assert q.states(*line) == [DEAD] + [CANCELLED] * 60


def test_a_child_that_came_after_a_redrive_is_not_told_of_the_first_end() -> None:
    q = QueueHarness(limits_with(promotions_max=2, work_rows_max=1))
    parent = q.add()
    old = q.enqueue(*(JobSpec(Q, b"", after=(parent,)) for _ in range(8)))
    q.fail(q.take(), is_fatal=True)
    assert BLOCKED in q.states(*old)
    q.do(RedriveJobs(Q))
    new = q.add(after=(parent,))
    while q.machine.has_backlog:
        q.entry()
    assert q.states(*old) == [CANCELLED] * 8
    assert q.state(new) is BLOCKED
    q.complete(q.take())
    while q.machine.has_backlog:
        q.entry()
    assert q.state(new) is READY
