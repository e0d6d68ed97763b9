"""Planted bugs of reads that must be linearizable.

Source: RELIABILITY.md rules 10 and 33; section 6.
"""

from __future__ import annotations

import heapq
from typing import Final

from raftd.consensus import reads
from raftd.consensus.state import State
from raftd.consensus.types import Index
from raftd.node.read_queue import ReadQueue
from raftd.node.service import Answered, AnswerSink
from tests.mutants.bug import Bug
from tests.mutants.finders import Scripted, Simulated
from tests.sim.focus import BUSY, QUIET

__all__ = ["READS"]

_flush_leader = reads.flush_leader


def _read_unconfirmed(s: State) -> None:
    if s.reads.queued and not s.reads.in_round and s.is_term_started:
        s.reads.in_round, s.reads.queued = s.reads.queued, []
        reads._finish_round(s)  # noqa: SLF001  # the bug lives inside


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


def _run_all(self: ReadQueue, touched: dict[AnswerSink, None]) -> None:
    confirmed, machine = self._confirmed, self._machine
    while confirmed:
        _, _, found = heapq.heappop(confirmed)
        for query, sink, tag in found:
            sink.answer(tag, Answered(query(machine), machine.revision))
            touched[sink] = None


def _answer_here(self: ReadQueue) -> None:
    """Take what is applied on this member for the present."""
    if self._new:
        self._ctx += 1
        found, self._new = self._new, []
        heapq.heappush(self._confirmed, (self._machine.applied_index, self._ctx, found))


READS: Final = (
    Bug(
        name="read-of-a-follower",
        does="a follower answers reads from what it has applied itself",
        breaks=("LIN",),
        repeats="Consul 2014 (stale reads), scenario 14",
        patches=((ReadQueue, "ask", _answer_here),),
        finder=Simulated(),
    ),
    Bug(
        name="read-before-noop",
        does="a new leader answers reads before it knows what is committed",
        breaks=("LIN",),
        repeats="etcd#7331, scenario 10",
        patches=(
            (reads, "flush_leader", _read_from_the_start),
            (reads, "_finish_round", _finish_at_once),
        ),
        finder=Simulated(BUSY),
    ),
    Bug(
        name="read-unconfirmed",
        does="a leader answers reads without asking whether it still leads",
        breaks=("LIN",),
        repeats="etcd 0.4.1, Consul 2014, RedisRaft, scenario 11",
        patches=((reads, "flush_leader", _read_unconfirmed),),
        finder=Simulated(
            BUSY,
            faults=("partition", "pause"),
            clients=6,
            op_interval_us=20_000,
            downtime_us=900_000,
        ),
        script=Scripted("scenario_11_old_leader_read"),
    ),
    Bug(
        name="read-round-reused",
        does="late answers to an earlier round confirm a later one",
        breaks=("LIN",),
        repeats="etcd#20418, scenario 12",
        patches=((reads, "flush_leader", _read_round_again),),
        finder=Simulated(
            QUIET,
            replay=0.4,
            replay_late_us=1_500_000,
            clients=6,
            depth=4,
            op_interval_us=20_000,
            shapes=("isolate",),
            downtime_us=900_000,
        ),
        script=Scripted("rule_33_rounds"),
    ),
    Bug(
        name="read-before-apply",
        does="a confirmed read is answered from a state that is not as far yet",
        breaks=("LIN",),
        repeats="RedisRaft#18, etcd#3879, scenario 14",
        patches=((ReadQueue, "run", _run_all),),
        finder=Simulated(),
    ),
)
