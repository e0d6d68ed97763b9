"""Transactions through real unary calls."""

from __future__ import annotations

import pytest

from raftpb.v1 import kv_pb2, leases_pb2, locks_pb2, queues_pb2, txn_pb2
from tests.api.clients import Stubs, refusal_of
from tests.api.solo_node import SoloNode

Compare = txn_pb2.Compare
Op = txn_pb2.Op


def put(key: bytes, value: bytes = b"v") -> Op:
    return Op(put=txn_pb2.PutOp(key=key, value=value))


async def transact(
    stubs: Stubs,
    *then: Op,
    compares: tuple[Compare, ...] = (),
    orelse: tuple[Op, ...] = (),
) -> txn_pb2.TransactResponse:
    request = txn_pb2.TransactRequest(compares=compares, then_ops=then, else_ops=orelse)
    answer = await stubs.txn.Transact(request)
    assert isinstance(answer, txn_pb2.TransactResponse)
    return answer


async def test_every_kind_of_operation_has_its_result(stubs: Stubs) -> None:
    lease = (
        await stubs.leases.GrantLease(leases_pb2.GrantLeaseRequest(ttl_ms=5000))
    ).lease_id
    acquire = locks_pb2.AcquireLockRequest(name="l", lease_id=lease, claimant="me")
    token = (await stubs.locks.AcquireLock(acquire)).token
    answer = await transact(
        stubs,
        put(b"a", b"1"),
        Op(get=txn_pb2.GetOp(key=b"a")),
        Op(get=txn_pb2.GetOp(key=b"missing")),
        Op(increment=txn_pb2.IncrementOp(key=b"n", by=3)),
        Op(delete=txn_pb2.DeleteOp(key=b"a", want_previous=True)),
        put(b"r1"),
        Op(delete_range=txn_pb2.DeleteRangeOp(start=b"r", end=b"s")),
        Op(release_lock=txn_pb2.ReleaseLockOp(name="l", token=token)),
        Op(enqueue=txn_pb2.EnqueueOp(jobs=[txn_pb2.JobSpec(queue="q")])),
    )
    assert answer.succeeded
    kinds = [result.WhichOneof("result") for result in answer.results]
    assert kinds == [
        "put",
        "get",
        "get",
        "increment",
        "delete",
        "put",
        "delete",
        "done",
        "enqueue",
    ]
    results = answer.results
    revision = results[0].put.mod_rev
    assert results[1].get.key_value.value == b"1"
    assert not results[2].get.found
    assert (results[3].increment.value, results[3].increment.mod_rev) == (3, revision)
    assert results[4].delete.previous.value == b"1"
    assert results[6].delete.deleted == 1
    job = results[8].enqueue.job_ids[0]
    found = await stubs.queues.GetJob(queues_pb2.GetJobRequest(job_id=job))
    assert found.job.state == queues_pb2.JOB_STATE_READY


@pytest.mark.parametrize(
    ("compare", "holds"),
    [
        (Compare(target=Compare.TARGET_VALUE, key=b"k", value=b"v"), True),
        (
            Compare(
                target=Compare.TARGET_VALUE,
                operator=Compare.OPERATOR_LESS,
                key=b"k",
                value=b"a",
            ),
            False,
        ),
        (Compare(target=Compare.TARGET_VERSION, key=b"k", number=1), True),
        (
            Compare(
                target=Compare.TARGET_VERSION,
                operator=Compare.OPERATOR_GREATER,
                key=b"k",
                number=1,
            ),
            False,
        ),
        (Compare(target=Compare.TARGET_EXISTS, key=b"k", number=1), True),
        (
            Compare(
                target=Compare.TARGET_EXISTS,
                operator=Compare.OPERATOR_NOT_EQUAL,  # means nothing here
                key=b"k",
                number=1,
            ),
            True,
        ),
        (Compare(target=Compare.TARGET_EXISTS, key=b"none", number=1), False),
        (Compare(target=Compare.TARGET_LEASE_ALIVE, number=99), False),
        (Compare(target=Compare.TARGET_LOCK_HELD, name="l", number=99), False),
        (Compare(target=Compare.TARGET_LEADERSHIP_HELD, name="e", number=9), False),
        (Compare(target=Compare.TARGET_RESERVATION_HELD, job_id=9, number=9), False),
        (Compare(target=Compare.TARGET_QUEUE_DEPTH, name="q", number=0), True),
    ],
)
async def test_a_compare_decides_which_branch_runs(
    stubs: Stubs, compare: Compare, holds: bool
) -> None:
    await stubs.kv.PutKey(kv_pb2.PutKeyRequest(key=b"k", value=b"v"))
    answer = await transact(
        stubs, put(b"then"), compares=(compare,), orelse=(put(b"else"),)
    )
    assert answer.succeeded is holds
    for key, is_there in ((b"then", holds), (b"else", not holds)):
        found = await stubs.kv.GetKey(kv_pb2.GetKeyRequest(key=key))
        assert found.found is is_there


async def test_a_refused_operation_refuses_all_and_says_which(stubs: Stubs) -> None:
    late = Op(release_lock=txn_pb2.ReleaseLockOp(name="l", token=5))
    refused = await refusal_of(transact(stubs, put(b"a"), late))
    assert refused.metadata["op"] == "1"
    assert refused.sentence.startswith("operation 1 of the transaction: ")
    assert not (await stubs.kv.GetKey(kv_pb2.GetKeyRequest(key=b"a"))).found


async def test_the_door_and_the_state_name_operations_in_the_same_words(
    stubs: Stubs, node: SoloNode
) -> None:
    at_door = await refusal_of(transact(stubs, put(b"a"), put(b"")))
    assert node.writes == []
    condition = Op(put=txn_pb2.PutOp(key=b"a", if_mod_rev=9))
    in_state = await refusal_of(transact(stubs, put(b"b"), condition))
    for refused in (at_door, in_state):
        assert refused.sentence.startswith("operation 1 of the transaction: ")
        assert refused.metadata["op"] == "1"


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (
            txn_pb2.TransactRequest(then_ops=[put(b"k")] * 129),
            "the number of operations is 129, over the limit of 128 (txn_ops_max)",
        ),
        (
            txn_pb2.TransactRequest(else_ops=[put(b"k")] * 129),
            "the number of operations is 129, over the limit of 128 (txn_ops_max)",
        ),
        (
            txn_pb2.TransactRequest(
                compares=[Compare(target=Compare.TARGET_VALUE, key=b"k")] * 129
            ),
            "the number of compares is 129, over the limit of 128 (txn_ops_max)",
        ),
        (
            txn_pb2.TransactRequest(then_ops=[Op()]),
            "operation 0 of the transaction: it is none that this version knows",
        ),
        (
            txn_pb2.TransactRequest(compares=[Compare(key=b"k")]),
            "0 is no CompareTarget",
        ),
        (
            txn_pb2.TransactRequest(compares=[Compare(target=Compare.TARGET_VALUE)]),
            "a key has at least one byte",
        ),
        (
            txn_pb2.TransactRequest(
                compares=[Compare(target=Compare.TARGET_LOCK_HELD, number=1)]
            ),
            "the name of a lock is empty",
        ),
    ],
)
async def test_a_bad_transaction_is_refused_and_never_proposed(
    stubs: Stubs, node: SoloNode, request_: txn_pb2.TransactRequest, sentence: str
) -> None:
    refused = await refusal_of(stubs.txn.Transact(request_))
    assert (refused.sentence, refused.applied) == (sentence, "no")
    assert node.writes == []
