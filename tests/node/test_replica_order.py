"""What a follower does first: it writes, so that its leader can go on, then it applies.

Source: RELIABILITY.md rules 22 and 23; ``raftd.consensus.ready``.
"""

from __future__ import annotations

from collections.abc import Sequence

from raftd.consensus.messages import (
    Append,
    Heartbeat,
    Message,
    ReadIndexReply,
    ReadIndexRequest,
)
from raftd.consensus.types import Entry, EntryKind, Index, NodeId, Term
from tests.node.lone import Inbox, Lone

_LEADER = NodeId(2)
_TERM = Term(1)


class _Asking(Lone):
    """Answers the question from where on it may read, when told to."""

    asked = 0

    def send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if isinstance(message, ReadIndexRequest):
                self.asked = message.ctx

    def answer(self, index: int) -> None:
        assert self.asked
        reply = ReadIndexReply(_LEADER, NodeId(1), _TERM, self.asked, Index(index))
        self.replica.step([reply])


def _append(lone: Lone, index: int, *, commit: int) -> None:
    """Take in one entry, and what is committed, from the leader."""
    entry = Entry(Index(index), _TERM, EntryKind.NORMAL, b"")
    prev = Index(index - 1)
    prev_term = _TERM if prev else Term(0)
    lone.replica.step(
        [Append(_LEADER, NodeId(1), _TERM, prev, prev_term, (entry,), Index(commit))]
    )


def test_a_follower_applies_in_the_turn_after_it_began_to_write() -> None:
    lone = Lone(1, 2, 3)
    _append(lone, 1, commit=0)
    lone.settle()
    _append(lone, 2, commit=1)
    lone.replica.turn()
    assert lone.core.commit_index == 1
    assert lone.machine.applied_index == 0
    assert lone.replica.has_unapplied
    lone.settle()
    assert lone.machine.applied_index == lone.core.applied_index == 1
    assert not lone.replica.has_unapplied


def test_what_waits_to_be_applied_comes_before_what_was_committed_later() -> None:
    lone = Lone(1, 2, 3)
    for index in (1, 2, 3):
        _append(lone, index, commit=index - 1)
        lone.replica.turn()
        assert lone.machine.applied_index == max(0, index - 2)
    lone.settle()
    assert lone.machine.applied_index == 2


def test_a_follower_with_nothing_to_write_applies_at_once() -> None:
    lone = Lone(1, 2, 3)
    _append(lone, 1, commit=0)
    lone.settle()
    lone.replica.step([Heartbeat(_LEADER, NodeId(1), _TERM, Index(1))])
    lone.replica.turn()
    assert lone.machine.applied_index == 1
    assert not lone.replica.has_unapplied


def test_a_read_waits_for_what_is_applied_later() -> None:
    lone = _Asking(1, 2, 3)
    _append(lone, 1, commit=0)
    lone.settle()
    sink = Inbox()
    lone.replica.reads.add(lambda machine: machine.applied_index, sink, 7)
    lone.replica.turn()
    _append(lone, 2, commit=1)
    lone.answer(1)
    lone.replica.turn()
    assert not sink.answers
    lone.settle()
    assert sink.only(7) == 1
