"""Requests on their way: order, bounds, who is told, and who has left."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from raftd.node.batches import Batches
from raftd.node.settings import ReplicaSettings
from raftd.statemachine.schema.kv import PutKey
from raftd.statemachine.schema.leases import GrantLease, LeaseGranted
from raftd.statemachine.schema.locks import (
    AcquireLock,
    LockGranted,
    LockMode,
    ReleaseLock,
)
from tests.node.lone import Inbox, Lone


def _raw(size: int) -> msgspec.Raw:
    return msgspec.Raw(b"x" * size)


def test_first_come_first_taken_within_count_and_bytes() -> None:
    batches = Batches(ReplicaSettings(batch_requests_max=2, batch_bytes_max=10))
    sink = Inbox()
    for tag, size in enumerate((3, 3, 3, 11, 1)):
        assert batches.add(_raw(size), (sink, tag))
    taken = []
    while batches.is_due(0):
        _, targets, _, _ = batches.take()
        taken.append([tag for _, tag in targets])
    assert taken == [[0, 1], [2], [3], [4]]


def test_what_is_too_much_is_not_queued_and_room_comes_back() -> None:
    batches = Batches(ReplicaSettings(queued_requests_max=2, queued_bytes_max=10))
    sink = Inbox()
    assert batches.add(_raw(6), (sink, 0))
    assert not batches.add(_raw(5), (sink, 1))
    assert batches.add(_raw(1), (sink, 2))
    assert not batches.add(_raw(1), (sink, 3))
    assert [tag for _, tag in batches.drop_queued()] == [0, 2]
    assert batches.add(_raw(10), (sink, 4))


def test_renewals_wait_for_company_and_count_once() -> None:
    batches = Batches(ReplicaSettings(renewal_delay_ms=100))
    told: list[Sequence[int] | None] = []
    batches.add_renewals([7, 8], told.append, 1000)
    batches.add_renewals([8, 9], told.append, 1090)
    assert not batches.is_due(1099)
    assert batches.is_due(1100)
    _, _, renewals, renewed = batches.take()
    assert renewals == (7, 8, 9)
    assert len(renewed) == 2
    batches.add_renewals([7], told.append, 1200)
    batches.drop_queued()
    assert told == [None]


def test_an_entry_is_settled_once_whatever_stands_at_its_index() -> None:
    batches = Batches(ReplicaSettings(batches_in_flight_max=1))
    sink = Inbox()
    batches.note_proposed(5, 1, [(sink, 0)], [])
    assert not batches.may_propose_more
    batches.start_term()
    batches.note_proposed(5, 3, [(sink, 1)], [])
    assert [hit.term for hit in batches.settle(5, 3)] == [1, 3]
    assert batches.is_idle
    assert batches.settle(5, 3) == []
    assert batches.take_lost(5, 1) is None


def test_who_left_is_remembered_until_all_of_its_requests_are_settled() -> None:
    batches = Batches(ReplicaSettings(batch_requests_max=1))
    gone = Inbox()
    batches.add(_raw(1), (gone, 0))
    batches.add(_raw(1), (gone, 1))
    for index in (1, 2):
        _, targets, _, _ = batches.take()
        batches.note_proposed(index, 1, targets, [])
    batches.forget(gone)
    (first,) = batches.settle(1, 1)
    batches.note_answered(first)
    assert batches.is_gone(gone)
    (second,) = batches.settle(2, 1)
    batches.note_answered(second)
    assert not batches.is_gone(gone)
    batches.forget(gone)
    assert not batches.is_gone(gone), "nothing is on its way: nothing to remember"


def _granted(lone: Lone, ttl_ms: int = 60_000) -> int:
    answer = lone.do(GrantLease(ttl_ms, "test"))
    assert isinstance(answer, LeaseGranted)
    return answer.lease


def test_a_wait_of_a_sink_that_left_before_its_entry_came_leaves_nothing() -> None:
    lone = Lone()
    lone.lead()
    holder, waiter = _granted(lone), _granted(lone)
    held = lone.do(AcquireLock("l", holder, "a", LockMode.EXCLUSIVE))
    assert isinstance(held, LockGranted)
    stays, leaves = Inbox(), Inbox()
    wait = AcquireLock("l", waiter, "b", LockMode.EXCLUSIVE, wait_ms=None)
    lone.submit(wait, leaves)
    lone.replica.turn()  # proposed, not durable
    lone.replica.drop_waiting(leaves)
    lone.settle()
    lone.submit(wait, stays)
    lone.settle()
    lone.do(ReleaseLock("l", held.token))
    assert isinstance(stays.only(), LockGranted)
    assert not leaves.answers


def test_nobody_may_propose_before_the_first_term() -> None:
    lone = Lone(1, 2, 3)
    sink = Inbox()
    assert not lone.replica.may_propose
    lone.submit(PutKey(b"k", b"v"), sink)
    assert "no member leads" in str(sink.only())


def test_a_mark_that_could_not_be_proposed_is_proposed_later() -> None:
    settings = ReplicaSettings(mark_interval_ms=1000)
    lone = Lone(settings=settings, uncommitted_bytes_max=100)
    lone.lead()
    lone.do(PutKey(b"k", b"v"))
    lone.submit(PutKey(b"k", b"v" * 200), Inbox())
    lone.replica.turn()  # the log's room is taken until this is durable
    lone.tick(30)
    lone.replica.turn()
    assert not lone.marks
    lone.settle()
    assert len(lone.marks) == 1


def test_what_expires_takes_the_renewals_that_wait_along() -> None:
    lone = Lone(settings=ReplicaSettings(renewal_delay_ms=10_000))
    lone.lead()
    lease = _granted(lone, 1000)
    other = _granted(lone, 60_000)
    lost: list[Sequence[int] | None] = []
    lone.replica.renew((lease, other), lost.append)
    lone.tick(30)  # due, and the renewal still waits for company
    lone.settle()
    assert lost == [[]]
    assert lone.machine.leases.is_alive(lease)


def test_a_turn_is_not_due_while_no_more_entries_may_be_on_their_way() -> None:
    lone = Lone(settings=ReplicaSettings(batches_in_flight_max=1))
    lone.lead()
    inbox = Inbox()
    lone.submit(PutKey(b"k", b"v"), inbox, 0)
    assert lone.replica.has_queued
    lone.replica.turn()  # proposed, not durable
    lone.submit(PutKey(b"k", b"w"), inbox, 1)
    assert not lone.replica.has_queued, "whoever has turns while it is so never rests"
    lone.settle()
    assert sorted(inbox.answers) == [0, 1]
