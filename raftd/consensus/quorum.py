"""Majorities, and majorities of two configurations at once.

Rules: a joint configuration needs both halves, for votes, commits, check-quorum and
read confirmations alike (rule 42). An empty half asks for nothing. Learners never
count.

Source: Raft paper sections 5.2, 5.4 and 6; rule 42.
"""

import enum
from collections.abc import Mapping

from raftd.consensus.types import Index, Membership, NodeId

__all__ = ["VoteResult", "committed_index", "has_quorum", "vote_result"]


class VoteResult(enum.Enum):
    """What the votes so far decide."""

    PENDING = "pending"
    WON = "won"
    LOST = "lost"


def committed_index(membership: Membership, matches: Mapping[NodeId, Index]) -> Index:
    """Return the largest index that a quorum has; 0 without any voter.

    Args:
        membership: Whose majorities count.
        matches: The last matching index of each voter; an absent voter has none.
    """
    index = _majority_index(membership.voters, matches)
    if membership.outgoing:
        other = _majority_index(membership.outgoing, matches)
        return min(index, other) if membership.voters else other
    return index


def _majority_index(
    voters: tuple[NodeId, ...], matches: Mapping[NodeId, Index]
) -> Index:
    if not voters:
        return Index(0)
    rising = sorted([matches.get(voter, Index(0)) for voter in voters])
    # A majority stands at or above this place.
    return rising[(len(rising) - 1) // 2]


def vote_result(membership: Membership, votes: Mapping[NodeId, bool]) -> VoteResult:
    """Tell what `votes` (granted or refused, by voter) decide."""
    first = _half_result(membership.voters, votes)
    if not membership.outgoing:
        return first
    second = _half_result(membership.outgoing, votes)
    if VoteResult.LOST in (first, second):
        return VoteResult.LOST
    if VoteResult.PENDING in (first, second):
        return VoteResult.PENDING
    return VoteResult.WON


def _half_result(
    voters: tuple[NodeId, ...], votes: Mapping[NodeId, bool]
) -> VoteResult:
    needed = len(voters) // 2 + 1 if voters else 0
    granted = refused = 0
    for voter in voters:
        vote = votes.get(voter)
        if vote is True:
            granted += 1
        elif vote is False:
            refused += 1
    if granted >= needed:
        return VoteResult.WON
    if len(voters) - refused < needed:
        return VoteResult.LOST
    return VoteResult.PENDING


def has_quorum(membership: Membership, present: Mapping[NodeId, bool]) -> bool:
    """Tell whether those marked True in `present` are a quorum."""
    return vote_result(membership, present) is VoteResult.WON
