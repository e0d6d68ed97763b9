"""Groups: strictly in order, k at a time, whatever happens to the first ones."""

import pytest

from raftd.statemachine.schema.base import Reason
from raftd.statemachine.schema.jobs import (
    CompleteJob,
    EnqueueJobs,
    JobsEnqueued,
    JobSpec,
    JobState,
    ReleaseJob,
    SnoozeJob,
)
from raftd.statemachine.schema.leases import RevokeLease
from raftd.statemachine.schema.queues import PurgeQueue, RedriveJobs
from raftd.statemachine.schema.txn import Transact, Transacted
from tests.statemachine.queues_harness import Q, QueueHarness, refused

READY, SCHEDULED, BLOCKED = JobState.READY, JobState.SCHEDULED, JobState.BLOCKED
RESERVED, DONE, DEAD = JobState.RESERVED, JobState.DONE, JobState.DEAD
CANCELLED, EXPIRED = JobState.CANCELLED, JobState.EXPIRED


@pytest.fixture
def q() -> QueueHarness:
    return QueueHarness()


def members(q: QueueHarness, count: int, limit: int = 1) -> list[int]:
    return [q.add(group="g", group_limit=limit) for _ in range(count)]


def test_a_group_is_handed_out_one_by_one_in_order(q: QueueHarness) -> None:
    jobs = members(q, 3)
    assert q.states(*jobs) == [READY, BLOCKED, BLOCKED]
    got = []
    for _ in jobs:
        (held,) = q.reserve(9)
        got.append(held.id)
        q.complete(held)
    assert got == jobs


def test_the_next_is_ready_in_the_entry_that_ended_the_first(q: QueueHarness) -> None:
    jobs = members(q, 2)
    held = q.take()
    applied = q.entry(CompleteJob(held.id, held.token))
    assert applied.record is not None
    assert q.states(*jobs) == [DONE, READY]
    assert len({event.rev for event in q.events[-2:]}) == 1


def test_priority_does_not_overtake_within_a_group(q: QueueHarness) -> None:
    first = q.add(group="g", priority=9)
    urgent = q.add(group="g", priority=0)
    assert [job.id for job in q.reserve(9)] == [first]
    assert q.state(urgent) is BLOCKED


def test_groups_and_queues_do_not_mind_each_other(q: QueueHarness) -> None:
    q.add(group="g")
    assert q.state(q.add(group="h")) is READY
    assert q.state(q.add(queue="other", group="g")) is READY
    assert q.state(q.add()) is READY


def test_k_members_are_out_at_once(q: QueueHarness) -> None:
    jobs = members(q, 4, limit=2)
    held = q.reserve(9)
    assert [job.id for job in held] == jobs[:2]
    q.complete(held[1])
    assert q.states(*jobs) == [RESERVED, DONE, READY, BLOCKED]


def test_a_head_in_backoff_keeps_its_group_closed(q: QueueHarness) -> None:
    head, second = members(q, 2)
    q.fail(q.take(), retry_in_ms=100)
    assert q.states(head, second) == [SCHEDULED, BLOCKED]
    q.wait(100)
    assert q.take().id == head


def test_a_snoozed_or_delayed_head_keeps_its_group_closed(q: QueueHarness) -> None:
    head, second = q.add(group="g", delay_ms=50), q.add(group="g")
    assert q.states(head, second) == [SCHEDULED, BLOCKED]
    q.wait(50)
    held = q.take()
    q.do(SnoozeJob(head, held.token, 50))
    assert q.states(head, second) == [SCHEDULED, BLOCKED]


def test_a_dead_or_cancelled_or_expired_head_opens_its_group(q: QueueHarness) -> None:
    jobs = [q.add(group="g"), q.add(group="g"), q.add(group="g", deadline_ms=10)]
    last = q.add(group="g")
    q.fail(q.take(), is_fatal=True)
    assert q.states(*jobs, last) == [DEAD, READY, BLOCKED, BLOCKED]
    q.cancel(jobs[1])
    assert q.states(*jobs, last) == [DEAD, CANCELLED, READY, BLOCKED]
    q.wait(10)
    assert q.states(*jobs, last) == [DEAD, CANCELLED, EXPIRED, READY]


def test_a_purged_head_opens_its_group(q: QueueHarness) -> None:
    head, second = members(q, 2)
    q.do(PurgeQueue(Q, (READY,)))
    assert q.states(head, second) == [None, READY]


def test_a_delayed_member_becomes_blocked_when_it_is_not_its_turn(
    q: QueueHarness,
) -> None:
    head = q.add(group="g")
    second = q.add(group="g", delay_ms=10)
    q.wait(10)
    assert q.states(head, second) == [READY, BLOCKED]


def test_a_released_member_keeps_its_place(q: QueueHarness) -> None:
    jobs = members(q, 3, limit=2)
    held = q.reserve(2)
    q.do(ReleaseJob(jobs[0], held[0].token))
    assert q.states(*jobs) == [READY, RESERVED, BLOCKED]
    assert q.told(jobs[0]) == [READY, RESERVED, READY], "without a detour"


def test_members_of_a_lost_worker_go_back_in_order(q: QueueHarness) -> None:
    jobs = members(q, 4, limit=2)
    lease = q.grant()
    q.reserve(2, lease=lease)
    q.do(RevokeLease(lease))
    assert q.states(*jobs) == [READY, READY, BLOCKED, BLOCKED]


def test_a_redriven_member_stands_in_front_but_never_makes_too_many(
    q: QueueHarness,
) -> None:
    old, second, third = members(q, 3)
    q.fail(q.take(), is_fatal=True)
    held = q.take()
    assert held.id == second
    q.do(RedriveJobs(Q))
    assert q.states(old, second, third) == [BLOCKED, RESERVED, BLOCKED]
    assert q.told(old)[-2:] == [DEAD, BLOCKED]
    q.fail(held, retry_in_ms=0)
    assert q.states(old, second, third) == [READY, BLOCKED, BLOCKED]


def test_a_redriven_member_takes_the_turn_of_one_not_yet_taken(
    q: QueueHarness,
) -> None:
    old, second = members(q, 2)
    q.fail(q.take(), is_fatal=True)
    assert q.state(second) is READY
    q.do(RedriveJobs(Q))
    assert q.states(old, second) == [READY, BLOCKED]
    assert q.told(second)[-2:] == [READY, BLOCKED]


def test_the_newest_enqueue_says_how_many_at_once(q: QueueHarness) -> None:
    jobs = members(q, 3)
    jobs.append(q.add(group="g", group_limit=3))
    assert q.states(*jobs) == [READY, READY, READY, BLOCKED]
    held = q.reserve(3)
    jobs.append(q.add(group="g", group_limit=1))
    q.complete(held[1])
    assert q.states(*jobs) == [RESERVED, DONE, RESERVED, BLOCKED, BLOCKED]
    q.complete(held[0])
    assert q.states(*jobs) == [DONE, DONE, RESERVED, BLOCKED, BLOCKED]
    q.complete(held[2])
    assert q.states(*jobs) == [DONE, DONE, DONE, READY, BLOCKED]


def test_a_lowered_limit_closes_those_not_taken_yet(q: QueueHarness) -> None:
    jobs = members(q, 3, limit=3)
    jobs += members(q, 1, limit=1)
    assert q.states(*jobs) == [READY, BLOCKED, BLOCKED, BLOCKED]


def test_a_limit_is_forgotten_with_the_last_member(q: QueueHarness) -> None:
    members(q, 2, limit=2)
    empty = QueueHarness()
    rows = {table for table, _ in q.save()} - {table for table, _ in empty.save()}
    assert 83 in rows
    for held in q.reserve(2):
        q.complete(held)
    assert 83 not in {table for table, _ in q.save()}


def test_places_and_limits_are_found_again_after_a_reload(q: QueueHarness) -> None:
    jobs = members(q, 5, limit=2)
    held = q.reserve(1)
    other = q.reborn()
    for harness in (q, other):
        harness.complete(held[0])
        assert harness.states(*jobs) == [DONE, READY, READY, BLOCKED, BLOCKED]
    assert q.save() == other.save()


def test_long_groups_keep_their_order(q: QueueHarness) -> None:
    jobs = q.enqueue(*(JobSpec(Q, b"", group="g", group_limit=2) for _ in range(1500)))
    assert q.stats().counts[READY] == 2
    q.cancel(jobs[700])
    q.cancel(jobs[0])
    q.cancel(jobs[1])
    assert [job.id for job in q.reserve(9)] == jobs[2:4]


def test_a_transaction_completes_one_member_and_adds_another(q: QueueHarness) -> None:
    members(q, 1)
    held = q.take()
    more = EnqueueJobs((JobSpec(Q, b"", group="g"), JobSpec(Q, b"", group="g")))
    answer = q.expect(
        Transacted, Transact((), (CompleteJob(held.id, held.token), more))
    )
    enqueued = answer.results[1]
    assert isinstance(enqueued, JobsEnqueued)
    assert enqueued.states == (READY, BLOCKED)


def test_a_refused_transaction_leaves_a_group_as_it_was(q: QueueHarness) -> None:
    jobs = members(q, 2)
    held = q.take()
    more = EnqueueJobs((JobSpec(Q, b"", group="g", group_limit=9),))
    bad = CompleteJob(held.id, held.token + 1)
    done = CompleteJob(held.id, held.token)
    refused(q.do(Transact((), (done, more, bad))), Reason.JOB_FINAL)
    assert q.states(*jobs) == [RESERVED, BLOCKED]
    q.complete(held)
    assert q.states(*jobs) == [DONE, READY]
    assert q.add(group="g") > jobs[1]
