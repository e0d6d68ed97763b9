"""Quorums against definitions by enumeration: paper 5.2, 5.4 and 6; thesis 4.2.1.

A majority is listed as the subsets of more than half; a vote is decided when every way
in which the silent may still answer ends alike.
"""

from collections.abc import Iterable
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from raftd.consensus import Index, Membership, NodeId
from raftd.consensus.quorum import (
    VoteResult,
    committed_index,
    has_quorum,
    vote_result,
)
from tests.consensus.quick import QUICK, majorities

_INDEX_MAX = 6
_IDS = st.integers(1, 6).map(NodeId)


def _tuples(ids: Iterable[NodeId]) -> tuple[NodeId, ...]:
    return tuple(sorted(ids))


@st.composite
def _memberships(draw: st.DrawFn, *, is_joint: bool | None = None) -> Membership:
    """Voters of up to five, maybe joint with others; the rest may learn."""
    voters = draw(st.sets(_IDS, min_size=1, max_size=5))
    old = draw(st.sets(_IDS, min_size=1, max_size=5))
    joint = draw(st.booleans()) if is_joint is None else is_joint
    outgoing: set[NodeId] = old if joint else set()
    learners = draw(st.sets(_IDS)) - voters - outgoing
    return Membership(_tuples(voters), _tuples(outgoing), _tuples(learners))


_MATCHES = st.dictionaries(_IDS, st.integers(0, _INDEX_MAX).map(Index))
_VOTES = st.dictionaries(_IDS, st.booleans())


def _naive_quorum(membership: Membership, present: Iterable[NodeId]) -> bool:
    have = set(present)
    halves = [half for half in (membership.voters, membership.outgoing) if half]
    return all(any(m <= have for m in majorities(half)) for half in halves)


def _granting(votes: dict[NodeId, bool]) -> set[NodeId]:
    return {voter for voter, vote in votes.items() if vote}


@QUICK
@given(_memberships(), _MATCHES)
def test_an_index_is_committed_when_some_quorum_has_it(
    membership: Membership, matches: dict[NodeId, Index]
) -> None:
    reached = [
        index
        for index in range(_INDEX_MAX + 1)
        if _naive_quorum(
            membership,
            [n for n in membership.members if matches.get(n, 0) >= index],
        )
    ]
    assert committed_index(membership, matches) == max(reached)


@QUICK
@given(_memberships(), _VOTES)
def test_a_vote_is_decided_when_all_that_may_follow_ends_alike(
    membership: Membership, votes: dict[NodeId, bool]
) -> None:
    silent = [n for n in membership.members if n not in votes]
    ends = {
        _naive_quorum(
            membership, _granting({**votes, **dict(zip(silent, rest, strict=True))})
        )
        for rest in product((True, False), repeat=len(silent))
    }
    expected = {
        (True,): VoteResult.WON,
        (False,): VoteResult.LOST,
        (False, True): VoteResult.PENDING,
    }[tuple(sorted(ends))]
    assert vote_result(membership, votes) is expected


@QUICK
@given(_memberships(), _VOTES)
def test_a_quorum_is_a_vote_that_is_won(
    membership: Membership, votes: dict[NodeId, bool]
) -> None:
    naive = _naive_quorum(membership, _granting(votes))
    assert has_quorum(membership, votes) == naive
    assert (vote_result(membership, votes) is VoteResult.WON) == naive


@QUICK
@given(_memberships(is_joint=True), _MATCHES, _VOTES)
def test_joint_is_both_halves_and_neither_more_nor_less(
    membership: Membership, matches: dict[NodeId, Index], votes: dict[NodeId, bool]
) -> None:
    """Each half as if it were alone (paper 6)."""
    halves = [Membership(membership.voters), Membership(membership.outgoing)]
    assert committed_index(membership, matches) == min(
        committed_index(half, matches) for half in halves
    )
    assert has_quorum(membership, votes) == all(
        has_quorum(half, votes) for half in halves
    )


@QUICK
@given(_memberships(), _MATCHES, _VOTES)
def test_a_configuration_joint_with_itself_is_itself(
    membership: Membership, matches: dict[NodeId, Index], votes: dict[NodeId, bool]
) -> None:
    alone = Membership(membership.voters)
    twice = Membership(membership.voters, membership.voters)
    assert committed_index(twice, matches) == committed_index(alone, matches)
    assert vote_result(twice, votes) is vote_result(alone, votes)


@QUICK
@given(_memberships(), _MATCHES, _VOTES, st.data())
def test_a_learner_never_counts(
    membership: Membership,
    matches: dict[NodeId, Index],
    votes: dict[NodeId, bool],
    data: st.DataObject,
) -> None:
    """Whatever it has, and whatever it says (thesis 4.2.1)."""
    index, result = committed_index(membership, matches), vote_result(membership, votes)
    for outsider in range(1, 7):
        if membership.is_voter(NodeId(outsider)):
            continue
        matches[NodeId(outsider)] = data.draw(st.integers(0, _INDEX_MAX).map(Index))
        votes[NodeId(outsider)] = data.draw(st.booleans())
    assert committed_index(membership, matches) == index
    assert vote_result(membership, votes) is result


@QUICK
@given(_memberships(), _MATCHES, st.data())
def test_more_matched_is_never_less_committed(
    membership: Membership, matches: dict[NodeId, Index], data: st.DataObject
) -> None:
    before = committed_index(membership, matches)
    node = data.draw(st.sampled_from(membership.members))
    matches[node] = Index(matches.get(node, 0) + 1)
    assert before <= committed_index(membership, matches) <= before + 1


@QUICK
@given(_memberships(), _MATCHES, _VOTES)
def test_who_is_elected_without_a_committed_entry_cannot_be(
    membership: Membership, matches: dict[NodeId, Index], votes: dict[NodeId, bool]
) -> None:
    """Voters that win share one with those that have the entry (paper 5.4.3)."""
    committed = committed_index(membership, matches)
    have = {n for n in membership.members if matches.get(n, 0) >= committed}
    if vote_result(membership, votes) is VoteResult.WON:
        assert have & _granting(votes)


@QUICK
@given(_memberships())
def test_no_two_candidates_of_a_term_can_win(membership: Membership) -> None:
    """However the voters divide between two of them (paper 5.2)."""
    voters = tuple(dict.fromkeys(membership.voters + membership.outgoing))
    for sides in product((True, False), repeat=len(voters)):
        one = dict(zip(voters, sides, strict=True))
        other = {voter: not vote for voter, vote in one.items()}
        assert not (has_quorum(membership, one) and has_quorum(membership, other))
