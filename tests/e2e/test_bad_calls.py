"""Calls that are wrong: each is refused with its row of the error table, in words.

Plain stubs against a whole process, as a program in any language would make them.

Source: ERRORS.md; SEMANTICS.md sections 0 and 1.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from cluster.processes import Processes
from raftpb.v1 import (
    common_pb2,
    elections_pb2,
    kv_pb2,
    leases_pb2,
    locks_pb2,
    queues_pb2,
    sessions_pb2,
    txn_pb2,
)
from tests.api.clients import Stubs, open_session, refusal_of

pytestmark = pytest.mark.e2e

MIB = 1024 * 1024
KEY = b"bad calls' key.."
OTHER_KEY = b"another key ...."

Code = grpc.StatusCode
Make = Callable[[Stubs], Any]


@pytest.fixture
async def stubs(lone: Processes) -> AsyncIterator[Stubs]:
    """Stubs that send what this library's own client would not."""
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(lone.endpoint(1), options=options) as channel:
        yield Stubs(channel)


def put(stubs: Stubs, key: bytes = b"k", value: bytes = b"", **fields: Any) -> Any:
    return stubs.kv.PutKey(kv_pb2.PutKeyRequest(key=key, value=value, **fields))


def enqueue(stubs: Stubs, queue: str, payload: bytes = b"") -> Any:
    spec = txn_pb2.JobSpec(queue=queue, payload=payload)
    return stubs.queues.EnqueueJobs(queues_pb2.EnqueueJobsRequest(jobs=[spec]))


def acquire(stubs: Stubs, name: str, lease_id: int = 1) -> Any:
    request = locks_pb2.AcquireLockRequest(name=name, claimant="me", lease_id=lease_id)
    return stubs.locks.AcquireLock(request)


def campaign(stubs: Stubs, name: str) -> Any:
    request = elections_pb2.CampaignRequest(name=name, claimant="me", lease_id=1)
    return stubs.elections.Campaign(request)


def transact(stubs: Stubs, ops: int) -> Any:
    op = txn_pb2.Op(put=txn_pb2.PutOp(key=b"k"))
    return stubs.txn.Transact(txn_pb2.TransactRequest(then_ops=[op] * ops))


@pytest.mark.parametrize(
    ("name", "word"),
    [("", "empty"), ("a\nb", "control"), ("\x7f", "control"), ("ä" * 129, "258")],
    ids=["empty", "newline", "delete", "long"],
)
@pytest.mark.parametrize(
    ("kind", "make"),
    [("lock", acquire), ("election", campaign), ("queue", enqueue)],
    ids=["lock", "election", "queue"],
)
async def test_a_bad_name_is_refused(
    stubs: Stubs, kind: str, make: Callable[[Stubs, str], Any], name: str, word: str
) -> None:
    refused = await refusal_of(make(stubs, name))
    assert refused.code is Code.INVALID_ARGUMENT
    assert refused.reason in {"INVALID_NAME", "TOO_LARGE"}
    assert refused.applied == "no"
    assert kind in refused.sentence
    assert word in refused.sentence


@pytest.mark.parametrize(
    ("make", "limit", "size"),
    [
        (lambda s: put(s, b"k" * 1025), 1024, 1025),
        (lambda s: put(s, value=bytes(MIB + 1)), MIB, MIB + 1),
        (lambda s: enqueue(s, "q", bytes(MIB + 1)), MIB, MIB + 1),
        (lambda s: transact(s, 129), 128, 129),
    ],
    ids=["key", "value", "payload", "operations"],
)
async def test_a_size_over_its_limit_is_refused_with_both(
    stubs: Stubs, make: Make, limit: int, size: int
) -> None:
    refused = await refusal_of(make(stubs))
    assert refused.code is Code.INVALID_ARGUMENT
    assert (refused.reason, refused.applied) == ("TOO_LARGE", "no")
    assert int(refused.metadata["limit"]) == limit
    assert int(refused.metadata["size"]) == size
    assert str(limit) in refused.sentence
    assert str(size) in refused.sentence


async def test_a_request_over_the_largest_is_refused(stubs: Stubs) -> None:
    ops = [txn_pb2.Op(put=txn_pb2.PutOp(key=b"k", value=bytes(MIB)))] * 5
    refused = await refusal_of(
        stubs.txn.Transact(txn_pb2.TransactRequest(then_ops=ops))
    )
    assert refused.code is Code.INVALID_ARGUMENT
    assert (refused.reason, refused.applied) == ("TOO_LARGE", "no")
    assert int(refused.metadata["limit"]) == 4 * MIB


async def test_an_empty_key_is_refused(stubs: Stubs) -> None:
    refused = await refusal_of(put(stubs, b""))
    assert (refused.reason, refused.applied) == ("INVALID_REQUEST", "no")
    assert "a key has at least one byte" in refused.sentence


async def test_an_unknown_queue_is_not_found(stubs: Stubs) -> None:
    request = queues_pb2.GetQueueRequest(queue="never heard of")
    refused = await refusal_of(stubs.queues.GetQueue(request))
    assert refused.code is Code.NOT_FOUND
    assert (refused.reason, refused.applied) == ("NOT_FOUND", "no")
    assert "queue" in refused.sentence
    assert "never heard of" in refused.sentence


async def test_an_unknown_lease_is_not_found(stubs: Stubs) -> None:
    request = leases_pb2.GetLeaseRequest(lease_id=999_999)
    refused = await refusal_of(stubs.leases.GetLease(request))
    assert refused.code is Code.NOT_FOUND
    assert (refused.reason, refused.applied) == ("NOT_FOUND", "no")
    assert "999999" in refused.sentence


async def test_a_renewal_of_no_lease_says_that_it_is_lost(stubs: Stubs) -> None:
    request = leases_pb2.KeepAliveLeaseRequest(lease_id=999_999)
    refused = await refusal_of(stubs.leases.KeepAliveLease(request))
    assert refused.code is Code.FAILED_PRECONDITION
    assert (refused.reason, refused.applied) == ("LEASE_EXPIRED", "no")
    assert "999999" in refused.sentence


async def test_a_wrong_token_is_fenced_and_told_the_current_one(stubs: Stubs) -> None:
    session = await open_session(stubs, KEY)
    token = (await acquire(stubs, "l", lease_id=session)).token
    request = locks_pb2.ReleaseLockRequest(name="l", token=token + 1)
    refused = await refusal_of(stubs.locks.ReleaseLock(request))
    assert refused.code is Code.FAILED_PRECONDITION
    assert (refused.reason, refused.applied) == ("FENCED", "no")
    assert int(refused.metadata["current"]) == token
    lock = common_pb2.LockFence(name="l", token=token - 1)
    fences = [common_pb2.Fence(lock=lock)]
    write = common_pb2.WriteHeader(fences=fences)
    refused = await refusal_of(put(stubs, b"fenced", write=write))
    assert (refused.reason, refused.applied) == ("FENCED", "no")
    found = await stubs.kv.GetKey(kv_pb2.GetKeyRequest(key=b"fenced"))
    assert not found.found


def numbered(session: int, number: int, key: bytes = KEY, acknowledged: int = 0) -> Any:
    return common_pb2.WriteHeader(
        session_id=session, session_key=key, number=number, acknowledged=acknowledged
    )


async def count(stubs: Stubs, write: Any, by: int = 1) -> int:
    request = kv_pb2.IncrementKeyRequest(write=write, key=b"n", by=by)
    answer = await stubs.kv.IncrementKey(request)
    value: int = answer.value
    return value


async def test_an_unknown_session_is_an_unknown_outcome(stubs: Stubs) -> None:
    refused = await refusal_of(count(stubs, numbered(999_999, 1)))
    assert (refused.reason, refused.applied) == ("SESSION_UNKNOWN", "unknown")
    assert "session" in refused.sentence


async def test_the_wrong_key_of_a_session_is_denied(stubs: Stubs) -> None:
    session = await open_session(stubs, KEY)
    refused = await refusal_of(count(stubs, numbered(session, 1, OTHER_KEY)))
    assert refused.code in {Code.PERMISSION_DENIED, Code.UNAUTHENTICATED}
    assert refused.applied == "no"
    assert "key" in refused.sentence


async def test_numbers_may_skip_but_mean_one_thing_each(stubs: Stubs) -> None:
    session = await open_session(stubs, OTHER_KEY)
    first = await count(stubs, numbered(session, 3, OTHER_KEY))
    assert await count(stubs, numbered(session, 9, OTHER_KEY)) == first + 1
    assert await count(stubs, numbered(session, 5, OTHER_KEY)) == first + 2
    assert await count(stubs, numbered(session, 3, OTHER_KEY)) == first
    refused = await refusal_of(count(stubs, numbered(session, 3, OTHER_KEY), by=2))
    assert refused.code is Code.INVALID_ARGUMENT
    assert (refused.reason, refused.applied) == ("NUMBER_REUSED", "no")
    await count(stubs, numbered(session, 10, OTHER_KEY, acknowledged=9))
    refused = await refusal_of(count(stubs, numbered(session, 5, OTHER_KEY)))
    assert refused.code is Code.FAILED_PRECONDITION
    assert (refused.reason, refused.applied) == ("STALE_NUMBER", "unknown")
    assert await count(stubs, common_pb2.WriteHeader()) == first + 4


async def test_a_closed_session_is_never_written_through_again(stubs: Stubs) -> None:
    session = await open_session(stubs, b"closing soon ...")
    await stubs.sessions.CloseSession(
        sessions_pb2.CloseSessionRequest(
            session_id=session, session_key=b"closing soon ..."
        )
    )
    refused = await refusal_of(count(stubs, numbered(session, 1, b"closing soon ...")))
    assert refused.reason in {"SESSION_UNKNOWN", "SESSION_EXPIRED"}


@pytest.mark.parametrize("ttl_ms", [1, 999, 86_400_001])
async def test_a_ttl_out_of_range_is_refused_with_the_range(
    stubs: Stubs, ttl_ms: int
) -> None:
    request = leases_pb2.GrantLeaseRequest(ttl_ms=ttl_ms)
    refused = await refusal_of(stubs.leases.GrantLease(request))
    assert refused.code is Code.INVALID_ARGUMENT
    assert refused.applied == "no"
    for number in ("1000", "86400000", str(ttl_ms)):
        assert number in refused.sentence
