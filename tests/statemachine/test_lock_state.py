"""Locks in the whole: what readers see, fences, limits, rows, bounded work."""

import pytest

from raftd.statemachine.events import LockLost
from raftd.statemachine.lock_state import ClaimView
from raftd.statemachine.schema.base import Fence, FenceKind, Reason, Refusal
from raftd.statemachine.schema.kv import KeyPut, PutKey
from raftd.statemachine.schema.leases import LeaseRevoked, RevokeLease
from raftd.statemachine.schema.locks import (
    AcquireLock,
    BreakLock,
    CancelAcquire,
    LockBroken,
    LockMode,
    ReleaseLock,
)
from raftd.statemachine.schema.sessions import CloseSession
from raftd.statemachine.schema.txn import Compare, CompareTarget, Transact, Transacted
from tests.statemachine.claims_harness import (
    Bench,
    merged,
    refusal_of,
    small_limits,
)

SHARED = LockMode.SHARED
SEMAPHORE = LockMode.SEMAPHORE


@pytest.fixture
def bench() -> Bench:
    return Bench()


# --- reads, fences ---------------------------------------------------------------


def test_inspect_tells_holders_and_waiters(bench: Bench) -> None:
    lease = bench.lease()
    token = bench.hold(lease, "a", SEMAPHORE, 1)
    bench.now_ms += 5
    bench.wait(lease, "b", SEMAPHORE, 1)
    view = bench.machine.locks.inspect("lock")
    assert view is not None
    assert (view.mode, view.limit, view.changed_rev) == (SEMAPHORE, 1, 0)
    assert view.holders == (ClaimView("a", lease, token, SEMAPHORE, bench.now_ms - 5),)
    assert view.waiters == (ClaimView("b", lease, 0, SEMAPHORE, bench.now_ms),)


def test_names_are_listed_in_pages_by_prefix(bench: Bench) -> None:
    lease = bench.lease()
    for name in ("b/2", "a", "b/1", "b/3", "c"):
        bench.hold(lease, "x", name=name)
    names = bench.machine.locks.names
    assert names() == ["a", "b/1", "b/2", "b/3", "c"]
    assert names("b/", limit=2) == ["b/1", "b/2"]
    assert names("b/", after="b/2", limit=2) == ["b/3"]
    assert names("b/", after="a") == ["b/1", "b/2", "b/3"]
    assert names("b/", after="b/3") == []
    assert names("d") == []


def test_a_fence_holds_as_long_as_its_token(bench: Bench) -> None:
    """RELIABILITY.md scenario 53: the late write of a holder that slept."""
    sleeper, other = bench.lease(ttl_ms=1000), bench.lease()
    token = bench.hold(sleeper, "a")
    ticket = bench.wait(other, "b")
    fence = Fence(FenceKind.LOCK, "lock", token)
    assert isinstance(bench.ask(PutKey(b"k", b"1"), (fence,)), KeyPut)
    bench.pass_ms(1000)
    refusal = refusal_of(bench.ask(PutKey(b"k", b"2"), (fence,)), Reason.FENCED)
    assert refusal.details["current"] == str(bench.token_of(ticket))
    assert not bench.machine.locks.holds("lock", token)
    assert not bench.machine.locks.holds("other", bench.token_of(ticket))
    assert bench.machine.locks.current_token("other") == 0


def test_a_transaction_compares_and_releases(bench: Bench) -> None:
    lease = bench.lease()
    token = bench.hold(lease, "a")
    ticket = bench.wait(lease, "b")
    held = Compare(CompareTarget.LOCK_HELD, name="lock", number=token)
    transaction = Transact((held,), (ReleaseLock("lock", token),))
    answer = bench.ask(transaction)
    assert isinstance(answer, Transacted)
    assert answer.has_succeeded
    assert bench.token_of(ticket) > token
    answer = bench.ask(transaction)
    assert isinstance(answer, Transacted)
    assert not answer.has_succeeded


# --- bad input -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "x" * 257, "a\nb"])
def test_bad_names_are_refused(bench: Bench, name: str) -> None:
    lease = bench.lease()
    refusal_of(bench.acquire(lease, "a", name=name), Reason.INVALID_NAME)
    refusal_of(bench.ask(ReleaseLock(name, 1)), Reason.INVALID_NAME)
    refusal_of(bench.ask(BreakLock(name)), Reason.INVALID_NAME)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (AcquireLock("lock", 2, ""), Reason.INVALID_REQUEST),
        (AcquireLock("lock", 2, "x" * 257), Reason.TOO_LARGE),
        (AcquireLock("lock", 2, "a", wait_ms=-1), Reason.INVALID_REQUEST),
        (AcquireLock("lock", 2, "a", wait_ms=1 << 40), Reason.INVALID_REQUEST),
        (AcquireLock("lock", 2, "a", delay_ms=-1), Reason.INVALID_REQUEST),
        (AcquireLock("lock", 2, "a", delay_ms=86_400_001), Reason.INVALID_REQUEST),
        (AcquireLock("lock", 2, "a", SEMAPHORE, 0), Reason.INVALID_REQUEST),
        (AcquireLock("lock", 2, "a", SEMAPHORE, 10_001), Reason.INVALID_REQUEST),
        (AcquireLock("lock", 99, "a"), Reason.LEASE_EXPIRED),
    ],
)
def test_bad_requests_are_refused(
    bench: Bench, command: AcquireLock, reason: Reason
) -> None:
    assert bench.lease() == 2
    refusal_of(bench.ask(command), reason)


def test_claims_count_against_the_attachments_of_their_lease() -> None:
    bench = Bench(small_limits(lease_attachments_max=2))
    lease = bench.lease()
    token = bench.hold(lease, "a")
    ticket = bench.wait(lease, "b")
    refusal_of(bench.acquire(lease, "c"), Reason.TOO_MANY)
    refusal_of(bench.acquire(lease, "c", name="new"), Reason.TOO_MANY)
    assert bench.machine.locks.names() == ["lock"]
    bench.ask(ReleaseLock("lock", token))
    assert bench.token_of(ticket) > token


def test_a_full_state_refuses_claims_and_lets_releases_pass() -> None:
    bench = Bench(small_limits(state_bytes_max=1500))
    lease = bench.lease()
    token = bench.hold(lease, "a")
    refusal_of(bench.acquire(lease, "b"), Reason.QUOTA)
    refusal_of(bench.acquire(lease, "b", name="new"), Reason.QUOTA)
    assert not isinstance(bench.ask(ReleaseLock("lock", token)), Refusal)
    bench.hold(lease, "b")


def test_a_state_without_claims_counts_nothing(bench: Bench) -> None:
    lease = bench.lease()
    empty_bytes = bench.machine.context.size_bytes
    for claimant in "abc":
        bench.acquire(lease, claimant, delay_ms=10)
        bench.acquire(lease, claimant, SEMAPHORE, 2, name="other")
    assert bench.machine.context.size_bytes > empty_bytes
    bench.revoke(lease)
    bench.pass_ms(10)
    lease = bench.lease()
    assert bench.machine.context.size_bytes == empty_bytes


# --- all or nothing, the same on every member --------------------------------------


def test_a_refused_transaction_leaves_nothing_behind(bench: Bench) -> None:
    other = Bench()
    for each in (bench, other):
        lease = each.lease()
        each.hold(lease, "a", delay_ms=50)
        each.wait(lease, "b", wait_ms=100)
        each.hold(lease, "c", name="free")
    view = other.machine.locks.inspect("lock")
    assert view is not None
    token = view.holders[0].token
    free = other.machine.locks.current_token("free")
    releases = (ReleaseLock("free", free), ReleaseLock("lock", token))
    refusal = bench.ask(Transact((), (*releases, ReleaseLock("lock", token))))
    assert refusal_of(refusal, Reason.NOT_HOLDER).details["op"] == "2"
    other.apply()
    for each in (bench, other):
        each.checkpoint()
    assert merged(bench.rows) == merged(other.rows)
    assert bench.ask(BreakLock("lock")) == other.ask(BreakLock("lock"))
    for each in (bench, other):
        each.pass_ms(50)
        each.checkpoint()
    assert merged(bench.rows) == merged(other.rows)
    assert bench.decided == other.decided != {}


def test_holders_keep_their_order_when_a_release_is_taken_back(bench: Bench) -> None:
    lease = bench.lease()
    tokens = [bench.hold(lease, claimant, SHARED) for claimant in "abc"]
    release = ReleaseLock("lock", tokens[0])
    refusal_of(bench.ask(Transact((), (release, release))), Reason.FENCED)
    assert bench.holders() == ["a", "b", "c"]
    bench.reload()
    bench.ask(BreakLock("lock"))
    lost = [event for event in bench.events if isinstance(event, LockLost)]
    assert [event.token for event in lost] == tokens


def test_a_loaded_machine_goes_on_as_if_it_had_never_stopped(bench: Bench) -> None:
    leases = [bench.lease(ttl_ms=10_000 + at) for at in range(3)]
    bench.hold(leases[0], "a", SHARED, delay_ms=700)
    bench.hold(leases[1], "b", SHARED)
    waits = [bench.wait(leases[2], name, wait_ms=12_000) for name in "cde"]
    waits += [bench.wait(leases[2], "c")]
    bench.hold(leases[0], "a", SEMAPHORE, 2, name="s")
    bench.reload()
    assert bench.holders() == ["a", "b"]
    assert bench.waiters() == ["c", "d", "e", "c"]
    bench.apply(renewals=(leases[2],))
    bench.now_ms += 9_999
    bench.apply(renewals=(leases[2],))
    bench.pass_ms(1)
    bench.reload()
    view = bench.machine.locks.inspect("lock")
    assert view is not None
    assert view.closed_until_ms == bench.now_ms + 700
    bench.pass_ms(700)
    assert bench.token_of(waits[0]) == bench.token_of(waits[3])
    assert bench.holders() == ["c"]
    bench.pass_ms(1300)
    refusal_of(bench.decided[waits[1]], Reason.LOCK_HELD)
    bench.checkpoint()
    bench.replay()


# --- bounded work ------------------------------------------------------------------


def test_promotions_of_one_command_are_bounded() -> None:
    bench = Bench(small_limits(promotions_max=3, work_rows_max=1))
    lease = bench.lease()
    token = bench.hold(lease, "first")
    waits = [bench.wait(lease, f"w{at}", SHARED) for at in range(12)]
    bench.ask(ReleaseLock("lock", token))
    # Three with the command, one by the entry's background work.
    assert [ticket for ticket in waits if ticket in bench.decided] == waits[:4]
    late = bench.wait(lease, "late", SHARED)
    bench.reload()
    while bench.machine.has_backlog:
        bench.apply()
    assert len(bench.payloads) == 24  # seven were left, one entry each
    tokens = [bench.token_of(ticket) for ticket in (*waits, late)]
    assert tokens == sorted(tokens)
    bench.checkpoint()
    bench.replay()


def test_each_command_has_its_own_bound_of_promotions() -> None:
    bench = Bench(small_limits(promotions_max=2, work_rows_max=1))
    lease = bench.lease()
    for name in ("x", "y"):
        token = bench.hold(lease, "first", name=name)
        waits = [bench.wait(lease, f"w{at}", SHARED, name=name) for at in range(2)]
        bench.ask(ReleaseLock(name, token))
        assert all(bench.token_of(ticket) > token for ticket in waits)


def test_what_was_given_back_hangs_on_its_lease_no_more(bench: Bench) -> None:
    lease = bench.lease()
    token = bench.hold(lease, "a")
    bench.wait(lease, "b")
    bench.ask(CancelAcquire("lock", lease, "b"))
    bench.ask(ReleaseLock("lock", token))
    assert bench.ask(RevokeLease(lease)) == LeaseRevoked(attachments=0)


def test_a_session_with_many_locks_gives_them_on_in_parts() -> None:
    bench = Bench(small_limits(promotions_max=10, work_rows_max=6))
    holder, other = bench.session(), bench.lease()
    names = [f"lock/{at:02}" for at in range(25)]
    for name in names:
        bench.hold(holder, "a", name=name)
        bench.wait(other, "b", name=name)
    bench.ask(CloseSession(holder))
    held = [name for name in names if bench.holders(name) == ["b"]]
    assert held == names[:16]
    bench.apply()
    bench.apply()
    assert bench.open == set()
    assert all(bench.holders(name) == ["b"] for name in names)


def test_a_break_of_many_holders_is_one_revision(bench: Bench) -> None:
    lease = bench.lease()
    for at in range(50):
        bench.hold(lease, f"h{at}", SHARED)
    exclusive = bench.wait(lease, "x")
    assert bench.ask(BreakLock("lock")) == LockBroken(50)
    lost = [event for event in bench.events if isinstance(event, LockLost)]
    assert len(lost) == len(bench.events) == 50
    assert len({event.rev for event in lost}) == 1
    assert bench.token_of(exclusive)
