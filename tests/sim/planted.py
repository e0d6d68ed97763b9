"""Bugs planted in the production code, in memory, to prove that the simulator sees.

Each is a mistake that somebody made, or that the rules warn of, as a few lines put in
the place of the right ones. ``planted`` puts one in and takes it out again.

Source: RELIABILITY.md sections 3 and 6 (prove the simulator).
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from raftd.consensus import core, following, output, quorum, reads, replication, voting
from raftd.consensus.config import Config
from raftd.consensus.messages import AppendReply, Heartbeat, Message
from raftd.consensus.outbox import Outbox
from raftd.consensus.proposals import advance_commit
from raftd.consensus.quorum import committed_index
from raftd.consensus.state import Persisted, State
from raftd.consensus.types import Entry, HardState, Index, NodeId
from raftd.node.batches import Batches, Proposed
from raftd.node.lease_clock import LeaseClock
from raftd.node.replica import Replica
from raftd.statemachine.answers import Answer
from raftd.statemachine.locks import Locks
from raftd.statemachine.module import EndReason
from raftd.statemachine.sessions import Sessions
from raftd.statemachine.tables import RowKey
from raftd.statemachine.waiters import number_of
from raftd.statemachine.window import Window
from tests.sim.planted_changes import PLANTED_CHANGES

__all__ = ["PLANTED", "planted"]

Patch = tuple[Any, str, Any]
"""Whose attribute becomes what."""


@contextlib.contextmanager
def planted(name: str) -> Iterator[None]:
    """Run the body with one bug in the production code."""
    patches = PLANTED[name]
    before = [(owner, attr, getattr(owner, attr)) for owner, attr, _ in patches]
    try:
        for owner, attr, value in patches:
            setattr(owner, attr, value)
        yield
    finally:
        for owner, attr, value in before:
            setattr(owner, attr, value)


# --- elections ------------------------------------------------------------------


_init_state = State.__init__


def _forget_vote(self: State, config: Config, persisted: Persisted, rng: Any) -> None:
    hard_state = HardState(persisted.hard_state.term, None)
    _init_state(
        self, config, dataclasses.replace(persisted, hard_state=hard_state), rng
    )


def _is_always_up_to_date(_: State, __: Index, ___: int) -> bool:
    return True


def _minority_index(voters: tuple[NodeId, ...], matches: dict[NodeId, Index]) -> Index:
    rising = sorted([matches.get(voter, Index(0)) for voter in voters])
    return rising[min(len(rising) - 1, (len(rising) + 1) // 2)]


# --- replication ------------------------------------------------------------------


def _commit_old_terms(s: State) -> None:
    matches = {peer: progress.match_index for peer, progress in s.progress.items()}
    matches[s.id] = s.log.durable
    index = committed_index(s.membership, matches)
    if index > s.commit:
        advance_commit(s, index)
        s.is_flush_due = True


def _answer_before_sync(
    s: State, message: Message, _: list[Message], __: object, *, is_durable: bool
) -> None:
    assert is_durable in {True, False}
    s.out.now.append(message)


def _commit_past_match(s: State, peer: NodeId, read_id: int) -> None:
    s.out.now.append(Heartbeat(s.id, peer, s.term, s.commit, read_id))


_on_heartbeat = following.on_heartbeat


def _commit_what_there_is(s: State, m: Heartbeat) -> None:
    commit = Index(min(m.commit, s.log.last_index))
    _on_heartbeat(s, Heartbeat(m.src, m.dst, m.term, commit, m.read_id))


def _truncate_always(s: State, entries: tuple[Entry, ...]) -> None:
    first = entries[0].index
    if first <= s.log.last_index:
        s.log.truncate(first)
        s.out.forget_from(first)
    for entry in entries:
        s.log.append(entry)


def _vouch_for_anything(_: Outbox, __: Index) -> None:
    return


_step_older = core._step_older  # noqa: SLF001  # put back in its own place


def _count_old_replies(s: State, m: Message) -> None:
    if isinstance(m, AppendReply):
        replication.on_append_reply(s, m)
    else:
        _step_older(s, m)


def _send_nothing(_: State, __: NodeId, ___: object) -> None:
    return


# --- reads ------------------------------------------------------------------------


def _read_unconfirmed(s: State) -> None:
    if s.reads.queued and not s.reads.in_round and s.is_term_started:
        s.reads.in_round, s.reads.queued = s.reads.queued, []
        reads._finish_round(s)  # noqa: SLF001  # the bug lives inside


_flush_leader = reads.flush_leader


def _read_round_again(s: State) -> None:
    if not s.reads.in_round:
        s.reads.round_id = 0
    _flush_leader(s)


def _read_from_the_start(s: State) -> None:
    """Neither wait for the no-op nor look beyond it."""
    s.term_start_index = Index(0)
    _flush_leader(s)


def _finish_at_once(s: State) -> None:
    confirmed, s.reads.in_round = s.reads.in_round, []
    for read in confirmed:
        if read.src == s.id:
            s.reads.done.append((read.ctx, Index(s.applied)))
        else:
            reads._answer(s, read.src, read.ctx, Index(0))  # noqa: SLF001  # as above


# --- the node ---------------------------------------------------------------------


_settle = Batches.settle


def _settle_by_index(self: Batches, index: int, term: int) -> list[Proposed]:
    return [
        dataclasses.replace(proposed, term=term)
        for proposed in _settle(self, index, term)
    ]


def _uncapped_tick(self: LeaseClock, monotonic_ms: int) -> None:
    elapsed_ms = monotonic_ms - self._last_monotonic_ms
    self._last_monotonic_ms = monotonic_ms
    self.now_ms += max(0, elapsed_ms)


def _renew_early(
    self: Replica, leases: Sequence[int], done: Callable[[Sequence[int] | None], None]
) -> None:
    if not self.may_propose:
        done(None)
        return
    done(())
    self._batches.add_renewals(leases, lambda _: None, self.monotonic_ms)


# --- the state machine ------------------------------------------------------------


def _find_nothing(_: Window, __: int) -> None:
    return None


def _contain_nothing(_: Window, __: int) -> bool:
    return False


_encode_session = Sessions.encode_row


def _store_nothing(_: Window) -> list[tuple[int, int, Answer]]:
    return []


def _forget_window(self: Sessions, table: int, key: RowKey) -> bytes | None:
    stored = Window.stored
    setattr(Window, "stored", _store_nothing)  # noqa: B010  # a method, for a moment
    try:
        return _encode_session(self, table, key)
    finally:
        setattr(Window, "stored", stored)  # noqa: B010  # and back


_lease_ended = Locks.lease_ended


def _keep_waiters(
    self: Locks, lease: int, keys: Sequence[RowKey], reason: EndReason
) -> None:
    holding = [key for key in keys if number_of(key) not in self._waiting]
    _lease_ended(self, lease, holding, reason)


PLANTED: Final[dict[str, tuple[Patch, ...]]] = PLANTED_CHANGES | {
    "aba-completion": ((Outbox, "forget_from", _vouch_for_anything),),
    "ack-before-sync": ((output, "_route", _answer_before_sync),),
    "another's-answer": ((Batches, "settle", _settle_by_index),),
    "clock-uncapped": ((LeaseClock, "tick", _uncapped_tick),),
    "commit-old-term": ((replication, "maybe_commit", _commit_old_terms),),
    "commit-past-match": (
        (replication, "send_heartbeat", _commit_past_match),
        (following, "on_heartbeat", _commit_what_there_is),
    ),
    "dead-waiter": ((Locks, "lease_ended", _keep_waiters),),
    "lost-window": ((replication, "_send_empty_append", _send_nothing),),
    "no-up-to-date-check": ((voting, "_is_up_to_date", _is_always_up_to_date),),
    "old-term-reply": ((core, "_step_older", _count_old_replies),),
    "quorum-off-by-one": ((quorum, "_majority_index", _minority_index),),
    "read-before-noop": (
        (reads, "flush_leader", _read_from_the_start),
        (reads, "_finish_round", _finish_at_once),
    ),
    "read-round-reused": ((reads, "flush_leader", _read_round_again),),
    "read-unconfirmed": ((reads, "flush_leader", _read_unconfirmed),),
    "renewed-early": ((Replica, "renew", _renew_early),),
    "stale-truncation": ((following, "_take_in", _truncate_always),),
    "vote-forgotten": ((State, "__init__", _forget_vote),),
    "window-ignored": (
        (Window, "find", _find_nothing),
        (Window, "__contains__", _contain_nothing),
    ),
    "window-not-in-checkpoint": ((Sessions, "encode_row", _forget_window),),
}
