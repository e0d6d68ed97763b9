"""Waiting answers: pending in the window until the entry that ends the wait."""

from raftd.statemachine.answers import Decision, Pending
from raftd.statemachine.schema.base import Reason
from raftd.statemachine.schema.entry import encode_batch, seal
from raftd.statemachine.schema.locks import AcquireLock, LockGranted, ReleaseLock
from raftd.statemachine.schema.sessions import CloseSession, SessionClosed
from tests.statemachine.harness import Harness, refusal

_LOCK = "jobs/nightly"


def _held(harness: Harness) -> tuple[int, int]:
    """Let another session hold the lock; return a session that waits for it."""
    other = harness.open(b"o" * 16, ttl_ms=60_000)
    granted = harness.do(AcquireLock(_LOCK, other, "other"))
    assert isinstance(granted, LockGranted)
    return harness.open(), granted.token


def _wait_for(session: int) -> AcquireLock:
    return AcquireLock(_LOCK, session, "me", wait_ms=None)


def test_a_wait_sent_again_has_the_same_ticket() -> None:
    harness = Harness()
    session, _ = _held(harness)
    first = harness.send(session, 1, _wait_for(session))
    assert isinstance(first, Pending)
    assert harness.send(session, 1, _wait_for(session)) == first


def test_the_entry_that_ends_a_wait_answers_its_number_for_good() -> None:
    harness = Harness()
    session, token = _held(harness)
    first = harness.send(session, 1, _wait_for(session))
    assert isinstance(first, Pending)
    applied = harness.entry(ReleaseLock(_LOCK, token))
    granted = harness.send(session, 1, _wait_for(session))
    assert isinstance(granted, LockGranted)
    assert applied.decided == [Decision(first.ticket, session, 1, granted)]
    assert granted.token > token


def test_a_wait_may_begin_and_end_in_one_entry() -> None:
    harness = Harness()
    session, token = _held(harness)
    applied = harness.apply(
        encode_batch(
            harness.now_ms,
            0,
            (),
            [
                seal(session, 1, 0, _wait_for(session)),
                seal(0, 0, 0, ReleaseLock(_LOCK, token)),
            ],
        )
    )
    assert isinstance(applied.answers[0], Pending)
    decision = applied.decided[0]
    assert decision.ticket == applied.answers[0].ticket
    assert harness.machine.sessions.answer(session, 1) == decision.answer


def test_an_unnumbered_wait_is_decided_by_its_ticket() -> None:
    harness = Harness()
    session, token = _held(harness)
    first = harness.do(_wait_for(session))
    assert isinstance(first, Pending)
    decided = harness.entry(ReleaseLock(_LOCK, token)).decided
    assert [(one.ticket, one.session, one.number) for one in decided] == [
        (first.ticket, 0, 0)
    ]


def test_a_wait_ends_with_its_session_and_says_so_to_who_asks_later() -> None:
    harness = Harness()
    session, token = _held(harness)
    harness.send(session, 1, _wait_for(session))
    decided = harness.entry(after_ms=10_000).decided
    assert [refusal(one.answer) for one in decided] == [Reason.LEASE_EXPIRED]
    answer = harness.send(session, 1, _wait_for(session))
    assert refusal(answer) is Reason.LEASE_EXPIRED
    assert harness.entry(ReleaseLock(_LOCK, token)).decided == []


def test_a_session_closed_cleanly_leaves_no_wait_behind() -> None:
    harness = Harness()
    session, token = _held(harness)
    first = harness.send(session, 1, _wait_for(session))
    assert isinstance(first, Pending)
    applied = harness.entry(CloseSession(session))
    assert applied.answers == [SessionClosed()]
    assert [(one.ticket, one.number) for one in applied.decided] == [(first.ticket, 0)]
    assert harness.entry(ReleaseLock(_LOCK, token)).decided == []


def test_a_wait_acknowledged_too_early_is_decided_without_a_number() -> None:
    harness = Harness()
    session, token = _held(harness)
    harness.send(session, 1, _wait_for(session))
    harness.send(session, 2, CloseSession(99), acknowledged=1)
    decided = harness.entry(ReleaseLock(_LOCK, token)).decided
    assert [(one.session, one.number) for one in decided] == [(0, 0)]


def test_waits_outlive_a_restart() -> None:
    harness = Harness()
    session, token = _held(harness)
    first = harness.send(session, 1, _wait_for(session))
    assert isinstance(first, Pending)
    harness.save()
    other = harness.reload()
    assert other.send(session, 1, _wait_for(session)) == first
    decided = other.entry(ReleaseLock(_LOCK, token)).decided
    assert [(one.session, one.number) for one in decided] == [(session, 1)]
