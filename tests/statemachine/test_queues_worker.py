"""The calls of a worker, by what its token still means."""

from collections.abc import Callable

import pytest

from raftd.statemachine.schema.base import Command, Reason
from raftd.statemachine.schema.jobs import (
    Backoff,
    CompleteJob,
    ExtendJob,
    FailJob,
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
from tests.statemachine.queues_harness import Q, QueueHarness, limits_with, refused

READY, SCHEDULED, RESERVED = JobState.READY, JobState.SCHEDULED, JobState.RESERVED
DONE, DEAD = JobState.DONE, JobState.DEAD

_Call = Callable[[int, int], Command]

CALLS: dict[str, _Call] = {
    "extend": ExtendJob,
    "savepoint": lambda job, token: SavepointJob(job, token, b"s"),
    "complete": CompleteJob,
    "fail": FailJob,
    "snooze": lambda job, token: SnoozeJob(job, token, 5),
    "release": ReleaseJob,
}


@pytest.fixture
def q() -> QueueHarness:
    return QueueHarness()


# --- the token -------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_job_that_never_was_is_not_found(q: QueueHarness, call: _Call) -> None:
    refused(q.do(call(77, 78)), Reason.NOT_FOUND)  # type: ignore[arg-type]  # each makes a command of the log


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_an_expired_reservation_says_so(q: QueueHarness, call: _Call) -> None:
    job = q.add()
    held = q.take()
    q.wait(30_000)
    found = refused(q.do(call(job, held.token)), Reason.RESERVATION_EXPIRED)  # type: ignore[arg-type]  # as above
    assert found.details["state"] == "READY"
    assert q.state(job) is READY


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_job_reserved_by_another_since_is_lost(q: QueueHarness, call: _Call) -> None:
    job = q.add()
    old = q.take()
    q.wait(30_000)
    new = q.take()
    found = refused(q.do(call(job, old.token)), Reason.RESERVATION_LOST)  # type: ignore[arg-type]  # as above
    assert found.details["current"] == str(new.token)
    assert q.queues.holds_reservation(job, new.token)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_token_that_was_never_issued_does_nothing(
    q: QueueHarness, call: _Call
) -> None:
    job = q.add()
    for token in (0, 1, job + 1_000):
        refused(q.do(call(job, token)), Reason.RESERVATION_LOST)  # type: ignore[arg-type]  # as above
    assert q.state(job) is READY


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_job_ended_by_something_else_is_final(q: QueueHarness, call: _Call) -> None:
    job = q.add(max_attempts=1)
    held = q.take()
    if call is CALLS["fail"]:
        q.complete(held)
    else:
        q.fail(held)
    found = refused(q.do(call(job, held.token)), Reason.JOB_FINAL)  # type: ignore[arg-type]  # as above
    assert found.details["state"] == ("DONE" if call is CALLS["fail"] else "DEAD")


def test_the_call_that_ended_a_job_gets_its_first_answer_again(
    q: QueueHarness,
) -> None:
    q.add()
    q.add()
    done, dead = q.reserve(2)
    assert q.complete(done) == q.complete(done) == JobCompleted()
    first = q.fail(dead, is_fatal=True)
    assert q.fail(dead, is_fatal=True) == first == JobFailed(DEAD, 0)
    assert (q.stats().completed, q.stats().failed, q.stats().dead) == (1, 1, 1)


def test_a_late_complete_is_accepted_where_the_queue_allows_it(
    q: QueueHarness,
) -> None:
    q.configure(may_complete_late=True)
    job = q.add()
    held = q.take()
    q.wait(30_000)
    refused(q.do(FailJob(job, held.token)), Reason.RESERVATION_EXPIRED)
    assert q.complete(held, b"late") == JobCompleted()
    assert q.job(job).result == b"late"
    assert q.told(job) == [READY, RESERVED, READY, DONE]


def test_why_a_token_cannot_complete_is_told_without_trying(q: QueueHarness) -> None:
    job = q.add()
    held = q.take()
    why = q.queues.why_not_completed
    assert why(job, held.token) is None
    refused(why(job, held.token + 1), Reason.RESERVATION_LOST)
    refused(why(99, held.token), Reason.NOT_FOUND)
    q.complete(held)
    assert why(job, held.token) is None, "it has"
    refused(why(job, held.token + 1), Reason.JOB_FINAL)


def test_a_late_complete_is_lost_once_another_has_the_job(q: QueueHarness) -> None:
    q.configure(may_complete_late=True)
    q.add()
    old = q.take()
    q.wait(30_000)
    new = q.take()
    refused(q.complete(old), Reason.RESERVATION_LOST)
    assert q.complete(new) == JobCompleted()
    refused(q.complete(old), Reason.JOB_FINAL)


def test_complete_races_expiry_and_reservation_and_one_worker_wins(
    q: QueueHarness,
) -> None:
    job = q.add()
    old = q.take()
    q.now_ms += 30_000
    applied = q.entry(CompleteJob(job, old.token))
    refused(applied.answers[0], Reason.RESERVATION_EXPIRED)
    new = q.take()
    applied = q.entry(CompleteJob(job, old.token), CompleteJob(job, new.token))
    refused(applied.answers[0], Reason.RESERVATION_LOST)
    assert applied.answers[1] == JobCompleted()


# --- extend and savepoint --------------------------------------------------------


def test_extend_sets_the_end_to_now_plus_the_reservation(q: QueueHarness) -> None:
    job = q.add()
    held = q.take(reservation_ms=1000)
    q.wait(600)
    assert q.do(ExtendJob(job, held.token)) == JobExtended(1000)
    q.wait(600)
    assert q.do(ExtendJob(job, held.token, for_ms=50)) == JobExtended(50)
    q.wait(49)
    assert q.state(job) is RESERVED
    q.wait(1)
    assert q.state(job) is SCHEDULED, "a shorter extension moves the end nearer"


def test_extensions_end_at_the_longest_runtime(q: QueueHarness) -> None:
    job = q.add(reservation_ms=1000, max_runtime_ms=1500)
    held = q.take()
    q.wait(800)
    assert q.do(ExtendJob(job, held.token)) == JobExtended(700)
    q.wait(699)
    assert q.do(ExtendJob(job, held.token, for_ms=500)) == JobExtended(1)
    q.wait(1)
    refused(q.do(ExtendJob(job, held.token)), Reason.RESERVATION_EXPIRED)


def test_a_runtime_shorter_than_the_reservation_ends_it(q: QueueHarness) -> None:
    job = q.add(max_runtime_ms=100)
    q.take()
    q.wait(100)
    assert q.state(job) is READY


def test_a_savepoint_reaches_the_next_worker(q: QueueHarness) -> None:
    job = q.add()
    held = q.take()
    answer = q.do(SavepointJob(job, held.token, b"page 3", 300))
    assert answer == JobSaved(30_000)
    assert q.do(SavepointJob(job, held.token, None, 400)) == JobSaved(30_000)
    assert q.do(SavepointJob(job, held.token, b"page 5")) == JobSaved(30_000)
    found = q.job(job)
    assert (found.savepoint, found.progress) == (b"page 5", 400)
    q.do(ReleaseJob(job, held.token))
    assert q.take().savepoint == b"page 5"


def test_a_savepoint_extends_the_reservation(q: QueueHarness) -> None:
    job = q.add()
    held = q.take()
    q.wait(29_999)
    q.do(SavepointJob(job, held.token, b"s"))
    q.wait(29_999)
    assert q.state(job) is RESERVED


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (ExtendJob(1, 1, for_ms=0), Reason.INVALID_REQUEST),
        (ExtendJob(1, 1, for_ms=86_400_001), Reason.INVALID_REQUEST),
        (SavepointJob(1, 1, bytes((1 << 20) + 1)), Reason.TOO_LARGE),
        (SavepointJob(1, 1, None, 1001), Reason.INVALID_REQUEST),
        (CompleteJob(1, 1, bytes((1 << 20) + 1)), Reason.TOO_LARGE),
        (FailJob(1, 1, retry_in_ms=-1), Reason.INVALID_REQUEST),
        (SnoozeJob(1, 1, -1), Reason.INVALID_REQUEST),
    ],
)
def test_a_call_that_cannot_be_is_refused(
    q: QueueHarness, command: CompleteJob, reason: Reason
) -> None:
    refused(q.do(command), reason)


def test_a_savepoint_is_refused_when_the_state_is_full() -> None:
    q = QueueHarness(limits_with(state_bytes_max=6000))
    job = q.add()
    held = q.take()
    refused(q.do(SavepointJob(job, held.token, bytes(6000))), Reason.QUOTA)
    assert q.job(job).savepoint == b""
    assert q.complete(held, bytes(6000)) == JobCompleted()


# --- complete --------------------------------------------------------------------


def test_a_done_job_keeps_its_result_and_not_its_payload(q: QueueHarness) -> None:
    job = q.add()
    q.save()
    q.complete(q.take(), b"42")
    found = q.job(job)
    assert (found.state, found.result, found.payload) == (DONE, b"42", b"")
    assert found.ended_ms == q.now_ms
    assert q.reborn().job(job) == found


def test_a_long_result_is_kept_in_part_and_says_so(q: QueueHarness) -> None:
    job = q.add()
    q.complete(q.take(), bytes(100_000))
    assert (len(q.job(job).result), q.job(job).result_bytes) == (65_536, 100_000)


# --- fail, snooze, release -------------------------------------------------------


def test_a_failed_job_waits_longer_after_each_attempt(q: QueueHarness) -> None:
    job = q.add(backoff_jitter=0, backoff_cap_ms=5000)
    delays = []
    for attempt in range(5):
        held = q.take()
        assert held.attempt == attempt
        answer = q.fail(held, error=f"failure {attempt}")
        assert answer.state is SCHEDULED
        delays.append(answer.retry_in_ms)
        q.wait(answer.retry_in_ms - 1)
        assert q.state(job) is SCHEDULED
        q.wait(1)
    assert delays == [1000, 2000, 4000, 5000, 5000]
    assert (q.job(job).attempt, q.job(job).error) == (5, "failure 4")


@pytest.mark.parametrize(
    ("shape", "delays"),
    [(Backoff.LINEAR, [300, 600, 900]), (Backoff.FIXED, [300, 300, 300])],
)
def test_backoff_has_other_shapes(
    q: QueueHarness, shape: Backoff, delays: list[int]
) -> None:
    q.configure(backoff=shape, backoff_base_ms=300, backoff_jitter=0)
    q.add()
    for delay_ms in delays:
        assert q.fail(q.take()).retry_in_ms == delay_ms
        q.wait(delay_ms)


def test_jitter_takes_off_a_part_that_differs_from_job_to_job(
    q: QueueHarness,
) -> None:
    q.configure(backoff_jitter=50)
    for _ in range(40):
        q.add()
    delays = [q.fail(job).retry_in_ms for job in q.reserve(40)]
    assert all(500 <= delay_ms <= 1000 for delay_ms in delays)
    assert len(dict.fromkeys(delays)) > 30


def test_a_worker_names_its_own_delay(q: QueueHarness) -> None:
    job = q.add()
    assert q.fail(q.take(), retry_in_ms=77) == JobFailed(SCHEDULED, 77)
    q.wait(77)
    assert q.fail(q.take(), retry_in_ms=0) == JobFailed(READY, 0)
    assert q.job(job).attempt == 2


def test_the_last_attempt_or_a_fatal_failure_kills(q: QueueHarness) -> None:
    twice, fatal = q.add(max_attempts=2), q.add(type="f")
    q.fail(q.take(), retry_in_ms=0)
    assert q.fail(q.take(), retry_in_ms=0) == JobFailed(DEAD, 0)
    assert q.fail(q.take(), is_fatal=True) == JobFailed(DEAD, 0)
    assert q.states(twice, fatal) == [DEAD, DEAD]
    assert (q.job(twice).attempt, q.job(fatal).attempt) == (2, 1)
    assert q.job(twice).payload == b"payload", "a dead job can be given another life"


def test_an_error_is_kept_to_its_limit_in_whole_characters(q: QueueHarness) -> None:
    job = q.add()
    q.fail(q.take(), error="é" * 3000)
    assert q.job(job).error == "é" * 2048


def test_snooze_and_release_charge_no_attempt(q: QueueHarness) -> None:
    job = q.add()
    held = q.take()
    assert q.do(SnoozeJob(job, held.token, 100)) == JobSnoozed()
    assert q.state(job) is SCHEDULED
    q.wait(100)
    held = q.take()
    assert q.do(ReleaseJob(job, held.token)) == JobReleased()
    assert q.state(job) is READY
    found = q.job(job)
    assert (found.attempt, found.crashes, found.delivery) == (0, 0, 2)
    assert q.stats().failed == 0


def test_a_given_back_job_frees_its_worker_and_its_place(q: QueueHarness) -> None:
    q.configure(concurrency_max=1)
    q.add()
    held = q.take()
    assert not q.queues.ready_count(Q)
    q.do(ReleaseJob(held.id, held.token))
    assert q.queues.ready_count(Q) == 1
    assert q.machine.leases.attachments(q.session) == []
