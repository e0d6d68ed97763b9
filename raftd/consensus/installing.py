"""Taking up a snapshot that has arrived whole.

Rules:

* What it contains is committed: at or below the own commit index it brings nothing.
* If the log has its last entry, the log stays, with all that follows (rule 29).
* Else the log goes, whole, and starts anew behind the snapshot. The node puts log and
  state in place as one write; nothing is acknowledged before that is durable, and no
  write that was issued earlier vouches for anything beyond what was committed then
  (rules 24 and 29).
* Until then this node does not campaign (rule 9): its disk has another log.

Source: Raft paper section 7 and figure 13; rules 9, 24, 26, 29 to 31.
"""

from raftd.consensus.following import acknowledge, heed_leader
from raftd.consensus.messages import InstallSnapshot
from raftd.consensus.proposals import advance_commit, forget_orphans_until
from raftd.consensus.reconfiguring import enter
from raftd.consensus.state import State
from raftd.consensus.types import Index

__all__ = ["on_install"]


def on_install(s: State, m: InstallSnapshot) -> None:
    """Start anew behind the snapshot, or learn that the log reaches as far."""
    heed_leader(s, m.src)
    if m.index <= s.commit:
        acknowledge(s, m.src, s.commit)
        return
    if s.log.term_at(m.index) == m.index_term:
        advance_commit(s, m.index)
    else:
        _restart_log(s, m)
    acknowledge(s, m.src, m.index)


def _restart_log(s: State, m: InstallSnapshot) -> None:
    assert m.index_term <= s.term, "a snapshot from a term to come"
    s.out.forget_from(Index(s.commit + 1))
    s.log.restart(m.index, m.index_term, s.commit)
    forget_orphans_until(s, m.index)
    s.commit = s.handed = s.applied = m.index
    s.apply_room_bytes = s.config.apply_bytes_max
    enter(s, m.membership)
