"""Who gets a vote: Raft paper 5.2 and 5.4.1; thesis 9.6; rules 2, 3, 5, 7, 8."""

import itertools

import pytest

from raftd.consensus import (
    ConfigChange,
    Core,
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
    HEARTBEAT,
    T,
    limited,
    pre_vote_of,
    removing,
    vote_of,
)
from tests.consensus.network import Network, entries_of_terms
from tests.consensus.words import pre_vote_reply_of


def _answers(net: Network, src: int) -> list[tuple[type, Term, bool]]:
    """What `src` sent in reply to (pre-)votes."""
    return [
        (type(m), m.term, m.granted)
        for m in net.sent
        if m.src == src and isinstance(m, PreVoteReply | VoteReply)
    ]


_SOON = range(HEARTBEAT, 3 * HEARTBEAT + 1)


def _standing(seed: int, *, pre_vote: bool = True) -> Network:
    """Node 2 stands in term 2, after the leader of term 1 is gone."""
    net = Network(seed=seed, configure=limited(pre_vote=pre_vote))
    net.elect(1)
    net.isolate(2)
    net.core(2).forget_leader()
    net.tick(2, 2 * HEARTBEAT)
    if pre_vote:
        net.inject(pre_vote_reply_of(3, 2, 2, granted=True))
        net.settle()
    assert (net.core(2).role, net.core(2).term) == (Role.CANDIDATE, 2)
    return net


def _wait(core: Core) -> int:
    """Let time pass until it campaigns again; return how many ticks."""
    for ticks in range(1, 2 * T + 1):
        core.tick()
        if core.role_ticks == 0:
            return ticks
    raise AssertionError("it does not campaign")


def test_rule_1_candidates_that_take_each_others_votes_try_again_soon() -> None:
    waits = set()
    for seed in range(40):
        net = _standing(seed)
        net.inject(vote_of(3, 2, 2, (1, 1)))
        waits.add(_wait(net.core(2)))
        assert net.core(2).role is Role.PRE_CANDIDATE, "it asks first"
    assert waits == set(_SOON), "equal waits would let them collide again"


def test_rule_1_a_rival_with_a_shorter_log_is_no_reason_to_wait() -> None:
    net = _standing(0)
    net.inject(vote_of(3, 2, 2, (0, 0)))
    assert _wait(net.core(2)) in _SOON


@pytest.mark.parametrize("seed", range(5))
def test_rule_1_who_is_behind_its_rival_does_not_hurry(seed: int) -> None:
    net = _standing(seed)
    age = net.core(2).role_ticks
    net.inject(vote_of(3, 2, 2, (1, 2)))
    assert age + _wait(net.core(2)) >= T


@pytest.mark.parametrize("seed", range(5))
def test_rule_1_nobody_hurries_who_would_not_ask_first(seed: int) -> None:
    """Without pre-votes it would depose whom the others have elected meanwhile."""
    net = _standing(seed, pre_vote=False)
    age = net.core(2).role_ticks
    net.inject(vote_of(3, 2, 2, (1, 1)))
    assert age + _wait(net.core(2)) >= T


def test_rule_1_votes_that_split_again_and_again_are_tried_again_as_usual() -> None:
    net = _standing(0)
    core = net.core(2)
    waits = []
    for term in range(2, 8):
        net.inject(vote_of(3, 2, term, (1, 1)))
        waits.append(_wait(core))
        net.inject(pre_vote_reply_of(3, 2, term + 1, granted=True))
        net.settle()
        assert (core.role, core.term) == (Role.CANDIDATE, term + 1)
    assert all(wait in _SOON for wait in waits[:3])
    assert all(T <= wait < 2 * T for wait in waits[3:])


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


def _unaware(size: int, change: ConfigChange, *, pre_vote: bool) -> Network:
    """Node 2 stands in term 2; it has a change, and does not know it is committed."""
    net = Network(size, configure=limited(pre_vote=pre_vote))
    net.elect(1)
    net.tick(1, HEARTBEAT)
    net.change(1, change)
    net.settle()
    assert (net.core(1).commit_index, net.core(2).commit_index) == (2, 1)
    net.isolate(2)
    net.core(2).forget_leader()
    net.tick(2, 2 * HEARTBEAT)
    return net


@pytest.mark.parametrize("pre_vote", [True, False])
def test_rule_9_a_grant_tells_of_a_change_that_makes_another_one_needless(
    pre_vote: bool,
) -> None:
    """Without it node 2 would wait for node 4, which is out of the way for good."""
    net = _unaware(4, removing(4), pre_vote=pre_vote)
    kind = PreVoteReply if pre_vote else VoteReply
    known = Index(2), Term(1)
    net.inject(kind(NodeId(3), NodeId(2), Term(2), True, *known))
    assert net.core(2).role is Role.FOLLOWER, "the change is applied first"
    net.settle()
    assert net.core(2).membership.voters == (1, 2, 3)
    assert net.core(2).commit_index == 2


@pytest.mark.parametrize("pre_vote", [True, False])
def test_rule_9_a_grant_that_wins_ends_no_campaign(pre_vote: bool) -> None:
    net = _unaware(3, removing(3), pre_vote=pre_vote)
    kind = PreVoteReply if pre_vote else VoteReply
    known = Index(2), Term(1)
    net.inject(kind(NodeId(3), NodeId(2), Term(2), True, *known))
    won = Role.CANDIDATE if pre_vote else Role.LEADER
    assert (net.core(2).role, net.core(2).commit_index) == (won, 1)


@pytest.mark.parametrize("kind", [PreVoteReply, VoteReply])
def test_who_grants_says_what_it_knows_to_be_committed(
    kind: type[PreVoteReply | VoteReply],
) -> None:
    net = Network()
    net.elect(1)
    net.tick(1, HEARTBEAT)
    net.core(2).forget_leader()
    ask = pre_vote_of if kind is PreVoteReply else vote_of
    net.inject(ask(3, 2, 2, (1, 1)))
    net.settle()
    told = [m for m in net.sent if isinstance(m, kind) and m.src == 2][-1]
    assert (told.granted, told.commit, told.commit_term) == (True, 1, 1)


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
