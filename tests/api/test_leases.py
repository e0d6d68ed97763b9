"""Leases and sessions through real unary calls."""

from __future__ import annotations

import pytest

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
from tests.api.clients import KEY, Stubs, open_session, refusal_of
from tests.api.solo_node import SoloNode


async def grant(stubs: Stubs, ttl_ms: int = 5000) -> int:
    request = leases_pb2.GrantLeaseRequest(ttl_ms=ttl_ms, claimant="me")
    lease: int = (await stubs.leases.GrantLease(request)).lease_id
    return lease


async def test_a_lease_lives_while_it_is_renewed(stubs: Stubs, node: SoloNode) -> None:
    lease = await grant(stubs)
    node.advance(4000)
    request = leases_pb2.KeepAliveLeaseRequest(lease_id=lease)
    assert (await stubs.leases.KeepAliveLease(request)).ttl_ms == 5000
    node.advance(4000)
    answer = await stubs.leases.GetLease(leases_pb2.GetLeaseRequest(lease_id=lease))
    assert answer.lease == leases_pb2.Lease(
        lease_id=lease, ttl_ms=5000, remaining_ms=1000, claimant="me"
    )
    node.advance(1000)
    refused = await refusal_of(stubs.leases.KeepAliveLease(request))
    assert refused.reason == "LEASE_EXPIRED"


async def test_a_lease_shows_all_that_hangs_on_it(stubs: Stubs) -> None:
    lease = await grant(stubs)
    await stubs.kv.PutKey(kv_pb2.PutKeyRequest(key=b"k", lease_id=lease))
    for number in range(2):
        acquire = locks_pb2.AcquireLockRequest(
            name=f"l{number}", lease_id=lease, claimant="me"
        )
        await stubs.locks.AcquireLock(acquire)
    campaign = elections_pb2.CampaignRequest(name="e", lease_id=lease, claimant="me")
    await stubs.elections.Campaign(campaign)
    enqueue = queues_pb2.EnqueueJobsRequest(jobs=[txn_pb2.JobSpec(queue="q")])
    job = (await stubs.queues.EnqueueJobs(enqueue)).jobs[0].job_id
    reserve = queues_pb2.ReserveJobsRequest(
        lease_id=lease, queues=[queues_pb2.QueueWeight(queue="q")], wait_ms=0
    )
    await stubs.queues.ReserveJobs(reserve)
    found = (
        await stubs.leases.GetLease(leases_pb2.GetLeaseRequest(lease_id=lease))
    ).lease
    assert found.attachments == 5
    assert list(found.keys) == [b"k"]
    assert list(found.locks) == ["l0", "l1"]
    assert list(found.elections) == ["e"]
    assert list(found.jobs) == [job]
    revoked = await stubs.leases.RevokeLease(
        leases_pb2.RevokeLeaseRequest(lease_id=lease)
    )
    assert revoked.attachments == 5
    key = await stubs.kv.GetKey(kv_pb2.GetKeyRequest(key=b"k"))
    assert not key.found


async def test_a_lease_that_never_was(stubs: Stubs) -> None:
    for call in (
        stubs.leases.RevokeLease(leases_pb2.RevokeLeaseRequest(lease_id=99)),
        stubs.leases.GetLease(leases_pb2.GetLeaseRequest(lease_id=99)),
    ):
        assert (await refusal_of(call)).reason == "NOT_FOUND"


async def test_leases_page_by_page(stubs: Stubs) -> None:
    leases = [await grant(stubs) for _ in range(3)]
    first = await stubs.leases.ListLeases(leases_pb2.ListLeasesRequest(limit=2))
    assert [lease.lease_id for lease in first.leases] == leases[:2]
    assert first.more
    rest = await stubs.leases.ListLeases(
        leases_pb2.ListLeasesRequest(after_lease_id=leases[1])
    )
    assert [lease.lease_id for lease in rest.leases] == leases[2:]
    assert not rest.more


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (
            leases_pb2.GrantLeaseRequest(ttl_ms=999),
            "a ttl of 999 ms is not within 1000 to 86400000 ms",
        ),
        (
            leases_pb2.GrantLeaseRequest(ttl_ms=86_400_001),
            "a ttl of 86400001 ms is not within 1000 to 86400000 ms",
        ),
        (
            leases_pb2.GrantLeaseRequest(ttl_ms=1000, claimant="c" * 257),
            "the claimant is 257, over the limit of 256 (claimant_bytes_max)",
        ),
        (leases_pb2.RevokeLeaseRequest(), "the lease id is missing or 0"),
        (leases_pb2.KeepAliveLeaseRequest(), "the lease id is missing or 0"),
        (leases_pb2.GetLeaseRequest(), "the lease id is missing or 0"),
    ],
)
async def test_a_bad_request_is_refused_and_never_proposed(
    stubs: Stubs, node: SoloNode, request_: object, sentence: str
) -> None:
    method = getattr(stubs.leases, type(request_).__name__.removesuffix("Request"))
    refused = await refusal_of(method(request_))
    assert (refused.sentence, refused.applied) == (sentence, "no")
    assert node.writes == []


# --- sessions ----------------------------------------------------------------------


async def test_the_same_key_finds_the_same_session(stubs: Stubs) -> None:
    request = sessions_pb2.OpenSessionRequest(session_key=KEY)
    first = await stubs.sessions.OpenSession(request)
    again = await stubs.sessions.OpenSession(request)
    assert (first.is_new, again.is_new) == (True, False)
    assert again.session_id == first.session_id
    assert first.ttl_ms == 10_000


async def test_the_key_itself_is_not_in_the_log(stubs: Stubs, node: SoloNode) -> None:
    await open_session(stubs)
    assert KEY not in repr(node.writes[0].command).encode()


@pytest.mark.parametrize("size", [0, 15, 17])
async def test_a_session_key_has_sixteen_bytes(stubs: Stubs, size: int) -> None:
    key = b"k" * size
    for call in (
        stubs.sessions.OpenSession(sessions_pb2.OpenSessionRequest(session_key=key)),
        stubs.sessions.CloseSession(
            sessions_pb2.CloseSessionRequest(session_id=1, session_key=key)
        ),
    ):
        refused = await refusal_of(call)
        assert refused.reason == "INVALID_REQUEST"
        assert refused.sentence == f"a session key has 16 bytes, not {size}"


async def test_closing_ends_the_claims_at_once(stubs: Stubs) -> None:
    session = await open_session(stubs)
    await stubs.kv.PutKey(kv_pb2.PutKeyRequest(key=b"k", lease_id=session))
    close = sessions_pb2.CloseSessionRequest(session_id=session, session_key=KEY)
    await stubs.sessions.CloseSession(close)
    assert not (await stubs.kv.GetKey(kv_pb2.GetKeyRequest(key=b"k"))).found


async def test_a_session_is_renewed_with_its_key_only(stubs: Stubs) -> None:
    session = await open_session(stubs)
    wrong = leases_pb2.KeepAliveLeaseRequest(lease_id=session, session_key=b"x" * 16)
    assert (await refusal_of(stubs.leases.KeepAliveLease(wrong))).reason == "DENIED"
    right = leases_pb2.KeepAliveLeaseRequest(lease_id=session, session_key=KEY)
    assert (await stubs.leases.KeepAliveLease(right)).ttl_ms == 10_000


# --- unary writes of a session -------------------------------------------------------


def count(number: int, session: int, key: bytes = KEY) -> kv_pb2.IncrementKeyRequest:
    write = common_pb2.WriteHeader(session_id=session, session_key=key, number=number)
    return kv_pb2.IncrementKeyRequest(write=write, key=b"n", by=1)


async def test_a_numbered_unary_write_counts_once(stubs: Stubs) -> None:
    session = await open_session(stubs)
    for _ in range(2):
        assert (await stubs.kv.IncrementKey(count(1, session))).value == 1
    assert (await stubs.kv.IncrementKey(count(2, session))).value == 2


async def test_a_session_needs_its_key_in_every_call(stubs: Stubs) -> None:
    session = await open_session(stubs)
    refused = await refusal_of(stubs.kv.IncrementKey(count(1, session, b"")))
    assert refused.sentence == "a session key has 16 bytes, not 0"
    refused = await refusal_of(stubs.kv.IncrementKey(count(1, session, b"x" * 16)))
    assert refused.reason == "DENIED"


async def test_a_number_comes_with_its_session(stubs: Stubs) -> None:
    refused = await refusal_of(stubs.kv.IncrementKey(count(1, 0, b"")))
    assert refused.sentence == "a number or a session key comes with its session"


async def test_an_unknown_session_leaves_the_outcome_open(stubs: Stubs) -> None:
    refused = await refusal_of(stubs.kv.IncrementKey(count(1, 404)))
    assert (refused.reason, refused.applied) == ("SESSION_UNKNOWN", "unknown")


async def test_a_closed_session_refuses_new_numbers(
    stubs: Stubs, node: SoloNode
) -> None:
    session = await open_session(stubs)
    await stubs.kv.IncrementKey(count(1, session))
    node.advance(10_000)
    assert (await stubs.kv.IncrementKey(count(1, session))).value == 1
    refused = await refusal_of(stubs.kv.IncrementKey(count(2, session)))
    assert (refused.reason, refused.applied) == ("SESSION_EXPIRED", "no")
