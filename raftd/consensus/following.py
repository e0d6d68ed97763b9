"""The follower's side: take entries in, say how far the log matches.

Rules:

* Entries are removed only at a real conflict, never because a shorter or older append
  arrived late, and never at or below what is committed (rule 16).
* The commit index follows the leader's only as far as this very message matched
  (rule 15).
* A refusal hints at the largest place where the logs may agree (rule 17).
* An acknowledgement waits for the disk; several appends are acknowledged once.
* A leader of a lower term is answered, or it would go on for ever without this node
  (rule 6).

Source: Raft paper figure 2 (AppendEntries) and section 5.3; rules 6, 15,
16, 17 and 23.
"""

from raftd.consensus.messages import Append, AppendReply, Heartbeat, HeartbeatReply
from raftd.consensus.proposals import advance_commit
from raftd.consensus.roles import become_follower
from raftd.consensus.state import State
from raftd.consensus.types import EntriesGone, Entry, Index, NodeId, Role

__all__ = [
    "acknowledge",
    "answer_old_leader",
    "heed_leader",
    "on_append",
    "on_heartbeat",
]


def on_append(s: State, m: Append) -> None:
    """Take in a leader's entries, or refuse them for want of their predecessor."""
    heed_leader(s, m.src)
    entries = m.entries
    prev = m.prev_index
    if entries:
        assert entries[0].index == prev + 1, "entries follow their predecessor"
        assert entries[-1].index == prev + len(entries), "entries follow one another"
    if prev < s.commit:
        # What is committed here is committed there: start behind it.
        entries = entries[s.commit - prev :]
        prev = s.commit
    elif s.log.term_at(prev) != m.prev_term:
        _refuse(s, m)
        return
    if entries:
        _take_in(s, entries)
    matched = Index(prev + len(entries))
    acknowledge(s, m.src, matched)
    commit = min(m.commit, matched)
    if commit > s.commit:
        advance_commit(s, commit)


def on_heartbeat(s: State, m: Heartbeat) -> None:
    """Note that the leader lives, and what it knows to be safe to commit here."""
    heed_leader(s, m.src)
    if m.commit > s.commit:
        if m.commit > s.log.last_index:
            raise EntriesGone(
                f"the leader knows entries up to {m.commit} to be here, and the log"
                f" ends at {s.log.last_index}"
            )
        advance_commit(s, m.commit)
    reply = HeartbeatReply(s.id, m.src, s.term, m.read_id, s.local_wall_ms)
    s.out.guarded.append(reply)


def answer_old_leader(s: State, src: NodeId) -> None:
    """Tell a leader of a lower term that its time is over; the content is empty."""
    s.out.guarded.append(AppendReply(s.id, src, s.term, False, Index(0)))


def heed_leader(s: State, leader: NodeId) -> None:
    """Follow who leads this term, and wait for it from now on."""
    assert s.role is not Role.LEADER, "two leaders in one term"
    assert s.leader in (None, leader), "two leaders in one term"
    if s.role is not Role.FOLLOWER or s.leader is None:
        become_follower(s, s.term, leader)
    s.election_elapsed = 0
    s.contact_tick = s.ticks


def _refuse(s: State, m: Append) -> None:
    hint_index, hint_term = s.log.find_at_most(m.prev_index, m.prev_term)
    s.out.guarded.append(
        AppendReply(
            s.id,
            m.src,
            s.term,
            False,
            m.prev_index,
            hint_index,
            hint_term,
            s.local_wall_ms,
        )
    )


def _take_in(s: State, entries: tuple[Entry, ...]) -> None:
    """Append what is new in `entries`, whose predecessor is in the log."""
    log = s.log
    new_from = 0
    if entries[0].index <= log.last_index:
        new_from = _find_new(s, entries)
    for entry in entries[new_from:] if new_from else entries:
        log.append(entry)


def _find_new(s: State, entries: tuple[Entry, ...]) -> int:
    """Return where `entries` go beyond the log, after removing what contradicts."""
    for position, entry in enumerate(entries):
        have = s.log.term_at(entry.index)
        if have == entry.term:
            continue
        if have is not None:
            assert entry.index > s.commit, "a committed entry is contradicted"
            s.log.truncate(entry.index)
            s.out.forget_from(entry.index)
        return position
    return len(entries)


def acknowledge(s: State, leader: NodeId, matched: Index) -> None:
    """Tell the leader how far the log matches, once that much of it is durable."""
    out = s.out
    if out.ack_to is None:
        out.ack_to = leader
        out.ack_index = matched
    else:
        out.ack_index = max(out.ack_index, matched)
