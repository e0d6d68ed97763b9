"""Transactions: what is built, and what comes back."""

from __future__ import annotations

import pytest

from raftclient import (
    Done,
    Enqueued,
    JobSpec,
    KeyValue,
    Operator,
    Put,
    Removed,
    Sum,
    aio,
    txn,
)
from raftclient.results import results_from_wire
from raftpb.v1 import kv_pb2, txn_pb2
from tests.client.fake_server import FakeCluster

C = txn_pb2.Compare


@pytest.mark.parametrize(
    ("made", "wire"),
    [
        (
            txn.value("k", "v", Operator.NOT_EQUAL),
            C(
                target=C.TARGET_VALUE,
                operator=C.OPERATOR_NOT_EQUAL,
                key=b"k",
                value=b"v",
            ),
        ),
        (
            txn.version("k", 3, Operator.LESS),
            C(
                target=C.TARGET_VERSION,
                operator=C.OPERATOR_LESS,
                key=b"k",
                number=3,
            ),
        ),
        (
            txn.exists("k"),
            C(
                target=C.TARGET_EXISTS,
                operator=C.OPERATOR_EQUAL,
                key=b"k",
                number=1,
            ),
        ),
        (
            txn.missing("k"),
            C(target=C.TARGET_EXISTS, operator=C.OPERATOR_EQUAL, key=b"k"),
        ),
        (
            txn.lock_held("l", 9),
            C(target=C.TARGET_LOCK_HELD, name="l", number=9),
        ),
        (
            txn.leadership_held("e", 9),
            C(target=C.TARGET_LEADERSHIP_HELD, name="e", number=9),
        ),
        (
            txn.reservation_held(7, 9),
            C(target=C.TARGET_RESERVATION_HELD, job_id=7, number=9),
        ),
        (
            txn.queue_depth("q", 9, Operator.GREATER),
            C(
                target=C.TARGET_QUEUE_DEPTH,
                operator=C.OPERATOR_GREATER,
                name="q",
                number=9,
            ),
        ),
        (txn.lease_alive(5), C(target=C.TARGET_LEASE_ALIVE, number=5)),
    ],
)
def test_compares_become_messages(made: txn.Compare, wire: C) -> None:
    assert made.wire == wire


async def test_a_transaction_carries_its_branches_in_order(
    cluster: FakeCluster, client: aio.Client
) -> None:
    result = await (
        client.txn()
        .when(txn.exists("a"), txn.missing("b"))
        .then(
            txn.put("a", "1", if_mod_rev=0),
            txn.delete("b"),
            txn.delete_range(prefix="c"),
            txn.increment("n", 2),
            txn.get("a"),
        )
        .then(
            txn.release_lock("l", 1),
            txn.proclaim("e", 2, "v"),
            txn.resign("e", 2),
            txn.enqueue("q", JobSpec("x"), JobSpec("y", priority=0)),
            txn.complete(3, 4, "r"),
            txn.fail(5, 6, "why", retry_in_s=1.5, fatal=True),
        )
        .otherwise(txn.get("b"))
        .commit()
    )
    assert result.results == ()
    (body,) = cluster.state.of_kind("transact")
    assert len(body.compares) == 2
    kinds = [op.WhichOneof("op") for op in body.then_ops]
    assert kinds == [
        "put",
        "delete",
        "delete_range",
        "increment",
        "get",
        "release_lock",
        "proclaim",
        "resign",
        "enqueue",
        "complete",
        "fail",
    ]
    assert [op.WhichOneof("op") for op in body.else_ops] == ["get"]
    assert body.then_ops[0].put.HasField("if_mod_rev")
    assert [job.queue for job in body.then_ops[8].enqueue.jobs] == ["q", "q"]
    failed = body.then_ops[10].fail
    assert (failed.retry_in_ms, failed.fatal) == (1500, True)


def test_results_are_told_apart() -> None:
    key = kv_pb2.KeyValue(key=b"k", value=b"v", mod_rev=3, create_rev=1, version=2)
    wire = [
        txn_pb2.OpResult(put=txn_pb2.PutOpResult(mod_rev=5, previous=key)),
        txn_pb2.OpResult(delete=txn_pb2.DeleteOpResult(deleted=2)),
        txn_pb2.OpResult(increment=txn_pb2.IncrementOpResult(value=-4, mod_rev=5)),
        txn_pb2.OpResult(get=txn_pb2.GetOpResult(found=True, key_value=key)),
        txn_pb2.OpResult(get=txn_pb2.GetOpResult()),
        txn_pb2.OpResult(
            enqueue=txn_pb2.EnqueueOpResult(job_ids=[8, 9], existed=[False, True])
        ),
        txn_pb2.OpResult(done=txn_pb2.DoneOpResult()),
    ]
    found = KeyValue(b"k", b"v", create_rev=1, mod_rev=3, version=2)
    assert results_from_wire(wire) == (
        Put(5, found),
        Removed(2, None),
        Sum(-4, 5),
        found,
        None,
        Enqueued((8, 9), (False, True)),
        Done(),
    )
