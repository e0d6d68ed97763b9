"""Transactions are read strictly: what is not understood is never left out."""

from __future__ import annotations

from typing import Any

import pytest

from raftclient import txn
from raftctl.txn_json import TxnError, compare_of, op_of


@pytest.mark.parametrize(
    ("item", "wanted"),
    [
        ({"key": "a", "value": "x"}, txn.value("a", "x")),
        (
            {"key": "a", "value": {"b64": "/w=="}, "op": "!="},
            txn.value("a", b"\xff", txn.Operator.NOT_EQUAL),
        ),
        ({"key": "a", "exists": True}, txn.exists("a")),
        ({"key": "a", "exists": False}, txn.missing("a")),
        ({"key": "a", "version": 3}, txn.version("a", 3)),
        ({"key": "a", "create_rev": 3}, txn.create_rev("a", 3)),
        ({"key": "a", "mod_rev": 0}, txn.mod_rev("a", 0)),
        ({"key": "a", "lease": 9}, txn.lease("a", 9)),
        ({"lease_alive": 9}, txn.lease_alive(9)),
        ({"lock": "l", "token": 9}, txn.lock_held("l", 9)),
        ({"election": "e", "epoch": 9}, txn.leadership_held("e", 9)),
        ({"job": 1, "token": 9}, txn.reservation_held(1, 9)),
        (
            {"queue": "q", "depth": 9, "op": "<"},
            txn.queue_depth("q", 9, txn.Operator.LESS),
        ),
    ],
)
def test_a_compare_is_read(item: dict[str, Any], wanted: txn.Compare) -> None:
    assert compare_of(item) == wanted


@pytest.mark.parametrize(
    ("item", "wanted"),
    [
        ({"put": "a", "value": "x"}, txn.put("a", "x")),
        (
            {"put": "a", "value": "x", "lease": 4, "if_rev": 0, "previous": True},
            txn.put("a", "x", lease=4, if_mod_rev=0, want_previous=True),
        ),
        ({"get": "a"}, txn.get("a")),
        ({"delete": "a", "if_rev": 2}, txn.delete("a", if_mod_rev=2)),
        ({"delete_prefix": "a/"}, txn.delete_range(prefix="a/")),
        ({"incr": "a"}, txn.increment("a")),
        ({"incr": "a", "by": -3}, txn.increment("a", -3)),
        ({"release_lock": "l", "token": 9}, txn.release_lock("l", 9)),
        ({"proclaim": "e", "epoch": 9, "value": "v"}, txn.proclaim("e", 9, "v")),
        ({"resign": "e", "epoch": 9}, txn.resign("e", 9)),
        ({"complete": 1, "token": 9, "result": "r"}, txn.complete(1, 9, "r")),
        (
            {"fail": 1, "token": 9, "error": "e", "retry_in_s": 2, "fatal": True},
            txn.fail(1, 9, "e", retry_in_s=2.0, fatal=True),
        ),
    ],
)
def test_an_operation_is_read(item: dict[str, Any], wanted: txn.Op) -> None:
    assert op_of(item) == wanted


def test_an_enqueue_is_read_with_its_options() -> None:
    op = op_of(
        {
            "enqueue": "q",
            "payload": "x",
            "type": "mail",
            "priority": 0,
            "delay_s": 1.5,
            "id": "once",
            "group": "g",
        }
    )
    (job,) = op.wire.enqueue.jobs
    assert (job.queue, job.payload, job.type) == ("q", b"x", "mail")
    assert (job.priority, job.delay_ms) == (0, 1500)
    assert (job.client_id, job.group) == ("once", "g")


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ({}, "is no operation"),
        ({"putt": "a"}, "is no operation"),
        ({"put": "a"}, '"put" needs "value"'),
        ({"put": "a", "value": 1}, '"value" must be a text or'),
        ({"put": "a", "value": {"b64": "%"}}, "not base64"),
        ({"put": "a", "value": "x", "ttl": 3}, '"ttl" is not understood'),
        ({"put": "a", "get": "a", "value": "x"}, "more than one operation"),
        ({"put": "a", "value": "x", "if_rev": -1}, "must not be negative"),
        ({"put": "a", "value": "x", "previous": 1}, "must be true or false"),
        ({"incr": "a", "by": True}, '"by" must be a whole number'),
        ({"incr": "a", "by": 2**63}, '"by" must fit 64 bits'),
        ({"complete": "1", "token": 2}, '"complete" must be a whole number'),
        ({"fail": 1, "token": 2, "retry_in_s": "x"}, '"retry_in_s" must be seconds'),
    ],
)
def test_a_bad_operation_is_refused_with_a_sentence(
    item: dict[str, Any], said: str
) -> None:
    with pytest.raises(TxnError) as refused:
        op_of(item)
    assert said in str(refused.value)


def test_a_bad_operator_is_refused() -> None:
    with pytest.raises(TxnError, match='"op" must be'):
        compare_of({"key": "a", "version": 1, "op": ">="})
