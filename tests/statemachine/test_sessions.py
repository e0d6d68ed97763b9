"""Sessions: every number is applied at most once, and answered as at first."""

from raftd.statemachine.limits import Limits
from raftd.statemachine.schema.base import Fence, FenceKind, Reason, Refusal
from raftd.statemachine.schema.entry import encode_batch, seal
from raftd.statemachine.schema.kv import IncrementKey, KeyIncremented, KeyPut, PutKey
from raftd.statemachine.schema.sessions import (
    CloseSession,
    OpenSession,
    SessionClosed,
    SessionOpened,
)
from tests.statemachine.harness import Harness, refusal

_KEY = b"k" * 16
_INCREMENT = IncrementKey(b"n", 1)


def test_a_number_sent_again_gets_its_first_answer_and_is_applied_once() -> None:
    harness = Harness()
    session = harness.open()
    first = harness.send(session, 1, _INCREMENT)
    assert isinstance(first, KeyIncremented)
    assert harness.send(session, 1, _INCREMENT) == first
    assert harness.value(b"n") == b"1"


def test_a_number_twice_in_one_entry_is_applied_once() -> None:
    harness = Harness()
    session = harness.open()
    request = seal(session, 1, 0, _INCREMENT)
    applied = harness.apply(encode_batch(1000, 0, (), [request, request]))
    assert applied.answers[0] == applied.answers[1]
    assert harness.value(b"n") == b"1"


def test_a_number_reused_for_another_request_is_refused() -> None:
    harness = Harness()
    session = harness.open()
    harness.send(session, 1, _INCREMENT)
    answer = harness.send(session, 1, IncrementKey(b"n", 2))
    assert refusal(answer) is Reason.NUMBER_REUSED
    assert harness.value(b"n") == b"1"


def test_the_same_command_under_other_fences_is_another_request() -> None:
    harness = Harness()
    session = harness.open()
    harness.send(session, 1, _INCREMENT)
    fenced = seal(session, 1, 0, _INCREMENT, (Fence(FenceKind.LEASE, "", session),))
    applied = harness.apply(encode_batch(harness.now_ms, 0, (), [fenced]))
    assert refusal(applied.answers[0]) is Reason.NUMBER_REUSED


def test_a_number_at_or_below_the_acknowledged_one_is_stale() -> None:
    harness = Harness()
    session = harness.open()
    for number in (1, 2, 3):
        harness.send(session, number, _INCREMENT)
    harness.send(session, 4, _INCREMENT, acknowledged=2)
    assert refusal(harness.send(session, 2, _INCREMENT)) is Reason.STALE_NUMBER
    assert isinstance(harness.send(session, 3, _INCREMENT), KeyIncremented)
    assert harness.value(b"n") == b"4"


def test_acknowledged_never_falls() -> None:
    harness = Harness()
    session = harness.open()
    harness.send(session, 5, _INCREMENT, acknowledged=4)
    assert refusal(harness.send(session, 3, _INCREMENT)) is Reason.STALE_NUMBER


def test_holes_are_legal_and_may_be_filled_later() -> None:
    harness = Harness()
    session = harness.open()
    harness.send(session, 7, _INCREMENT)
    harness.send(session, 3, _INCREMENT)
    assert harness.value(b"n") == b"2"


def test_an_acknowledgement_may_jump_far_at_no_cost() -> None:
    harness = Harness()
    session = harness.open()
    harness.send(session, 1, _INCREMENT)
    harness.send(session, 2**62 + 1, _INCREMENT, acknowledged=2**62)
    view = harness.machine.sessions.view(session)
    assert view is not None
    assert (view.answers, view.acknowledged) == (1, 2**62)


def test_a_refusal_is_a_first_answer_too() -> None:
    harness = Harness()
    session = harness.open()
    command = PutKey(b"a", b"", if_mod_rev=9)
    first = harness.send(session, 1, command)
    assert refusal(first) is Reason.PRECONDITION
    assert harness.send(session, 1, command) == first


def test_the_window_keeps_no_payload() -> None:
    harness = Harness()
    session = harness.open()
    harness.do(PutKey(b"a", b"old"))
    command = PutKey(b"a", b"new", want_previous=True)
    first = harness.send(session, 1, command)
    assert isinstance(first, KeyPut)
    assert first.previous is not None
    kept = first.previous.without_value()
    assert harness.send(session, 1, command) == KeyPut(first.mod_rev, kept)


def test_a_full_window_refuses_and_leaves_the_number_free() -> None:
    harness = Harness(Limits(window_answers_max=3))
    session = harness.open()
    for number in (1, 2, 3):
        harness.send(session, number, _INCREMENT)
    assert refusal(harness.send(session, 4, _INCREMENT)) is Reason.TOO_MANY
    assert isinstance(harness.send(session, 1, _INCREMENT), KeyIncremented)
    answer = harness.send(session, 4, _INCREMENT, acknowledged=1)
    assert isinstance(answer, KeyIncremented)
    assert harness.value(b"n") == b"4"


def test_the_window_is_bounded_in_bytes_as_well() -> None:
    harness = Harness(Limits(window_bytes_max=1000))
    session = harness.open()
    refused = [
        harness.send(session, number, PutKey(b"a" * 60, b"", if_mod_rev=9))
        for number in range(1, 30)
    ]
    reasons = [refusal(answer) for answer in refused]
    assert reasons[0] is Reason.PRECONDITION
    assert reasons[-1] is Reason.TOO_MANY
    view = harness.machine.sessions.view(session)
    assert view is not None
    assert view.window_bytes < 1000 + 200


def test_acknowledging_bulky_answers_gives_their_bytes_back() -> None:
    harness = Harness()
    session = harness.open()
    for number in (1, 2, 3):
        harness.send(session, number, PutKey(b"a", b"", if_mod_rev=9))
    harness.send(session, 4, _INCREMENT, acknowledged=3)
    one = harness.machine.sessions.view(session)
    assert one is not None
    fresh = Harness()
    other = fresh.open()
    fresh.send(other, 1, _INCREMENT)
    assert one.window_bytes == fresh.machine.sessions.view(other).window_bytes  # type: ignore[union-attr]  # just opened


def test_an_unknown_session_is_an_error_and_nothing_is_applied() -> None:
    harness = Harness()
    assert refusal(harness.send(99, 1, _INCREMENT)) is Reason.SESSION_UNKNOWN
    assert harness.value(b"n") is None


def test_the_same_key_finds_the_same_live_session_and_renews_it() -> None:
    harness = Harness()
    session = harness.open(ttl_ms=10_000)
    harness.entry(after_ms=9_000)
    again = harness.do(OpenSession(_KEY, 20_000, "again"))
    assert again == SessionOpened(session, 10_000, is_new=False)
    assert harness.machine.leases.deadline_ms(session) == harness.now_ms + 10_000


def test_expiry_closes_the_session_but_keeps_its_window() -> None:
    harness = Harness()
    session = harness.open()
    first = harness.send(session, 1, _INCREMENT)
    closed = harness.entry(after_ms=10_000)
    assert closed.closed == (session,)
    assert harness.send(session, 1, _INCREMENT) == first
    assert refusal(harness.send(session, 2, _INCREMENT)) is Reason.SESSION_EXPIRED
    assert harness.value(b"n") == b"1"


def test_after_the_dedup_time_the_session_is_unknown() -> None:
    harness = Harness()
    session = harness.open()
    harness.send(session, 1, _INCREMENT)
    harness.entry(after_ms=10_000)
    harness.entry(after_ms=3_600_000 - 1)
    assert isinstance(harness.send(session, 1, _INCREMENT), KeyIncremented)
    harness.entry(after_ms=1)
    assert refusal(harness.send(session, 1, _INCREMENT)) is Reason.SESSION_UNKNOWN
    assert harness.open() != session


def test_the_key_of_a_closed_session_opens_nothing() -> None:
    harness = Harness()
    harness.open()
    harness.entry(after_ms=10_000)
    answer = harness.do(OpenSession(_KEY, 10_000, "test"))
    assert refusal(answer) is Reason.SESSION_EXPIRED


def test_a_clean_close_drops_the_window_and_frees_the_key() -> None:
    harness = Harness()
    session = harness.open()
    harness.send(session, 1, _INCREMENT)
    assert harness.do(CloseSession(session)) == SessionClosed()
    assert refusal(harness.send(session, 1, _INCREMENT)) is Reason.SESSION_UNKNOWN
    assert harness.open() > session
    assert harness.do(CloseSession(session)) == SessionClosed()


def test_a_session_may_close_itself_by_a_numbered_write() -> None:
    harness = Harness()
    session = harness.open()
    assert harness.send(session, 1, CloseSession(session)) == SessionClosed()
    assert harness.machine.sessions.view(session) is None


def test_a_key_hash_of_the_wrong_length_is_refused() -> None:
    answer = Harness().do(OpenSession(b"short", 10_000, "test"))
    assert isinstance(answer, Refusal)
    assert answer.reason is Reason.INVALID_REQUEST


def test_windows_outlive_a_restart() -> None:
    harness = Harness()
    session = harness.open()
    first = harness.send(session, 1, _INCREMENT)
    refused = harness.send(session, 2, PutKey(b"a", b"", if_mod_rev=9))
    harness.save()
    other = harness.reload()
    assert other.send(session, 1, _INCREMENT) == first
    assert other.send(session, 2, PutKey(b"a", b"", if_mod_rev=9)) == refused
    assert other.value(b"n") == b"1"
