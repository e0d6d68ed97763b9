"""Who gets a vote: Raft paper 5.2 and 5.4.1; thesis 9.6; rules 2, 3, 5, 7, 8."""

import itertools

import pytest

from raftd.consensus import (
    HardState,
    Index,
    NodeId,
    Role,
    Term,
)
from raftd.consensus.messages import (
    PreVoteReply,
    TimeoutNow,
    Vote,
    VoteReply,
)
from tests.consensus.helpers import (
    T,
    pre_vote_of,
    vote_of,
)
from tests.consensus.network import Network, entries_of_terms


def _answers(net: Network, src: int) -> list[tuple[type, Term, bool]]:
    """What `src` sent in reply to (pre-)votes."""
    return [
        (type(m), m.term, m.granted)
        for m in net.sent
        if m.src == src and isinstance(m, PreVoteReply | VoteReply)
    ]


def test_rule_2_a_pre_vote_changes_nothing_at_the_voter() -> None:
    net = Network()
    net.inject(pre_vote_of(1, 2, 1))
    ready = net.take_ready(2)
    assert ready.write is None
    assert net.core(2).term == 0
    assert _answers(net, 2) == [(PreVoteReply, 1, True)]


def test_rule_3_a_pre_vote_of_a_lower_term_is_answered_with_the_higher_one() -> None:
    net = Network(logs={2: entries_of_terms(1, 2, 3)}, terms={2: 5})
    net.inject(pre_vote_of(1, 2, 3))
    net.settle()
    assert _answers(net, 2) == [(PreVoteReply, 5, False)]
    assert net.core(1).term == 5, "the asker has learnt the term"


def test_rule_3_a_returning_leader_is_not_refused_for_its_own_sake() -> None:
    net = Network()
    net.elect(1)
    net.restart(1)
    net.inject(pre_vote_of(1, 2, 2, (1, 1)))
    net.take_ready(2)
    assert _answers(net, 2)[-1] == (PreVoteReply, 2, True)


def test_rule_3_a_grant_is_no_contact_with_a_leader() -> None:
    net = Network()
    net.elect(1)
    before = net.core(2).ticks_since_contact
    net.core(2).tick()
    net.core(2).forget_leader()
    net.core(2).tick()
    passed = net.core(2).ticks_since_contact
    net.inject(pre_vote_of(3, 2, 2, (1, 1)))
    net.take_ready(2)
    assert _answers(net, 2)[-1] == (PreVoteReply, 2, True)
    assert net.core(2).ticks_since_contact == passed > before


def test_the_last_contact_ages_through_campaigns_votes_and_lost_leadership() -> None:
    """What a stale read tells of its age must not begin anew with an election."""
    net = Network()
    net.elect(1)
    net.isolate(1)
    net.isolate(2)
    ages: list[list[int]] = []
    for _ in range(4):
        net.tick_all(2 * T)
        net.settle()
        ages.append([net.core(node).ticks_since_contact for node in (1, 2, 3)])
    for one, next_one in itertools.pairwise(ages):
        assert [
            after - before for before, after in zip(one, next_one, strict=True)
        ] == [2 * T] * 3
    assert min(ages[0]) >= T


def test_rule_5_campaigns_are_ignored_while_the_leader_is_heard() -> None:
    net = Network()
    net.elect(1)
    net.inject(vote_of(3, 2, 9, (9, 99)))
    net.inject(pre_vote_of(3, 2, 9, (9, 99)))
    net.inject(vote_of(3, 1, 9, (9, 99)))
    net.settle()
    assert (net.core(2).term, net.core(1).term) == (1, 1)
    assert net.leader() == 1
    net.isolate(2)
    net.tick(2, T)
    net.inject(vote_of(3, 2, 9, (9, 99)))
    assert net.core(2).term == 9, "after T of silence the lease is over"


def test_rule_5_a_transfer_overrides_the_lease() -> None:
    net = Network()
    net.elect(1)
    vote = Vote(NodeId(3), NodeId(2), Term(2), Index(1), Term(1), transfer=True)
    net.inject(vote)
    net.settle()
    assert net[2].disk.hard_state == HardState(Term(2), NodeId(3))


@pytest.mark.parametrize(
    ("last", "granted"),
    [((2, 2), False), ((2, 3), True), ((2, 4), True), ((1, 9), False), ((3, 1), True)],
)
def test_rule_7_votes_go_to_logs_at_least_as_long(
    last: tuple[int, int], granted: bool
) -> None:
    """Raft paper 5.4.1: the later last term, then the larger last index."""
    net = Network(logs={2: entries_of_terms(1, 2, 2)})
    net.inject(pre_vote_of(1, 2, 5, last))
    net.inject(vote_of(1, 2, 5, last))
    net.settle()
    assert [answer[2] for answer in _answers(net, 2)] == [granted, granted]


def test_rule_7_one_vote_per_term_and_the_same_answer_again() -> None:
    """Raft paper 5.2: first come, first served, also after a crash."""
    net = Network()
    for src in (1, 3, 1):
        net.inject(vote_of(src, 2, 1))
        net.settle()
    net.restart(2)
    for src in (3, 1):
        net.inject(vote_of(src, 2, 1))
        net.settle()
    given = [(m.dst, m.granted) for m in net.sent if isinstance(m, VoteReply)]
    assert given == [(1, True), (3, False), (1, True), (3, False), (1, True)]


def test_rule_7_requests_and_the_own_vote_wait_for_the_disk() -> None:
    net = Network()
    net[1].is_disk_held = True
    net.tick(1, 2 * T)
    assert net.core(1).role is Role.CANDIDATE
    assert not [m for m in net.sent if isinstance(m, Vote)]
    net.finish_write(1)
    assert len([m for m in net.sent if isinstance(m, Vote)]) == 2
    net.settle()
    assert net.core(1).role is Role.LEADER


def test_rule_7_a_durable_vote_of_an_older_term_is_not_counted() -> None:
    """The write that completes belongs to a campaign that is over."""
    net = Network()
    net.isolate(1)
    net[1].is_disk_held = True
    net.inject(VoteReply(NodeId(2), NodeId(1), Term(1), False))
    net.settle()
    net.inject(TimeoutNow(NodeId(2), NodeId(1), Term(1)))
    net.settle()
    assert net.core(1).term == 2
    net.finish_write(1)
    net.inject(VoteReply(NodeId(2), NodeId(1), Term(2), True))
    net.settle()
    won_by_others = net.core(1).role
    assert won_by_others is Role.CANDIDATE, "one vote of three is no majority"
    net.finish_write(1)
    assert net.core(1).role is Role.LEADER


def test_rule_8_a_learner_votes_when_asked_but_never_campaigns() -> None:
    net = Network(3, voters=(1, 2))
    net.tick(3, 5 * T)
    assert net.core(3).role is Role.FOLLOWER
    net.inject(vote_of(1, 3, 4))
    net.settle()
    assert _answers(net, 3) == [(VoteReply, 4, True)]


def test_rule_8_a_stranger_is_given_a_vote_too() -> None:
    """It may be a member that this node has not heard of yet."""
    net = Network(2, voters=(1,))
    net.inject(vote_of(2, 1, 4))
    net.settle()
    assert _answers(net, 1) == [(VoteReply, 4, True)]
