"""Linearizable reads without a log entry: ReadIndex.

Rules:

* A leader answers nothing before its no-op is committed: until then it does not know
  what is (rule 10).
* A read's index is the commit index at its arrival; it is answered after a quorum has
  confirmed a heartbeat sent *after* it arrived (rule 33).
* Confirmation rounds are numbered by this core alone and never twice: a late reply
  confirms nothing that came later. Reads that arrive during a round share the next.
* A round costs one small message a voter and one back, however many reads share it. It
  leaves in the same turn as the appends that are due, hence in their frame; the answer
  does not wait for the disk that an append's answer waits for, so it may need a frame
  of its own: a read costs a round trip, never a sync.
* A follower asks its leader, one request for all reads that came together. They fail
  when it follows someone else, or after T without an answer.
* A follower that is answered has been told the commit index first, so it can serve.

Source: thesis 6.4; rule 33.
"""

from raftd.consensus.messages import HeartbeatReply, ReadIndexReply, ReadIndexRequest
from raftd.consensus.quorum import has_quorum
from raftd.consensus.read_state import PendingRead
from raftd.consensus.replication import send_heartbeat
from raftd.consensus.state import State
from raftd.consensus.types import Index, NodeId, Role

__all__ = [
    "PENDING_READS_MAX",
    "flush_follower",
    "flush_leader",
    "on_confirmation",
    "on_reply",
    "on_request",
    "read_index",
    "reconsider",
]

#: Reads that wait in one core; more fail at once.
PENDING_READS_MAX = 65_536


def read_index(s: State, ctx: int) -> None:
    """Begin a read; it comes out of `ready` as done or as failed."""
    reads = s.reads
    if reads.pending_count >= PENDING_READS_MAX:
        reads.failed.append(ctx)
    elif s.role is Role.LEADER:
        reads.queued.append(PendingRead(s.id, ctx, s.commit))
        s.is_flush_due = True
    elif s.leader is None:
        reads.failed.append(ctx)
    else:
        reads.unsent.append(ctx)
        s.is_flush_due = True


def flush_leader(s: State) -> None:
    """Begin a confirmation round for what has arrived, unless one is under way."""
    reads = s.reads
    if reads.in_round or not reads.queued or not s.is_term_started:
        return
    reads.in_round, reads.queued = reads.queued, []
    reads.round_id += 1
    reads.acks = {s.id: True}
    if has_quorum(s.membership, reads.acks):
        _finish_round(s)
        return
    for peer in s.peers:
        if s.membership.is_voter(peer):
            send_heartbeat(s, peer, reads.round_id)


def on_confirmation(s: State, m: HeartbeatReply) -> None:
    """Count a voter that still followed after the present round began."""
    reads = s.reads
    if not reads.in_round or m.read_id != reads.round_id:
        return
    reads.acks[m.src] = True
    if has_quorum(s.membership, reads.acks):
        _finish_round(s)


def reconsider(s: State) -> None:
    """After a change of membership: those who confirmed may be a quorum now."""
    if s.reads.in_round and has_quorum(s.membership, s.reads.acks):
        _finish_round(s)


def _finish_round(s: State) -> None:
    reads = s.reads
    confirmed, reads.in_round = reads.in_round, []
    for read in confirmed:
        # Whatever an earlier leader committed lies before this one's no-op.
        index = max(read.index, s.term_start_index)
        if read.src == s.id:
            reads.done.append((read.ctx, index))
        else:
            _answer(s, read.src, read.ctx, index)
    if reads.queued:
        s.is_flush_due = True


def _answer(s: State, follower: NodeId, ctx: int, index: Index) -> None:
    progress = s.progress.get(follower)
    if progress is not None and progress.commit_sent < index:
        send_heartbeat(s, follower, 0)
    s.out.now.append(ReadIndexReply(s.id, follower, s.term, ctx, index))


def on_request(s: State, m: ReadIndexRequest) -> None:
    """Begin a read for a follower; without leadership it is left to give up."""
    reads = s.reads
    if s.role is Role.LEADER and reads.pending_count < PENDING_READS_MAX:
        reads.queued.append(PendingRead(m.src, m.ctx, s.commit))
        s.is_flush_due = True


def flush_follower(s: State) -> None:
    """Ask the leader for all reads that have come since the last time."""
    reads = s.reads
    if not reads.unsent or s.leader is None:
        return
    request_id = reads.ask(s.ticks + s.config.election_ticks)
    s.out.now.append(ReadIndexRequest(s.id, s.leader, s.term, request_id))


def on_reply(s: State, m: ReadIndexReply) -> None:
    """Finish the reads that were asked of the leader."""
    s.reads.answer(m.ctx, m.index)
