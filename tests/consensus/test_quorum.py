"""Quorum maths against a version too simple to be wrong."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftd.consensus import Index, Membership, NodeId
from raftd.consensus.quorum import (
    VoteResult,
    committed_index,
    has_quorum,
    vote_result,
)

_IDS = st.integers(1, 7).map(NodeId)
_VOTERS = st.sets(_IDS, max_size=7).map(sorted).map(tuple)
_MEMBERSHIPS = st.builds(Membership, _VOTERS, _VOTERS)


def _majorities(voters: tuple[NodeId, ...]) -> list[set[NodeId]]:
    """Every set of more than half of the voters; the empty half is content."""
    if not voters:
        return [set()]
    sizes = range(len(voters) // 2 + 1, len(voters) + 1)
    return [set(c) for size in sizes for c in combinations(voters, size)]


def _is_quorum(membership: Membership, nodes: set[NodeId]) -> bool:
    halves = (membership.voters, membership.outgoing)
    return all(any(m <= nodes for m in _majorities(half)) for half in halves)


@given(_MEMBERSHIPS, st.dictionaries(_IDS, st.integers(0, 9).map(Index)))
def test_commits_the_largest_index_that_a_quorum_has(
    membership: Membership, matches: dict[NodeId, Index]
) -> None:
    if not membership.voters and not membership.outgoing:
        assert committed_index(membership, matches) == 0
        return
    naive = max(
        index
        for index in range(10)
        if _is_quorum(
            membership,
            {n for n in membership.members if matches.get(n, Index(0)) >= index},
        )
    )
    assert committed_index(membership, matches) == naive


@given(_MEMBERSHIPS, st.dictionaries(_IDS, st.booleans()))
def test_a_vote_is_decided_when_no_further_answer_can_change_it(
    membership: Membership, votes: dict[NodeId, bool]
) -> None:
    granted = {voter for voter, vote in votes.items() if vote}
    refused = {voter for voter, vote in votes.items() if not vote}
    result = vote_result(membership, votes)
    if _is_quorum(membership, granted):
        assert result is VoteResult.WON
    elif _is_quorum(membership, set(membership.members) - refused):
        assert result is VoteResult.PENDING
    else:
        assert result is VoteResult.LOST
    assert has_quorum(membership, votes) == (result is VoteResult.WON)


@pytest.mark.parametrize(
    ("voters", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)]
)
def test_a_majority_is_more_than_half(voters: int, needed: int) -> None:
    """Raft paper section 5.2."""
    ids = tuple(map(NodeId, range(1, voters + 1)))
    membership = Membership(ids)
    assert has_quorum(membership, dict.fromkeys(ids[:needed], True))
    assert not has_quorum(membership, dict.fromkeys(ids[: needed - 1], True))


def test_learners_never_count() -> None:
    membership = Membership((NodeId(1), NodeId(2)), learners=(NodeId(3),))
    assert not has_quorum(membership, {NodeId(1): True, NodeId(3): True})
    assert committed_index(membership, {NodeId(1): Index(5), NodeId(3): Index(5)}) == 0
