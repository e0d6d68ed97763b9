"""Who may become what, and what changes with it.

Rules: every change of role, term or leader passes through `_enter`. The table below
is the whole of it and is asserted at each change. Whatever ends leadership also ends
its transfer, its reads and its certainty about what it proposed.

Source: Raft paper figures 2 and 4; thesis 9.6; rules 1, 10, 12 and 22.
"""

from collections.abc import Mapping

from raftd.consensus.progress import Progress
from raftd.consensus.proposals import orphan_proposals
from raftd.consensus.state import State
from raftd.consensus.types import Entry, EntryKind, Index, NodeId, Role, Term

__all__ = [
    "ROLE_TRANSITIONS",
    "become_candidate",
    "become_follower",
    "become_leader",
    "become_pre_candidate",
    "set_leader",
]

#: From each role, the roles that may follow it. A role follows itself at a new term, a
#: new leader, or a new campaign. Straight to CANDIDATE: told to by the old leader, or
#: pre-votes are off.
ROLE_TRANSITIONS: Mapping[Role, tuple[Role, ...]] = {
    Role.FOLLOWER: (Role.FOLLOWER, Role.PRE_CANDIDATE, Role.CANDIDATE),
    Role.PRE_CANDIDATE: (Role.FOLLOWER, Role.PRE_CANDIDATE, Role.CANDIDATE),
    Role.CANDIDATE: (
        Role.FOLLOWER,
        Role.PRE_CANDIDATE,
        Role.CANDIDATE,
        Role.LEADER,
    ),
    Role.LEADER: (Role.FOLLOWER,),
}


def become_follower(s: State, term: Term, leader: NodeId | None) -> None:
    """Follow `leader`, or nobody yet, in `term`."""
    _enter(s, Role.FOLLOWER, term, leader)


def become_pre_candidate(s: State) -> None:
    """Ask whether a campaign could be won; term and vote stay as they are."""
    _enter(s, Role.PRE_CANDIDATE, s.term, None)


def become_candidate(s: State) -> None:
    """Enter the next term and vote for itself, which counts once it is durable."""
    _enter(s, Role.CANDIDATE, Term(s.term + 1), None)
    s.vote = s.id


def become_leader(s: State) -> None:
    """Lead this term: know nothing of the followers, and append a no-op."""
    _enter(s, Role.LEADER, s.term, s.id)
    last = s.log.last_index
    pending = s.log.in_memory(s.commit + 1, last)
    s.uncommitted_bytes = sum(len(entry.payload) for entry in pending)
    s.progress = {peer: Progress(Index(last + 1)) for peer in s.peers}
    s.term_start_index = Index(last + 1)
    # Which of the entries found here are changes is not looked up (rule 39).
    s.pending_change_index = last
    s.log.append(Entry(s.term_start_index, s.term, EntryKind.NORMAL, b""))
    s.is_flush_due = True


def set_leader(s: State, leader: NodeId | None) -> None:
    """Note who leads; reads asked of anybody else are lost."""
    if leader == s.leader:
        return
    s.leader = leader
    if leader is not None:
        s.led_term = s.term
    s.reads.fail_as_follower()


def _enter(s: State, role: Role, term: Term, leader: NodeId | None) -> None:
    assert role in ROLE_TRANSITIONS[s.role], f"{s.role} may not become {role}"
    assert term >= s.term, "terms never fall"
    if s.role is Role.LEADER:
        _leave_leadership(s)
    if term != s.term:
        # What was matched under another leader is not for this one to count.
        s.out.ack_to = None
        s.term = term
        s.vote = None
        # The answers to an old request must not reach a caller of the new term.
        set_leader(s, None)
    s.role = role
    s.role_since_tick = s.ticks
    s.votes = {}
    s.campaign_until_tick = 0
    s.election_elapsed = 0
    s.heartbeat_elapsed = 0
    s.redraw_timeout()
    set_leader(s, leader)


def _leave_leadership(s: State) -> None:
    # The last quorum check counted who was heard in the interval before it.
    checked_ticks = s.election_elapsed + s.config.election_ticks
    s.contact_tick = max(s.role_since_tick, s.ticks - checked_ticks)
    orphan_proposals(s)
    s.reads.fail_as_leader(s.id)
    s.peer_wall_ms = {}
    s.clear_leadership()
