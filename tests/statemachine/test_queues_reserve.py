"""Reserve: who gets which job, how many, and under which token."""

from collections import Counter

import pytest

from raftd.statemachine.schema.base import Reason
from raftd.statemachine.schema.jobs import (
    JobsReserved,
    JobState,
    ReleaseJob,
    ReserveJobs,
    SavepointJob,
)
from raftd.statemachine.schema.leases import RevokeLease
from raftd.statemachine.schema.queues import PauseQueue
from tests.statemachine.queues_harness import Q, QueueHarness, limits_with, refused

READY, RESERVED = JobState.READY, JobState.RESERVED


@pytest.fixture
def q() -> QueueHarness:
    return QueueHarness()


def test_a_reserved_job_comes_with_all_its_worker_needs(q: QueueHarness) -> None:
    job = q.add(
        type="mail",
        content_type="text/plain",
        meta={"trace": "7"},
        client_id="c",
        reservation_ms=5000,
    )
    enqueued_ms = q.now_ms
    q.wait(10)
    found = q.take()
    assert found.id == job
    assert found.token > job
    assert (found.queue, found.type, found.payload) == (Q, "mail", b"payload")
    assert (found.content_type, found.meta) == ("text/plain", {"trace": "7"})
    assert (found.client_id, found.attempt, found.delivery) == ("c", 0, 1)
    assert (found.reservation_ms, found.enqueued_ms) == (5000, enqueued_ms)
    assert q.job(job).worker == "worker"
    assert q.told(job) == [READY, RESERVED]


def test_nothing_ready_is_no_refusal_and_leaves_no_trace(q: QueueHarness) -> None:
    before = q.machine.revision
    assert q.reserve(queues=(("no such queue", 1), (Q, 1))) == []
    assert q.machine.revision == before


def test_the_order_is_priority_and_then_enqueue(q: QueueHarness) -> None:
    jobs = [q.add(priority=priority) for priority in (5, 9, 0, 5, 0)]
    got = [job.id for job in q.reserve(10)]
    assert got == [jobs[place] for place in (2, 4, 0, 3, 1)]


def test_a_job_given_back_stands_where_it_stood_before(q: QueueHarness) -> None:
    first, second = q.add(), q.add()
    q.fail(q.take(), retry_in_ms=0)
    assert [job.id for job in q.reserve(2)] == [first, second]


def test_the_order_holds_across_many_types(q: QueueHarness) -> None:
    jobs = [q.add(type=f"t{n % 7}", priority=n % 3) for n in range(60)]
    wanted = sorted(jobs, key=lambda job: (q.job(job).priority, job))
    got = [job.id for _ in range(30) for job in q.reserve(2)]
    assert got == wanted


def test_lanes_of_types_come_and_go_without_losing_the_order(q: QueueHarness) -> None:
    jobs = [q.add(type=f"t{n}") for n in range(100)]
    half = q.reserve(50)
    assert [job.id for job in half] == jobs[:50]
    for job in reversed(half):
        q.fail(job, retry_in_ms=0)
    assert [job.id for job in q.reserve(100)] == jobs


def test_only_jobs_of_the_types_asked_for_are_given(q: QueueHarness) -> None:
    mail, _, cut = q.add(type="mail"), q.add(type="web"), q.add(type="cut", priority=0)
    assert q.reserve(types=("none",)) == []
    assert [job.id for job in q.reserve(9, types=("mail", "cut"))] == [cut, mail]


def test_an_answer_holds_at_most_so_many_jobs_and_bytes(q: QueueHarness) -> None:
    for size in (600, 300, 300):
        q.add(payload=bytes(size))
    command = ReserveJobs(q.session, ((Q, 1),), "w", jobs_max=9, bytes_max=500)
    sizes = []
    for _ in range(3):
        jobs = q.expect(JobsReserved, command).jobs
        sizes.append([len(job.payload) for job in jobs])
    assert sizes == [[600], [300], [300]], "one job always fits"


def test_a_savepoint_counts_as_bytes_of_the_answer(q: QueueHarness) -> None:
    first = q.add(payload=b"")
    q.add(payload=b"")
    job = q.take()
    q.do(SavepointJob(job.id, job.token, bytes(100)))
    q.fail(job, retry_in_ms=0)
    command = ReserveJobs(q.session, ((Q, 1),), "w", jobs_max=9, bytes_max=100)
    assert len(q.expect(JobsReserved, command).jobs) == 2
    assert q.job(first).savepoint == bytes(100)


def test_tokens_rise_from_reservation_to_reservation(q: QueueHarness) -> None:
    q.add()
    tokens = []
    for _ in range(3):
        job = q.take()
        tokens.append(job.token)
        assert job.delivery == len(tokens)
        q.fail(job, retry_in_ms=0)
    assert tokens == sorted(dict.fromkeys(tokens))


def test_weights_share_the_reserves_and_starve_nobody(q: QueueHarness) -> None:
    for name in ("heavy", "light"):
        for _ in range(200):
            q.add(queue=name)
    counts = Counter(
        job.queue
        for _ in range(20)
        for job in q.reserve(10, queues=(("heavy", 3), ("light", 1)))
    )
    assert 120 <= counts["heavy"] <= 180
    assert 20 <= counts["light"] <= 80
    left = [q.reserve(100, queues=(("heavy", 1), ("light", 999))) for _ in range(2)]
    assert sum(map(len, left)) == 200, "an empty queue's share goes to the other"


def test_weights_mean_the_same_after_a_reload(q: QueueHarness) -> None:
    for _ in range(20):
        q.add(queue="a")
        q.add(queue="b")
    other = q.reborn()
    queues = (("a", 2), ("b", 3))
    assert q.reserve(30, queues=queues) == other.reserve(30, queues=queues)


def test_a_paused_queue_gives_nothing_but_takes_everything(q: QueueHarness) -> None:
    job = q.add()
    running = q.take()
    q.do(PauseQueue(Q, is_paused=True))
    later = q.add()
    assert q.reserve() == []
    assert q.queues.ready_count(Q) == 0
    assert q.stats().is_paused
    q.complete(running)
    q.do(PauseQueue(Q, is_paused=False))
    assert (q.take().id, q.state(job)) == (later, JobState.DONE)


def test_no_more_jobs_are_out_than_the_queue_allows(q: QueueHarness) -> None:
    q.configure(concurrency_max=2)
    for _ in range(5):
        q.add()
    out = q.reserve(5)
    assert len(out) == 2
    assert q.reserve() == []
    assert q.queues.ready_count(Q) == 0
    q.complete(out[0])
    assert q.queues.ready_count(Q) == 1
    assert len(q.reserve(5)) == 1


def test_readiness_is_known_without_a_reserve(q: QueueHarness) -> None:
    assert q.queues.ready_count(Q) == 0
    q.add(type="mail")
    q.add(type="mail")
    q.add(type="post")
    assert q.queues.ready_count(Q) == 3
    assert q.queues.ready_count(Q, ("mail",)) == 2
    assert q.queues.ready_count(Q, ("mail", "post")) == 3
    assert q.queues.ready_count(Q, ("web",)) == 0
    assert q.queues.ready_count("other") == 0
    q.configure(concurrency_max=1)
    assert q.queues.ready_count(Q, ("mail",)) == 1


def test_an_awaited_queue_is_noted_whenever_it_may_have_more(q: QueueHarness) -> None:
    awaited = q.queues.awaited
    q.configure(concurrency_max=1)
    q.add()
    assert not awaited.take()
    awaited.add(Q)
    assert not awaited.take()
    q.add()
    assert list(awaited.take()) == [Q]
    assert not awaited.take()
    held = q.take()
    assert not awaited.take()
    q.complete(held)
    assert list(awaited.take()) == [Q]
    held = q.take()
    q.do(ReleaseJob(held.id, held.token))
    assert list(awaited.take()) == [Q]
    q.do(PauseQueue(Q, is_paused=True))
    awaited.take()
    q.do(PauseQueue(Q, is_paused=False))
    assert list(awaited.take()) == [Q]
    q.configure(concurrency_max=2)
    assert list(awaited.take()) == [Q]
    q.add(delay_ms=500)
    assert not awaited.take()
    q.wait(500)
    assert list(awaited.take()) == [Q]
    awaited.discard(Q)
    q.add()
    assert not awaited.take()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"jobs_max": 0}, Reason.INVALID_REQUEST),
        ({"jobs_max": 101}, Reason.INVALID_REQUEST),
        ({"bytes_max": 0}, Reason.INVALID_REQUEST),
        ({"bytes_max": (4 << 20) + 1}, Reason.INVALID_REQUEST),
        ({"queues": ()}, Reason.INVALID_REQUEST),
        ({"queues": tuple((f"q{n}", 1) for n in range(129))}, Reason.INVALID_REQUEST),
        ({"queues": ((Q, 0),)}, Reason.INVALID_REQUEST),
        ({"queues": ((Q, 1001),)}, Reason.INVALID_REQUEST),
        ({"queues": ((Q, 1), (Q, 1))}, Reason.INVALID_REQUEST),
        ({"queues": (("a\0b", 1),)}, Reason.INVALID_NAME),
        ({"types": ("t",) * 101}, Reason.TOO_LARGE),
        ({"reservation_ms": 0}, Reason.INVALID_REQUEST),
        ({"worker": "w" * 257}, Reason.TOO_LARGE),
        ({"lease": 999}, Reason.LEASE_EXPIRED),
    ],
)
def test_a_reserve_that_cannot_be_is_refused(
    q: QueueHarness, fields: dict[str, object], reason: Reason
) -> None:
    job = q.add()
    known: dict[str, object] = {"lease": q.session, "queues": ((Q, 1),), "worker": "w"}
    command = ReserveJobs(**{**known, **fields})  # type: ignore[arg-type]  # the fields' types are those of ReserveJobs
    refused(q.do(command), reason)
    assert q.state(job) is READY


def test_a_lease_carries_only_so_many_reservations() -> None:
    q = QueueHarness(limits_with(lease_attachments_max=3))
    for _ in range(5):
        q.add()
    assert len(q.reserve(5)) == 3, "as many as fit"
    command = ReserveJobs(q.session, ((Q, 1),), "w")
    refused(q.do(command), Reason.TOO_MANY)
    assert q.stats().counts[RESERVED] == 3


def test_a_reserve_asked_again_is_the_same_reservation(q: QueueHarness) -> None:
    for n in range(3):
        q.add(payload=bytes([n]), meta={"n": str(n)})
    command = ReserveJobs(q.session, ((Q, 1),), "w", jobs_max=2)
    first = q.send(q.session, 1, command)
    again = q.send(q.session, 1, command)
    assert isinstance(first, JobsReserved)
    assert isinstance(again, JobsReserved)
    assert [job.payload for job in first.jobs] == [b"\0", b"\1"]
    assert [(job.id, job.token) for job in again.jobs] == [
        (job.id, job.token) for job in first.jobs
    ]
    assert all(not job.payload for job in again.jobs), "the window keeps no payloads"
    assert q.queues.refill(again) == first
    assert q.stats().counts[RESERVED] == 2


def test_a_job_no_longer_held_is_not_refilled(q: QueueHarness) -> None:
    for _ in range(3):
        q.add()
    kept = JobsReserved(tuple(q.reserve(3))).kept()
    q.fail(kept.jobs[0], retry_in_ms=0)
    newer = q.take()
    q.complete(kept.jobs[1])
    filled = q.queues.refill(kept)
    assert newer.id == kept.jobs[0].id
    assert filled.jobs[:2] == kept.jobs[:2]
    assert filled.jobs[2].payload == b"payload"


def test_any_lease_can_reserve_and_must_be_alive(q: QueueHarness) -> None:
    lease = q.grant()
    q.add()
    q.add()
    assert len(q.reserve(lease=lease)) == 1
    q.do(RevokeLease(lease))
    refused(q.do(ReserveJobs(lease, ((Q, 1),), "w")), Reason.LEASE_EXPIRED)
