"""Transactions and fences: all of it at one revision, or nothing."""

import pytest

from raftd.statemachine.limits import Limits
from raftd.statemachine.schema.base import Fence, FenceKind, Reason, Refusal
from raftd.statemachine.schema.kv import (
    DeleteKey,
    DeleteRange,
    GetKey,
    IncrementKey,
    KeyGot,
    KeyIncremented,
    KeyPut,
    KeyValue,
    PutKey,
)
from raftd.statemachine.schema.txn import (
    Compare,
    CompareOp,
    CompareTarget,
    Transact,
    Transacted,
)
from tests.statemachine.harness import Harness, refusal


def _branch(harness: Harness, *compares: Compare) -> bool:
    answer = harness.do(Transact(compares, (GetKey(b"a"),)))
    assert isinstance(answer, Transacted)
    return answer.has_succeeded


def test_operations_see_earlier_ones_and_share_one_revision() -> None:
    harness = Harness()
    answer = harness.do(
        Transact(
            (),
            (
                IncrementKey(b"n", 1),
                IncrementKey(b"n", 1),
                PutKey(b"a", b"x"),
                GetKey(b"n"),
            ),
        )
    )
    assert answer == Transacted(
        True,
        (
            KeyIncremented(1, 1),
            KeyIncremented(2, 1),
            KeyPut(1),
            KeyGot(KeyValue(b"n", b"2", 1, 1, 2, 0)),
        ),
    )
    assert harness.machine.revision == 1


def test_the_other_branch_runs_when_a_compare_fails() -> None:
    harness = Harness()
    compares = (Compare(CompareTarget.EXISTS, key=b"a", number=1),)
    command = Transact(compares, (PutKey(b"b", b"then"),), (PutKey(b"b", b"else"),))
    answer = harness.do(command)
    assert isinstance(answer, Transacted)
    assert not answer.has_succeeded
    assert harness.value(b"b") == b"else"


@pytest.mark.parametrize(
    "last",
    [
        PutKey(b"z", b"", if_mod_rev=99),
        IncrementKey(b"text", 1),
        PutKey(b"", b""),
        PutKey(b"z", b"", lease=77),
    ],
)
def test_a_refused_operation_refuses_the_whole_and_leaves_nothing(
    last: PutKey | IncrementKey,
) -> None:
    harness = Harness()
    lease = harness.grant()
    harness.do(PutKey(b"text", b"x", lease=lease))
    harness.do(PutKey(b"old", b"1"))
    harness.do(DeleteKey(b"old"))
    before = harness.save()
    view = harness.machine.leases.view(lease)
    answer = harness.do(
        Transact(
            (),
            (
                PutKey(b"new", b"1", lease=lease),
                PutKey(b"old", b"2"),
                DeleteKey(b"old"),
                PutKey(b"old", b"3"),
                DeleteRange(b"", b""),
                PutKey(b"text", b"y"),
                last,
            ),
        )
    )
    assert isinstance(answer, Refusal)
    assert answer.details["op"] == "6"
    assert "operation 6" in answer.sentence
    assert harness.save() == before
    assert harness.machine.leases.view(lease) == view
    assert harness.reload().save() == before


def test_the_number_of_operations_is_bounded() -> None:
    harness = Harness(Limits(txn_ops_max=2))
    answer = harness.do(Transact((), (GetKey(b"a"),) * 3))
    assert refusal(answer) is Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("compare", "holds"),
    [
        (Compare(CompareTarget.VALUE, key=b"a", value=b"v"), True),
        (Compare(CompareTarget.VALUE, CompareOp.LESS, key=b"a", value=b"w"), True),
        (Compare(CompareTarget.VALUE, CompareOp.GREATER, key=b"a", value=b"w"), False),
        (Compare(CompareTarget.VALUE, key=b"none", value=b""), False),
        (
            Compare(CompareTarget.VALUE, CompareOp.NOT_EQUAL, key=b"none", value=b""),
            True,
        ),
        (Compare(CompareTarget.VERSION, key=b"a", number=2), True),
        (Compare(CompareTarget.VERSION, key=b"none", number=0), True),
        (Compare(CompareTarget.CREATE_REV, key=b"a", number=3), True),
        (Compare(CompareTarget.MOD_REV, CompareOp.GREATER, b"a", number=3), True),
        (Compare(CompareTarget.MOD_REV, CompareOp.NOT_EQUAL, b"a", number=4), False),
        (Compare(CompareTarget.LEASE, key=b"a", number=2), True),
        (Compare(CompareTarget.EXISTS, key=b"a", number=1), True),
        (Compare(CompareTarget.EXISTS, key=b"none", number=1), False),
        (Compare(CompareTarget.LEASE_ALIVE, number=2), True),
        (Compare(CompareTarget.LEASE_ALIVE, number=3), False),
        (Compare(CompareTarget.LOCK_HELD, name="l", number=3), False),
        (Compare(CompareTarget.LEADERSHIP_HELD, name="e", number=3), False),
        (Compare(CompareTarget.RESERVATION_HELD, job=1, number=3), False),
        (Compare(CompareTarget.QUEUE_DEPTH, CompareOp.LESS, name="q", number=1), True),
    ],
)
def test_compares(compare: Compare, holds: bool) -> None:
    harness = Harness()
    lease = harness.grant()
    harness.do(PutKey(b"a", b"u"))
    harness.do(PutKey(b"a", b"v", lease=lease))
    assert _branch(harness, compare) is holds


def test_all_compares_must_hold() -> None:
    harness = Harness()
    exists = Compare(CompareTarget.EXISTS, key=b"a", number=1)
    absent = Compare(CompareTarget.EXISTS, key=b"a", number=0)
    assert _branch(harness, absent)
    assert not _branch(harness, absent, exists)


def test_a_fenced_write_applies_only_while_its_lease_is_alive() -> None:
    harness = Harness()
    lease = harness.grant(ttl_ms=5000)
    fence = Fence(FenceKind.LEASE, "", lease)
    assert isinstance(harness.do(PutKey(b"a", b"1"), fence), KeyPut)
    harness.entry(after_ms=5000)
    assert refusal(harness.do(PutKey(b"a", b"2"), fence)) is Reason.LEASE_EXPIRED
    assert harness.value(b"a") == b"1"


@pytest.mark.parametrize(
    "fence",
    [
        Fence(FenceKind.LOCK, "l", 5),
        Fence(FenceKind.ELECTION, "e", 5),
        Fence(FenceKind.RESERVATION, "", 5, job=3),
    ],
)
def test_a_token_that_nobody_holds_fences_and_says_what_is_current(
    fence: Fence,
) -> None:
    harness = Harness()
    refused = harness.do(PutKey(b"a", b""), fence)
    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.FENCED
    assert refused.details == {"token": "5", "current": "0"}
    assert harness.value(b"a") is None
