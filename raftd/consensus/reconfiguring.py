"""Membership changes: proposed, applied, and what follows from them at a leader.

Rules:

* A change takes effect when its entry is *applied*, at each node for itself; until
  then the old configuration decides (rule 41, etcd's way; see DIVERGENCES.md).
* One change in flight: none is proposed while an earlier one may not be applied, and a
  new leader assumes that of everything it found in its log (rule 39).
* None before an entry of the leader's own term is committed (rule 40, the 2015 bug).
* A joint configuration is left by its leader as soon as its entry is applied; a new
  leader does it again, if the old one's attempt is not in its log (rule 42).
* A leader that put itself out goes on without counting itself until a follower has
  taken over, or T has passed (rule 44).

Source: Raft paper section 6; thesis 4.2 and 4.3; rules 8, 9, 12, 39 to 44.
"""

from msgspec import structs

from raftd.consensus import reads, replication, transfer
from raftd.consensus.changes import (
    InvalidChange,
    after,
    decode_change,
    encode_change,
)
from raftd.consensus.progress import Progress
from raftd.consensus.proposals import append_proposal, refusal
from raftd.consensus.state import State
from raftd.consensus.types import (
    ConfigChange,
    EntryKind,
    Index,
    Membership,
    Proposal,
    RefusalReason,
    Refused,
    Role,
)

__all__ = ["apply_change", "enter", "leave_if_due", "propose_change"]


def propose_change(s: State, change: ConfigChange) -> Proposal | Refused:
    """Append a change as one entry, or say why not."""
    refused = refusal(s, len(change.context))
    if refused is not None:
        return refused
    if not s.is_term_started:
        return Refused(RefusalReason.TERM_NOT_STARTED, s.leader)
    if s.pending_change_index > s.applied or s.membership.outgoing:
        return Refused(RefusalReason.CHANGE_PENDING, s.leader)
    try:
        return _append(s, change)
    except InvalidChange as invalid:
        return Refused(RefusalReason.INVALID_CHANGE, s.leader, str(invalid))


def _append(s: State, change: ConfigChange) -> Proposal:
    whole = structs.replace(change, result=after(s.membership, change))
    proposal = append_proposal(s, EntryKind.CONFIG, encode_change(whole))
    s.pending_change_index = proposal.index
    return proposal


def leave_if_due(s: State) -> None:
    """End a joint configuration, unless something in the log may do so already."""
    if (
        s.membership.outgoing
        and s.is_term_started
        and s.pending_change_index <= s.applied
        and s.transfer_to is None
    ):
        _append(s, ConfigChange(is_leave=True))


def apply_change(s: State, index: int, payload: bytes) -> Membership:
    """Let the committed change at `index` take effect."""
    assert s.applied < index <= s.handed, "changes take effect in their turn"
    assert s.role in (Role.FOLLOWER, Role.LEADER), "campaigned with a change unapplied"
    change = decode_change(payload)
    result = change.result
    if result is None or s.is_base_known:
        computed = after(s.membership, change)
        assert result in (None, computed), "members differ on who is a member"
        result = computed
    enter(s, result)
    return result


def enter(s: State, membership: Membership) -> None:
    """Go on under `membership`, which is committed."""
    s.set_membership(membership)
    s.is_base_known = True
    if s.role is Role.LEADER:
        _enter_as_leader(s)


def _enter_as_leader(s: State) -> None:
    known = s.progress
    s.progress = {peer: known.get(peer) or _meet(s) for peer in s.peers}
    for peer, progress in known.items():
        if peer not in s.progress:
            replication.say_goodbye(s, peer, progress)
            s.peer_wall_ms.pop(peer, None)
    s.snapshots_wanted = [peer for peer in s.snapshots_wanted if peer in s.progress]
    s.is_flush_due = True
    transfer.reconsider(s)
    # A smaller configuration may need no more than it has.
    replication.maybe_commit(s)
    reads.reconsider(s)


def _meet(s: State) -> Progress:
    """Begin with the newest entry, so that there is something to probe with."""
    progress = Progress(Index(s.log.last_index))
    # It had no time to answer before the next quorum check.
    progress.is_active = True
    return progress
