"""The leader's side of replication: appends, heartbeats, commit by counting.

Rules:

* Nothing is sent while proposals come in; `flush` sends all of it at once, just before
  the core's output is taken, so that what arrived together travels together.
* Only entries of the own term are committed by counting; older ones follow (rule 11).
  The leader's own disk is one vote among the others (rule 23).
* No message carries only a commit index, but for one at the next tick to a follower
  that no append told meanwhile.
* A regular heartbeat's reply sets off one append where the follower lags, even an empty
  one into a full window, or a window lost as a whole would stall for ever (rule 20).
* Replies of another term never get here.

Source: Raft paper sections 5.3 and 5.4; thesis 10.2; rules 4, 11, 15,
17-20, 28, 31 and 44.
"""

from raftd.consensus.log import entry_bytes
from raftd.consensus.messages import Append, AppendReply, Heartbeat, HeartbeatReply
from raftd.consensus.progress import Progress, ProgressState
from raftd.consensus.proposals import advance_commit
from raftd.consensus.quorum import committed_index, has_quorum
from raftd.consensus.state import State
from raftd.consensus.types import Entry, Index, NodeId

__all__ = [
    "broadcast_heartbeats",
    "flush",
    "has_active_quorum",
    "maybe_commit",
    "on_append_reply",
    "on_heartbeat_reply",
    "on_snapshot_began",
    "on_snapshot_sent",
    "say_goodbye",
    "send_heartbeat",
    "tell_commit",
]

#: Slices of the log cut in one flush, by (first index, bytes): followers that are
#: equally far share one.
_Slices = dict[tuple[int, int], tuple[Entry, ...]]


def flush(s: State) -> None:
    """Send every follower what it lacks, as far as its window allows."""
    slices: _Slices = {}
    last = s.log.last_index
    messages_max = s.config.inflight_messages_max
    bytes_max = s.config.inflight_bytes_max
    for peer, progress in s.progress.items():
        while progress.next_index <= last and progress.may_send(
            messages_max, bytes_max
        ):
            if not _send_append(s, peer, progress, slices):
                break


def _send_append(s: State, peer: NodeId, progress: Progress, slices: _Slices) -> bool:
    """Send the next entries; return whether the log still has what comes first."""
    config = s.config
    prev = Index(progress.next_index - 1)
    prev_term = s.log.term_at(prev)
    if prev_term is None:
        _cut_off(s, peer, progress)
        return False
    room = config.inflight_bytes_max - progress.inflight_bytes
    limit = min(config.append_bytes_max, room)
    entries = slices.get((prev, limit))
    if entries is None:
        entries = s.log.slice(progress.next_index, s.log.last_index + 1, limit)
        slices[prev, limit] = entries
    s.out.now.append(Append(s.id, peer, s.term, prev, prev_term, entries, s.commit))
    last = entries[-1].index
    progress.note_sent(last, sum(map(entry_bytes, entries)))
    progress.commit_sent = max(progress.commit_sent, min(s.commit, last))
    return True


def _send_empty_append(s: State, peer: NodeId, progress: Progress) -> None:
    prev = Index(progress.next_index - 1)
    prev_term = s.log.term_at(prev)
    if prev_term is None:
        _cut_off(s, peer, progress)
        s.is_flush_due = True
        return
    s.out.now.append(Append(s.id, peer, s.term, prev, prev_term, (), s.commit))


def _cut_off(s: State, peer: NodeId, progress: Progress) -> None:
    """The log was cut beyond what `peer` has: only a snapshot helps it."""
    progress.note_cut_off()
    s.snapshots_wanted.append(peer)


def send_heartbeat(s: State, peer: NodeId, read_id: int) -> None:
    """Send one heartbeat with as much of the commit index as is safe (rule 15)."""
    progress = s.progress[peer]
    commit = min(progress.match_index, s.commit)
    progress.commit_sent = max(progress.commit_sent, commit)
    s.out.now.append(Heartbeat(s.id, peer, s.term, commit, read_id))


def broadcast_heartbeats(s: State) -> None:
    """Send the regular heartbeats; they repeat the read round under way."""
    read_id = s.reads.round_id if s.reads.in_round else 0
    for peer, progress in s.progress.items():
        progress.is_poll_due = True
        send_heartbeat(s, peer, read_id)


def tell_commit(s: State) -> None:
    """Tell the commit index to followers that no append has told it."""
    for peer, progress in s.progress.items():
        if min(progress.match_index, s.commit) > progress.commit_sent:
            send_heartbeat(s, peer, 0)


def has_active_quorum(s: State) -> bool:
    """Tell whether a quorum was heard since last asked, and begin anew (rule 4)."""
    present = {peer: progress.is_active for peer, progress in s.progress.items()}
    present[s.id] = True
    for progress in s.progress.values():
        progress.was_active = progress.is_active
        progress.is_active = False
    return has_quorum(s.membership, present)


def maybe_commit(s: State) -> None:
    """Commit what a quorum has on disk, if that reaches into this term."""
    matches = {peer: progress.match_index for peer, progress in s.progress.items()}
    matches[s.id] = s.log.durable
    index = committed_index(s.membership, matches)
    if index > s.commit and index >= s.term_start_index:
        advance_commit(s, index)
        # Reads may have waited for the no-op.
        s.is_flush_due = True


def on_append_reply(s: State, m: AppendReply) -> None:
    """Learn how far a follower is, or where to look for the common past."""
    progress = s.progress.get(m.src)
    if progress is None:
        return
    _note_heard(s, progress, m.src, m.wall_ms)
    if m.accepted:
        assert m.index <= s.log.last_index, "matched beyond the leader's log"
        if progress.note_accepted(m.index, s.log.first_index):
            if m.index > s.commit:
                maybe_commit(s)
            s.is_flush_due = True
        return
    if progress.is_stale_rejection(m.index):
        return
    retry_after, _ = s.log.find_at_most(min(m.hint_index, m.index - 1), m.hint_term)
    progress.note_rejected(retry_after)
    s.is_flush_due = True


def on_heartbeat_reply(s: State, m: HeartbeatReply) -> None:
    """Note that the follower lives; nudge it if its log lags."""
    progress = s.progress.get(m.src)
    if progress is None:
        return
    _note_heard(s, progress, m.src, m.wall_ms)
    if not progress.is_poll_due:
        return
    progress.is_poll_due = False
    if progress.match_index >= s.log.last_index:
        # Only a new follower, or one whose link broke, is not known to replicate.
        progress.is_paused = False
        return
    if progress.state is ProgressState.PROBE:
        if progress.next_index > s.log.last_index:
            _send_empty_append(s, m.src, progress)
            return
        progress.is_paused = False
        s.is_flush_due = True
    elif progress.state is ProgressState.REPLICATE:
        _send_empty_append(s, m.src, progress)


def on_snapshot_began(s: State, peer: NodeId, index: int) -> None:
    """Note which snapshot a follower is being sent."""
    progress = s.progress.get(peer)
    if progress is not None and progress.state is ProgressState.SNAPSHOT:
        progress.snapshot_index = Index(index)


def on_snapshot_sent(s: State, peer: NodeId, *, is_installed: bool) -> None:
    """Go on with the log where a snapshot ended, or see what to do instead."""
    progress = s.progress.get(peer)
    if progress is not None and progress.state is ProgressState.SNAPSHOT:
        progress.note_snapshot_ended(is_installed=is_installed)
        s.is_flush_due = True


def say_goodbye(s: State, peer: NodeId, progress: Progress) -> None:
    """Let a follower that was just removed learn that it is committed."""
    commit = min(progress.match_index, s.commit)
    s.out.now.append(Heartbeat(s.id, peer, s.term, commit))


def _note_heard(s: State, progress: Progress, peer: NodeId, wall_ms: int) -> None:
    progress.is_active = True
    if wall_ms:
        s.peer_wall_ms[peer] = wall_ms
