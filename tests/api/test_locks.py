"""Locks and fences through real unary calls."""

from __future__ import annotations

import asyncio

import pytest

from raftpb.v1 import common_pb2, kv_pb2, leases_pb2, locks_pb2
from tests.api.clients import KEY, Stubs, open_session, refusal_of
from tests.api.solo_node import SoloNode


async def grant(stubs: Stubs) -> int:
    request = leases_pb2.GrantLeaseRequest(ttl_ms=5000)
    lease: int = (await stubs.leases.GrantLease(request)).lease_id
    return lease


async def acquire(
    stubs: Stubs,
    lease: int,
    claimant: str,
    *,
    wait_ms: int | None = 0,
    mode: locks_pb2.LockMode.ValueType = locks_pb2.LOCK_MODE_UNSPECIFIED,
    limit: int = 0,
) -> int:
    request = locks_pb2.AcquireLockRequest(
        name="l",
        lease_id=lease,
        claimant=claimant,
        wait_ms=wait_ms,
        mode=mode,
        limit=limit,
    )
    token: int = (await stubs.locks.AcquireLock(request)).token
    return token


async def inspect(stubs: Stubs) -> locks_pb2.Lock:
    answer = await stubs.locks.GetLock(locks_pb2.GetLockRequest(name="l"))
    assert isinstance(answer, locks_pb2.GetLockResponse)
    return answer.lock


async def test_a_held_lock_is_told_with_its_holder(stubs: Stubs) -> None:
    lease = await grant(stubs)
    token = await acquire(stubs, lease, "a")
    refused = await refusal_of(acquire(stubs, lease, "b"))
    assert refused.reason == "LOCK_HELD"
    assert refused.metadata["token"] == str(token)
    assert refused.metadata["holder"] == "a"


async def test_a_waiter_is_granted_when_the_holder_releases(
    stubs: Stubs, node: SoloNode
) -> None:
    lease = await grant(stubs)
    token = await acquire(stubs, lease, "a")
    waiting = asyncio.ensure_future(acquire(stubs, lease, "b", wait_ms=None))
    await node.has_writes(3)
    node.advance(100)
    lock = await inspect(stubs)
    assert list(lock.holders) == [
        locks_pb2.LockClaim(
            claimant="a",
            lease_id=lease,
            token=token,
            mode=locks_pb2.LOCK_MODE_EXCLUSIVE,
            since_ms=100,
        )
    ]
    assert [claim.claimant for claim in lock.waiters] == ["b"]
    await stubs.locks.ReleaseLock(locks_pb2.ReleaseLockRequest(name="l", token=token))
    assert await waiting > token
    assert (await inspect(stubs)).last_change == "released"


async def test_a_session_pays_where_no_lease_is_named(stubs: Stubs) -> None:
    session = await open_session(stubs)
    write = common_pb2.WriteHeader(session_id=session, session_key=KEY)
    request = locks_pb2.AcquireLockRequest(write=write, name="l", claimant="me")
    await stubs.locks.AcquireLock(request)
    assert (await inspect(stubs)).holders[0].lease_id == session


async def test_shared_and_counting_locks(stubs: Stubs) -> None:
    lease = await grant(stubs)
    shared = locks_pb2.LOCK_MODE_SHARED
    await acquire(stubs, lease, "a", mode=shared)
    await acquire(stubs, lease, "b", mode=shared)
    assert len((await inspect(stubs)).holders) == 2
    await stubs.locks.BreakLock(locks_pb2.BreakLockRequest(name="l"))
    counting = locks_pb2.LOCK_MODE_SEMAPHORE
    await acquire(stubs, lease, "a", mode=counting, limit=1)
    refused = await refusal_of(acquire(stubs, lease, "b", mode=counting, limit=1))
    assert refused.reason == "LOCK_HELD"


async def test_leaving_the_line(stubs: Stubs, node: SoloNode) -> None:
    lease = await grant(stubs)
    await acquire(stubs, lease, "a")
    waiting = asyncio.ensure_future(acquire(stubs, lease, "b", wait_ms=None))
    await node.has_writes(3)
    cancel = locks_pb2.CancelAcquireRequest(name="l", lease_id=lease, claimant="b")
    assert (await stubs.locks.CancelAcquire(cancel)).was_waiting
    assert (await refusal_of(waiting)).reason == "LOCK_HELD"


async def test_an_old_token_is_fenced_with_the_current_one(stubs: Stubs) -> None:
    lease = await grant(stubs)
    old = await acquire(stubs, lease, "a")
    assert (
        await stubs.locks.BreakLock(locks_pb2.BreakLockRequest(name="l"))
    ).holders == 1
    new = await acquire(stubs, lease, "b")
    release = locks_pb2.ReleaseLockRequest(name="l", token=old)
    refused = await refusal_of(stubs.locks.ReleaseLock(release))
    assert (refused.reason, refused.metadata["current"]) == ("FENCED", str(new))


async def test_a_write_may_carry_fences(stubs: Stubs) -> None:
    lease = await grant(stubs)
    token = await acquire(stubs, lease, "a")
    for fence, is_good in (
        (common_pb2.Fence(lock=common_pb2.LockFence(name="l", token=token)), True),
        (common_pb2.Fence(lease_id=lease), True),
        (common_pb2.Fence(lock=common_pb2.LockFence(name="l", token=1)), False),
        (
            common_pb2.Fence(election=common_pb2.ElectionFence(name="e", epoch=1)),
            False,
        ),
        (
            common_pb2.Fence(
                reservation=common_pb2.ReservationFence(job_id=1, token=1)
            ),
            False,
        ),
    ):
        write = common_pb2.WriteHeader(fences=[fence])
        call = stubs.kv.PutKey(kv_pb2.PutKeyRequest(write=write, key=b"k"))
        if is_good:
            assert (await call).mod_rev
        else:
            assert (await refusal_of(call)).reason == "FENCED"


async def test_a_lock_nobody_uses_is_not_found(stubs: Stubs) -> None:
    refused = await refusal_of(inspect(stubs))
    assert refused.reason == "NOT_FOUND"


async def test_locks_page_by_page(stubs: Stubs) -> None:
    lease = await grant(stubs)
    for name in ("a/1", "a/2", "b"):
        request = locks_pb2.AcquireLockRequest(name=name, lease_id=lease, claimant="me")
        await stubs.locks.AcquireLock(request)
    page = await stubs.locks.ListLocks(locks_pb2.ListLocksRequest(prefix="a/", limit=1))
    assert ([lock.name for lock in page.locks], page.more) == (["a/1"], True)
    page = await stubs.locks.ListLocks(
        locks_pb2.ListLocksRequest(prefix="a/", after_name="a/1")
    )
    assert ([lock.name for lock in page.locks], page.more) == (["a/2"], False)


@pytest.mark.parametrize(
    ("request_", "reason", "sentence"),
    [
        (
            locks_pb2.AcquireLockRequest(name="l", claimant="me"),
            "INVALID_REQUEST",
            "the call names no lease and comes from no session",
        ),
        (
            locks_pb2.AcquireLockRequest(name="l", lease_id=1),
            "INVALID_REQUEST",
            "the claimant is empty",
        ),
        (
            locks_pb2.AcquireLockRequest(lease_id=1, claimant="me"),
            "INVALID_NAME",
            "the name of a lock is empty",
        ),
        (
            locks_pb2.AcquireLockRequest(name="n" * 257, lease_id=1, claimant="me"),
            "INVALID_NAME",
            "the name of a lock has 257 bytes, over the limit of 256",
        ),
        (
            locks_pb2.ReleaseLockRequest(name="a\nb", token=1),
            "INVALID_NAME",
            "the name of a lock holds a control character",
        ),
        (
            locks_pb2.ReleaseLockRequest(name="l"),
            "INVALID_REQUEST",
            "the token is missing or 0",
        ),
        (
            locks_pb2.AcquireLockRequest(
                name="l", lease_id=1, claimant="me", mode=locks_pb2.LOCK_MODE_SEMAPHORE
            ),
            "INVALID_REQUEST",
            "the limit of a semaphore is 0, not within 1 to 10000",
        ),
    ],
)
async def test_a_bad_request_is_refused_and_never_proposed(
    stubs: Stubs, node: SoloNode, request_: object, reason: str, sentence: str
) -> None:
    method = getattr(stubs.locks, type(request_).__name__.removesuffix("Request"))
    refused = await refusal_of(method(request_))
    assert (refused.reason, refused.sentence) == (reason, sentence)
    assert node.writes == []


async def test_a_mode_that_this_version_does_not_know(stubs: Stubs) -> None:
    request = locks_pb2.AcquireLockRequest(name="l", lease_id=1, claimant="me")
    # An open enum: a newer client may send more than these stubs can say.
    newer = locks_pb2.AcquireLockRequest.FromString(
        request.SerializeToString() + bytes([5 << 3, 9])
    )
    refused = await refusal_of(stubs.locks.AcquireLock(newer))
    assert refused.sentence == "9 is no LockMode"


async def test_too_many_fences(stubs: Stubs) -> None:
    write = common_pb2.WriteHeader(fences=[common_pb2.Fence(lease_id=1)] * 129)
    request = kv_pb2.PutKeyRequest(write=write, key=b"k")
    refused = await refusal_of(stubs.kv.PutKey(request))
    assert refused.sentence == (
        "the number of fences is 129, over the limit of 128 (fences_max)"
    )


async def test_a_fence_about_nothing(stubs: Stubs) -> None:
    write = common_pb2.WriteHeader(fences=[common_pb2.Fence()])
    refused = await refusal_of(
        stubs.kv.PutKey(kv_pb2.PutKeyRequest(write=write, key=b"k"))
    )
    assert refused.sentence == "a fence names no claim that this version knows"
