"""Locks: one sentence of SEMANTICS.md section 4 per test."""

import pytest

from raftd.statemachine.events import LockLost, LossReason
from raftd.statemachine.lock_state import LockChange
from raftd.statemachine.schema.base import Reason
from raftd.statemachine.schema.leases import LeaseRevoked, RevokeLease
from raftd.statemachine.schema.locks import (
    AcquireCancelled,
    BreakLock,
    CancelAcquire,
    LockBroken,
    LockGranted,
    LockMode,
    LockReleased,
    ReleaseLock,
)
from raftd.statemachine.schema.sessions import CloseSession
from tests.statemachine.claims_harness import (
    Bench,
    refusal_of,
    small_limits,
)

SHARED = LockMode.SHARED
SEMAPHORE = LockMode.SEMAPHORE


@pytest.fixture
def bench() -> Bench:
    return Bench()


# --- who holds -------------------------------------------------------------------


def test_an_exclusive_lock_has_one_holder(bench: Bench) -> None:
    first, second = bench.lease(), bench.lease()
    token = bench.hold(first, "a")
    refusal = refusal_of(bench.acquire(second, "b", wait_ms=0), Reason.LOCK_HELD)
    assert refusal.details == {"holder": "a", "token": str(token)}
    assert bench.holders() == ["a"]


def test_shared_holders_exclude_exclusive_ones(bench: Bench) -> None:
    lease = bench.lease()
    bench.hold(lease, "a", SHARED)
    bench.hold(lease, "b", SHARED)
    refusal_of(bench.acquire(lease, "c", wait_ms=0), Reason.LOCK_HELD)
    assert bench.holders() == ["a", "b"]


def test_a_semaphore_has_no_more_holders_than_its_limit(bench: Bench) -> None:
    lease = bench.lease()
    for claimant in "abc":
        bench.hold(lease, claimant, SEMAPHORE, 3)
    refusal_of(bench.acquire(lease, "d", SEMAPHORE, 3, wait_ms=0), Reason.LOCK_HELD)
    assert bench.holders() == ["a", "b", "c"]


def test_shared_holders_are_bounded() -> None:
    bench = Bench(small_limits(holders_max=2))
    lease = bench.lease()
    token = bench.hold(lease, "a", SHARED)
    bench.hold(lease, "b", SHARED)
    ticket = bench.wait(lease, "c", SHARED)
    bench.ask(ReleaseLock("lock", token))
    assert bench.token_of(ticket) > token


def test_tokens_rise_though_an_unused_lock_is_forgotten(bench: Bench) -> None:
    lease = bench.lease()
    tokens = []
    for claimant in "abc":
        tokens.append(bench.hold(lease, claimant))
        assert bench.ask(ReleaseLock("lock", tokens[-1])) == LockReleased()
        assert bench.machine.locks.inspect("lock") is None
    assert tokens == sorted(set(tokens))


def test_the_same_claimant_of_the_same_lease_re_enters(bench: Bench) -> None:
    first, second = bench.lease(), bench.lease()
    token = bench.hold(first, "a")
    assert bench.acquire(first, "a", wait_ms=0) == LockGranted(token)
    refusal_of(bench.acquire(second, "a", wait_ms=0), Reason.LOCK_HELD)


@pytest.mark.parametrize("is_waiting", [False, True])
def test_a_claim_does_not_change_its_mode(bench: Bench, *, is_waiting: bool) -> None:
    lease = bench.lease()
    if is_waiting:
        bench.hold(lease, "other")
        bench.wait(lease, "a", SHARED)
    else:
        bench.hold(lease, "a", SHARED)
    refusal = refusal_of(bench.acquire(lease, "a"), Reason.PRECONDITION)
    assert "as a shared lock already, not as an exclusive lock" in refusal.sentence


@pytest.mark.parametrize(
    ("mode", "limit"), [(LockMode.EXCLUSIVE, 1), (SHARED, 1), (SEMAPHORE, 2)]
)
def test_kinds_of_locks_do_not_mix_under_one_name(
    bench: Bench, mode: LockMode, limit: int
) -> None:
    lease = bench.lease()
    token = bench.hold(lease, "a", SEMAPHORE, 3)
    refusal = refusal_of(bench.acquire(lease, "b", mode, limit), Reason.PRECONDITION)
    assert 'lock "lock" is in use as a semaphore of 3' in refusal.sentence
    assert refusal.details == {"mode": "semaphore", "limit": "3"}
    bench.ask(ReleaseLock("lock", token))
    bench.hold(lease, "b", mode, limit)


# --- who waits -------------------------------------------------------------------


def test_waiters_come_in_first_come_first_served(bench: Bench) -> None:
    lease = bench.lease()
    token = bench.hold(lease, "a")
    tickets = [bench.wait(lease, claimant) for claimant in "bcd"]
    for ticket in tickets:
        bench.ask(ReleaseLock("lock", token))
        assert bench.token_of(ticket) > token
        token = bench.token_of(ticket)
    assert bench.holders() == ["d"]


def test_a_shared_waiter_behind_an_exclusive_one_waits(bench: Bench) -> None:
    lease = bench.lease()
    token = bench.hold(lease, "a", SHARED)
    exclusive = bench.wait(lease, "b")
    shared = [bench.wait(lease, claimant, SHARED) for claimant in "cd"]
    refusal_of(bench.acquire(lease, "e", SHARED, wait_ms=0), Reason.LOCK_HELD)
    bench.ask(ReleaseLock("lock", token))
    assert bench.holders() == ["b"]
    assert bench.waiters() == ["c", "d"]
    bench.ask(ReleaseLock("lock", bench.token_of(exclusive)))
    assert bench.holders() == ["c", "d"]
    assert bench.token_of(shared[0]) < bench.token_of(shared[1])


def test_a_wait_ends_at_its_deadline(bench: Bench) -> None:
    lease = bench.lease()
    token = bench.hold(lease, "a")
    ticket = bench.wait(lease, "b", wait_ms=500)
    bench.pass_ms(499)
    assert bench.waiters() == ["b"]
    bench.pass_ms(1)
    refusal = refusal_of(bench.decided[ticket], Reason.LOCK_HELD)
    assert refusal.details == {"holder": "a", "token": str(token)}
    assert bench.waiters() == []


def test_who_waits_behind_one_that_gives_up_moves_on(bench: Bench) -> None:
    lease = bench.lease()
    bench.hold(lease, "a", SHARED)
    bench.wait(lease, "b", wait_ms=500)
    shared = bench.wait(lease, "c", SHARED)
    bench.pass_ms(500)
    assert bench.holders() == ["a", "c"]
    assert bench.token_of(shared)


def test_a_waiter_leaves_with_its_lease(bench: Bench) -> None:
    first, second = bench.lease(), bench.lease(ttl_ms=1000)
    token = bench.hold(first, "a")
    expired = bench.wait(second, "b")
    bench.pass_ms(1000)
    refusal = refusal_of(bench.decided[expired], Reason.LEASE_EXPIRED)
    assert refusal.details == {"lease": str(second)}
    bench.ask(ReleaseLock("lock", token))
    assert bench.holders() == []


def test_a_lease_that_ends_with_holder_and_waiters_grants_to_none_of_them(
    bench: Bench,
) -> None:
    """RELIABILITY.md scenario 48: no grant on a lease that ended while it waited."""
    first, second = bench.lease(), bench.lease()
    bench.hold(first, "a")
    own = [bench.wait(first, claimant) for claimant in "bc"]
    other = bench.wait(second, "d")
    answer = bench.ask(RevokeLease(first))
    assert answer == LeaseRevoked(attachments=3)
    for ticket in own:
        refusal_of(bench.decided[ticket], Reason.LEASE_EXPIRED)
    assert bench.holders() == ["d"]
    assert bench.token_of(other)


def test_nothing_is_acquired_on_a_dead_lease(bench: Bench) -> None:
    lease = bench.lease(ttl_ms=1000)
    bench.pass_ms(1000)
    refusal_of(bench.acquire(lease, "a"), Reason.LEASE_EXPIRED)
    session = bench.session(ttl_ms=1000)
    bench.pass_ms(1000)
    refusal_of(bench.acquire(session, "a"), Reason.SESSION_EXPIRED)
    assert bench.machine.locks.names() == []


def test_cancel_takes_a_waiter_out(bench: Bench) -> None:
    lease = bench.lease()
    bench.hold(lease, "a", SHARED)
    ticket = bench.wait(lease, "b")
    behind = bench.wait(lease, "c", SHARED)
    assert bench.ask(CancelAcquire("lock", lease, "b")) == AcquireCancelled(True)
    refusal = refusal_of(bench.decided[ticket], Reason.LOCK_HELD)
    assert refusal.details == {"cause": "cancelled"}
    assert bench.token_of(behind)


def test_cancel_gives_back_a_grant_that_raced_it(bench: Bench) -> None:
    lease = bench.lease()
    bench.hold(lease, "a")
    ticket = bench.wait(lease, "b")
    assert bench.ask(CancelAcquire("lock", lease, "a")) == AcquireCancelled(False)
    assert bench.token_of(ticket)
    assert bench.ask(CancelAcquire("lock", lease, "a")) == AcquireCancelled(False)
    assert bench.ask(CancelAcquire("none", lease, "a")) == AcquireCancelled(False)
    assert bench.holders() == ["b"]


def test_a_claimant_that_waits_twice_is_granted_both_waits_at_once(
    bench: Bench,
) -> None:
    lease = bench.lease()
    token = bench.hold(lease, "a")
    tickets = [bench.wait(lease, claimant) for claimant in ("b", "c", "b")]
    bench.ask(ReleaseLock("lock", token))
    assert bench.token_of(tickets[0]) == bench.token_of(tickets[2])
    assert bench.open == {tickets[1]}
    assert bench.holders() == ["b"]


def test_each_wait_of_a_claimant_has_its_own_deadline(bench: Bench) -> None:
    lease = bench.lease()
    token = bench.hold(lease, "a")
    short = bench.wait(lease, "b", wait_ms=100)
    long = bench.wait(lease, "b", wait_ms=200)
    refusal_of(bench.acquire(lease, "b", wait_ms=0), Reason.LOCK_HELD)
    bench.pass_ms(100)
    refusal_of(bench.decided[short], Reason.LOCK_HELD)
    bench.ask(ReleaseLock("lock", token))
    assert bench.token_of(long) > token


def test_a_line_is_bounded() -> None:
    bench = Bench(small_limits(waiters_max=2))
    lease = bench.lease()
    bench.hold(lease, "a")
    bench.wait(lease, "b")
    bench.wait(lease, "c")
    refusal = refusal_of(bench.acquire(lease, "d"), Reason.TOO_MANY)
    assert refusal.details["limit_name"] == "waiters_max"
    assert bench.waiters() == ["b", "c"]


def test_the_waits_of_one_claimant_are_bounded() -> None:
    bench = Bench(small_limits(claimant_waits_max=1))
    lease = bench.lease()
    bench.hold(lease, "a")
    bench.wait(lease, "b")
    refusal = refusal_of(bench.acquire(lease, "b"), Reason.TOO_MANY)
    assert refusal.details["limit_name"] == "claimant_waits_max"


# --- release, break, delay ----------------------------------------------------------


def test_release_needs_the_current_token(bench: Bench) -> None:
    lease = bench.lease()
    old = bench.hold(lease, "a")
    bench.ask(ReleaseLock("lock", old))
    token = bench.hold(lease, "b")
    refusal = refusal_of(bench.ask(ReleaseLock("lock", old)), Reason.FENCED)
    assert refusal.details["current"] == str(token)
    assert bench.holders() == ["b"]


def test_release_of_an_unknown_lock_finds_nothing(bench: Bench) -> None:
    refusal_of(bench.ask(ReleaseLock("lock", 1)), Reason.NOT_FOUND)
    refusal_of(bench.ask(BreakLock("lock")), Reason.NOT_FOUND)


def test_release_of_a_closed_lock_is_by_no_holder(bench: Bench) -> None:
    lease = bench.lease()
    token = bench.hold(lease, "a", delay_ms=500)
    bench.ask(BreakLock("lock"))
    refusal_of(bench.ask(ReleaseLock("lock", token)), Reason.NOT_HOLDER)


@pytest.mark.parametrize(
    ("how", "change", "reason"),
    [
        ("expire", LockChange.EXPIRED, LossReason.EXPIRED),
        ("revoke", LockChange.REVOKED, LossReason.REVOKED),
        ("break", LockChange.BROKEN, LossReason.BROKEN),
    ],
)
def test_after_an_involuntary_loss_the_lock_stays_closed(
    bench: Bench, how: str, change: LockChange, reason: LossReason
) -> None:
    holder, other = bench.lease(ttl_ms=1000), bench.lease()
    token = bench.hold(holder, "a", delay_ms=300)
    ticket = bench.wait(other, "b")
    if how == "expire":
        bench.pass_ms(1000)
    else:
        bench.ask(RevokeLease(holder) if how == "revoke" else BreakLock("lock"))
    refusal = refusal_of(bench.acquire(other, "c", wait_ms=0), Reason.LOCK_HELD)
    assert refusal.details["retry_after_ms"] == "300"
    view = bench.machine.locks.inspect("lock")
    assert view is not None
    assert (view.last_change, view.closed_until_ms) == (change, bench.now_ms + 300)
    assert view.changed_ms == bench.now_ms
    assert bench.events == [LockLost(view.changed_rev, "lock", "a", token, reason)]
    bench.pass_ms(299)
    assert bench.holders() == []
    bench.pass_ms(1)
    assert bench.holders() == ["b"]
    assert bench.token_of(ticket) > token


def test_a_closed_lock_opens_and_is_forgotten(bench: Bench) -> None:
    lease = bench.lease()
    bench.hold(lease, "a", delay_ms=300)
    bench.ask(BreakLock("lock"))
    assert bench.machine.locks.names() == ["lock"]
    bench.pass_ms(300)
    assert bench.machine.locks.names() == []


@pytest.mark.parametrize("how", ["release", "close"])
def test_a_goodbye_leaves_the_lock_open_and_is_no_event(bench: Bench, how: str) -> None:
    session, other = bench.session(), bench.lease()
    token = bench.hold(session, "a", delay_ms=300)
    ticket = bench.wait(other, "b")
    closing = CloseSession(session)
    bench.ask(ReleaseLock("lock", token) if how == "release" else closing)
    assert bench.token_of(ticket) > token
    view = bench.machine.locks.inspect("lock")
    assert view is not None
    assert view.last_change is LockChange.RELEASED
    assert bench.events == []


def test_the_longest_delay_counts(bench: Bench) -> None:
    lease = bench.lease()
    bench.hold(lease, "a", SHARED, delay_ms=500)
    bench.hold(lease, "b", SHARED, delay_ms=100)
    bench.hold(lease, "c", SHARED)
    assert bench.ask(BreakLock("lock")) == LockBroken(3)
    bench.pass_ms(499)
    refusal_of(bench.acquire(lease, "d", wait_ms=0), Reason.LOCK_HELD)
    bench.pass_ms(1)
    bench.hold(lease, "d")


def test_a_lock_can_change_its_kind_while_it_is_closed(bench: Bench) -> None:
    lease = bench.lease()
    bench.hold(lease, "a", delay_ms=100)
    bench.ask(BreakLock("lock"))
    ticket = bench.wait(lease, "b", SEMAPHORE, 2)
    refusal_of(bench.acquire(lease, "c"), Reason.PRECONDITION)
    bench.pass_ms(100)
    assert bench.token_of(ticket)
