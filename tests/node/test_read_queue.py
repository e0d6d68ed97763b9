"""Linearizable reads: asked together, answered at their index, dropped with askers."""

from __future__ import annotations

from raftd.node.read_queue import ReadQueue
from raftd.node.service import AnswerSink
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.kv import PutKey
from tests.node.lone import Inbox, Lone, core_of
from tests.statemachine.harness import Harness


def _index(machine: Machine) -> int:
    return machine.applied_index


def test_a_read_sees_what_was_committed_before_it_came() -> None:
    lone = Lone()
    lone.lead()
    lone.submit(PutKey(b"k", b"v"), Inbox())
    sink = Inbox()
    lone.replica.reads.add(lambda machine: machine.kv.count_all, sink, 3)
    lone.settle()
    assert sink.only(3) in (0, 1)
    lone.replica.reads.add(lambda machine: machine.kv.count_all, sink, 4)
    lone.settle()
    assert sink.only(4) == 1


def _confirmed(*indexes: int) -> tuple[Harness, ReadQueue, Inbox]:
    """Have a queue with one read confirmed at each of these indexes, none applied."""
    harness = Harness()
    reads = ReadQueue(core_of(1, 2, 3), harness.machine)
    sink = Inbox()
    for ctx, index in enumerate(indexes, start=1):
        reads.add(_index, sink, ctx)
        reads.ask()
        reads.take([(ctx, index)], [])
    return harness, reads, sink


def test_nothing_is_answered_before_its_index_is_applied() -> None:
    harness, reads, sink = _confirmed(2, 1)
    touched: dict[AnswerSink, None] = {}
    reads.run(touched)
    assert not touched
    harness.entry()
    reads.run(touched)
    assert list(sink.answers) == [2]
    harness.entry()
    reads.run(touched)
    assert sink.only(1) == 2
    assert list(touched) == [sink]


def test_a_read_that_lost_its_leader_waits_for_the_next_one() -> None:
    lone = Lone()
    sink = Inbox()
    lone.replica.reads.add(_index, sink, 0)
    lone.settle()
    assert not sink.answers
    lone.lead()
    lone.tick()
    lone.settle()
    assert sink.only() == lone.machine.applied_index


def test_a_dropped_sink_gets_nothing_however_far_its_reads_were() -> None:
    harness, reads, gone = _confirmed(1)
    stays = Inbox()
    reads.add(_index, gone, 2)
    reads.add(_index, stays, 2)
    reads.ask()
    reads.add(_index, gone, 3)
    reads.drop(gone)
    reads.take([(2, 1)], [])
    harness.entry()
    touched: dict[AnswerSink, None] = {}
    reads.run(touched)
    assert not gone.answers
    assert stays.only(2) == 1
    assert list(touched) == [stays]
