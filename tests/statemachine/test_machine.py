"""The machine: the order within an entry, and what must stop a node."""

import msgspec
import pytest

from raftd.statemachine.answers import Marked
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Reason
from raftd.statemachine.schema.entry import MarkEntry, encode_batch, seal
from raftd.statemachine.schema.kv import IncrementKey, KeyPut, PutKey
from tests.statemachine.harness import Harness, refusal


def test_an_empty_payload_moves_the_applied_index_and_nothing_else() -> None:
    harness = Harness()
    harness.do(PutKey(b"a", b"1"))
    before = harness.save()
    applied = harness.apply(b"")
    assert (applied.answers, applied.record) == ([], None)
    assert harness.machine.applied_index == 3
    assert harness.save() == before


def test_entries_come_in_order_without_a_gap() -> None:
    machine = Machine()
    with pytest.raises(AssertionError):
        machine.apply(2, b"")


def test_answers_and_revisions_are_aligned_with_the_requests() -> None:
    harness = Harness()
    applied = harness.entry(
        PutKey(b"a", b"1"), PutKey(b"a", b"2", if_mod_rev=9), PutKey(b"b", b"1")
    )
    assert applied.answers[0] == KeyPut(1)
    assert refusal(applied.answers[1]) is Reason.PRECONDITION
    assert applied.answers[2] == KeyPut(2)
    assert applied.revisions == [1, 1, 2]


def test_stamps_that_fall_stand_still() -> None:
    harness = Harness()
    lease = harness.grant(ttl_ms=5000)
    deadline_ms = harness.machine.leases.deadline_ms(lease)
    harness.entry(renewals=(lease,), after_ms=-500)
    assert harness.machine.context.now_ms == 1000
    assert harness.machine.context.wall_ms == 5000
    assert harness.machine.leases.deadline_ms(lease) == deadline_ms


def test_a_mark_asks_for_a_checkpoint_before_the_next_entry() -> None:
    harness = Harness()
    applied = harness.entry(PutKey(b"a", b"1"), MarkEntry(0, b"", 0))
    assert applied.mark == MarkEntry(0, b"", 0)
    assert applied.answers == [KeyPut(1), Marked()]
    with pytest.raises(AssertionError, match="checkpoint"):
        harness.entry()
    harness.write(harness.machine.take_checkpoint())
    assert harness.machine.digest_index == 1
    harness.entry()


def test_a_checkpoint_is_taken_at_a_mark_only() -> None:
    harness = Harness()
    harness.entry()
    with pytest.raises(AssertionError, match="mark"):
        harness.machine.take_checkpoint()


def test_a_checkpoint_holds_only_what_changed_since_the_last() -> None:
    harness = Harness()
    harness.do(PutKey(b"a", b"1"))
    harness.save()
    harness.do(PutKey(b"b", b"1"))
    keys = [key for table, key, _ in harness.mark().rows() if table == 30]
    assert keys == [b"b" + (2).to_bytes(8, "big")]


@pytest.mark.parametrize(
    "payload",
    [
        b"\xc1",
        msgspec.msgpack.encode((0, 0, (), [(0, 0, 0, 0, (), (9999, b"a"))])),
        msgspec.msgpack.encode((0, 0, (), [(0, 0, 0, 0, (), (34, b"a"))])),
        msgspec.msgpack.encode(
            (0, 0, (), [(0, 0, 0, 0, (), (30, b"a", b"", 0, None, False, "new"))])
        ),
        encode_batch(0, 0, (), [seal(0, 0, 0, PutKey(b"a", b""))])[:-1],
    ],
    ids=["no msgpack", "unknown tag", "only within a transaction", "surplus", "torn"],
)
def test_an_entry_that_cannot_be_read_stops_the_node(payload: bytes) -> None:
    machine = Machine()
    with pytest.raises(msgspec.DecodeError):
        machine.apply(1, payload)
    assert machine.applied_index == 0


def test_a_row_that_cannot_be_read_stops_the_load() -> None:
    harness = Harness()
    harness.do(IncrementKey(b"n", 1))
    harness.save()
    for place in list(harness.disk):
        if place[0] == 40:
            harness.disk[place] = b"\xc1"
    with pytest.raises(msgspec.DecodeError):
        harness.reload()
    harness.disk.clear()
    harness.disk[9999, b"a"] = b""
    with pytest.raises(ValueError, match="9999"):
        harness.reload()
