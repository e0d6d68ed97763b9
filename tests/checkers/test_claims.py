"""Claims in small histories written by hand: tokens, epochs, beliefs, leases, lines."""

from __future__ import annotations

import msgspec
import pytest

from tests.checkers.elections import check_elections
from tests.checkers.history import History
from tests.checkers.linear import check_linear
from tests.checkers.locks import check_locks
from tests.checkers.outside import check_outside
from tests.checkers.parts import Applied, Decided
from tests.checkers.records import Belief, Entry, Guarded, Meta, Observed, Op

META = Meta(made_by="test", drift_ppm=0)
OPENED = Applied(
    name="open_session",
    args={"ttl_ms": 2000},
    answer={"session": 1, "ttl_ms": 2000},
    revision=1,
)


def acquired(number: int, call_us: int, return_us: int, token: int) -> Op:
    return Op(
        id=number,
        client=f"c{number}",
        name="acquire",
        call_us=call_us,
        return_us=return_us,
        args={"name": "l", "lease": number, "claimant": f"c{number}"},
        outcome="ok",
        answer={"token": token},
    )


# --- in the time of the clients ----------------------------------------------------


def test_a_token_below_one_that_was_known_before_is_refused() -> None:
    ops = [acquired(1, 0, 10, 9), acquired(2, 20, 30, 5)]
    verdict = check_locks(History(meta=META, ops=ops))
    assert verdict.outcome == "illegal"
    assert verdict.pair == (1, 2)
    at_once = [acquired(1, 0, 10, 9), acquired(2, 5, 30, 5)]
    assert check_locks(History(meta=META, ops=at_once)).outcome == "legal"


def test_one_who_holds_already_gets_its_old_token_again() -> None:
    first, newer = acquired(1, 0, 10, 5), acquired(2, 20, 30, 9)
    again = msgspec.structs.replace(first, id=3, call_us=40, return_us=50)
    history = History(meta=META, ops=[first, newer, again])
    assert check_locks(history).outcome == "legal"


def test_an_epoch_is_of_one_claimant_whoever_says_so() -> None:
    won = Op(
        id=1,
        client="a",
        name="campaign",
        call_us=0,
        return_us=5,
        args={"name": "e", "lease": 1, "claimant": "a"},
        outcome="ok",
        answer={"epoch": 7},
    )
    other = Op(
        id=2,
        client="b",
        name="campaign",
        call_us=1,
        return_us=6,
        args={"name": "e", "lease": 2, "claimant": "b"},
        outcome="ok",
        answer={"epoch": 7},
    )
    verdict = check_elections(History(meta=META, ops=[won, other]))
    assert (verdict.outcome, verdict.pair) == ("illegal", (1, 2))


def test_an_observer_sees_only_what_the_log_says() -> None:
    seen = Observed(observer="o", at_us=1, election="e", epoch=3, claimant="a")
    verdict = check_elections(History(meta=META, observed=[seen]))
    assert verdict.outcome == "illegal"
    assert "which the log never says" in verdict.sentence


# --- a lock in real time -----------------------------------------------------------


def grant(ttl_ms: int) -> Op:
    return Op(
        id=9,
        client="c1",
        name="grant",
        call_us=0,
        return_us=1,
        outcome="ok",
        answer={"lease": 1, "ttl_ms": ttl_ms},
    )


@pytest.mark.parametrize(("ttl_ms", "outcome"), [(110, "illegal"), (103, "legal")])
def test_a_lock_is_free_for_another_only_when_its_holders_lease_may_have_ended(
    ttl_ms: int, outcome: str
) -> None:
    ops = [grant(ttl_ms), acquired(1, 10, 20, 5), acquired(2, 5000, 6000, 8)]
    assert check_linear(History(meta=META, ops=ops)).outcome == outcome


# --- outside -----------------------------------------------------------------------


def belief(token: int, from_us: int, until_us: int, mode: int = 1) -> Belief:
    return Belief(
        what="lock",
        name="l",
        client=f"c{token}",
        claimant=f"c{token}",
        token=token,
        from_us=from_us,
        until_us=until_us,
        mode=mode,
        limit=2,
    )


@pytest.mark.parametrize(
    ("beliefs", "outcome"),
    [
        ([belief(1, 0, 10), belief(2, 10, 20)], "legal"),
        ([belief(1, 0, 11), belief(2, 10, 20)], "illegal"),
        ([belief(1, 0, 11), belief(1, 10, 20)], "legal"),
        ([belief(1, 0, 90, 2), belief(2, 10, 20, 2), belief(3, 15, 25, 2)], "legal"),
        ([belief(1, 0, 90, 2), belief(2, 10, 20, 1)], "illegal"),
        ([belief(1, 0, 90, 3), belief(2, 10, 20, 3)], "legal"),
        ([belief(1, 0, 90, 3), belief(2, 10, 20, 3), belief(3, 15, 25, 3)], "illegal"),
    ],
)
def test_beliefs_overlap_only_as_far_as_their_mode_allows(
    beliefs: list[Belief], outcome: str
) -> None:
    assert check_outside(History(meta=META, beliefs=beliefs)).outcome == outcome


@pytest.mark.parametrize(("accepted", "outcome"), [(False, "legal"), (True, "illegal")])
def test_a_guarded_resource_takes_no_old_token(*, accepted: bool, outcome: str) -> None:
    guarded = [
        Guarded(
            resource="disk", claim="l", client="a", at_us=1, token=9, accepted=True
        ),
        Guarded(
            resource="disk", claim="l", client="b", at_us=2, token=8, accepted=accepted
        ),
    ]
    assert check_outside(History(meta=META, guarded=guarded)).outcome == outcome


# --- leases and lines in the log ---------------------------------------------------


def ends_at(now_ms: int, ended: list[int]) -> History:
    entries = [
        Entry(index=1, term=1, now_ms=1000, revision=1, requests=[OPENED]),
        Entry(index=2, term=1, now_ms=2000, revision=1, renewals=[1]),
        Entry(index=3, term=1, now_ms=now_ms, revision=2, ended=ended),
    ]
    return History(meta=META, entries=entries)


def test_a_lease_ends_in_the_first_entry_at_its_deadline_and_not_before() -> None:
    assert check_locks(ends_at(4000, [1])).outcome == "legal"
    assert check_locks(ends_at(3999, [])).outcome == "legal"
    early, late = check_locks(ends_at(3999, [1])), check_locks(ends_at(4000, []))
    assert (early.outcome, late.outcome) == ("illegal", "illegal")
    assert early.sentence == "lease 1 ended in entry 3 for no reason"
    assert "was due at 4000 ms" in late.sentence


def asked(claimant: str, revision: int, **said: object) -> Applied:
    fields = {
        "name": "acquire",
        "args": {"name": "l", "lease": 1, "claimant": claimant, "wait_ms": None},
        "revision": revision,
        **said,
    }
    return msgspec.convert(fields, Applied)


def line(first: int, second: int) -> History:
    """Return a lock with a holder and two waiters, and who is let in on a release."""
    released = Applied(name="release_lock", args={"name": "l", "token": 3}, revision=9)
    let_in = [Decided(ticket=first, answer={"token": 9})]
    requests = [
        OPENED,
        asked("a", 3, answer={"token": 3}),
        asked("b", 5, outcome="pending", ticket=5),
        asked("c", 7, outcome="pending", ticket=7),
    ]
    last = Applied(name="release_lock", args={"name": "l", "token": 9}, revision=11)
    entries = [
        Entry(index=1, term=1, now_ms=1000, revision=7, requests=requests),
        Entry(
            index=2,
            term=1,
            now_ms=1001,
            revision=9,
            requests=[released],
            decided=let_in,
        ),
        Entry(
            index=3,
            term=1,
            now_ms=1002,
            revision=11,
            requests=[last],
            decided=[Decided(ticket=second, answer={"token": 11})],
        ),
    ]
    return History(meta=META, entries=entries)


def test_a_line_is_first_come_first_served() -> None:
    assert check_locks(line(5, 7)).outcome == "legal"
    verdict = check_locks(line(7, 5))
    assert verdict.outcome == "illegal"
    assert "acquire l 1, entry 1) is next and must be let in by entry 2" in (
        verdict.sentence
    )


def test_nobody_holds_a_lock_on_a_dead_lease() -> None:
    granted = asked("a", 3, answer={"token": 3})
    history = History(
        meta=META,
        entries=[Entry(index=1, term=1, now_ms=1, revision=3, requests=[granted])],
    )
    verdict = check_locks(history)
    assert "was ok on lease 1, which is not alive" in verdict.sentence
