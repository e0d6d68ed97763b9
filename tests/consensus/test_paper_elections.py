"""Terms and elections, claim by claim: Raft paper 5.1, 5.2 and 5.6.

Pre-votes and check-quorum are off here, as in the paper; what they add is tested with
the thesis' sections on them.
"""

import itertools
from collections.abc import Callable

import pytest

from raftd.consensus import HardState, Message, NodeId, Role, Term
from raftd.consensus.messages import Append, AppendReply, Heartbeat, Vote, VoteReply
from tests.consensus.helpers import HEARTBEAT, T, append_of, limited, vote_of
from tests.consensus.network import Network, entries_of_terms
from tests.consensus.words import (
    accepted_by,
    heartbeat_of,
    heartbeat_reply_of,
    sent,
    vote_reply_of,
)

_PLAIN = limited(pre_vote=False, check_quorum=False)


def _plain(size: int = 3) -> Network:
    return Network(size, configure=_PLAIN)


def _in_role(role: Role) -> Network:
    """Node 2 of three is a follower, candidate or leader of term 1."""
    net = _plain()
    if role is Role.FOLLOWER:
        net.elect(1)
    elif role is Role.LEADER:
        net.elect(2)
    else:
        net.isolate(2)
        net.tick(2, 2 * T - 1)
    assert (net.core(2).role, net.core(2).term) == (role, 1)
    return net


_ROLES = (Role.FOLLOWER, Role.CANDIDATE, Role.LEADER)
_REQUESTS: dict[str, Callable[[int], Message]] = {
    "append": lambda term: append_of(2, term, (0, 0)),
    "heartbeat": lambda term: heartbeat_of(1, 2, term),
    "vote": lambda term: vote_of(1, 2, term, (9, 9)),
}
_REPLIES: dict[str, Callable[[int], Message]] = {
    "append reply": lambda term: accepted_by(1, 2, term, 0),
    "heartbeat reply": lambda term: heartbeat_reply_of(1, 2, term),
    "vote reply": lambda term: vote_reply_of(1, 2, term, granted=False),
}


@pytest.mark.parametrize("kind", _REQUESTS | _REPLIES)
@pytest.mark.parametrize("role", _ROLES)
def test_5_1_whoever_sees_a_larger_term_enters_it_as_a_follower(
    role: Role, kind: str
) -> None:
    """A node behind in terms catches up, and leads or stands no more (5.1)."""
    net = _in_role(role)
    net.inject((_REQUESTS | _REPLIES)[kind](5))
    assert (net.core(2).role, net.core(2).term) == (Role.FOLLOWER, 5)
    net.settle()
    assert net[2].disk.hard_state.term == 5


@pytest.mark.parametrize("kind", _REQUESTS)
@pytest.mark.parametrize("role", _ROLES)
def test_5_1_a_request_of_an_older_term_is_rejected(role: Role, kind: str) -> None:
    """It changes nothing, and the answer carries the newer term (5.1)."""
    net = _in_role(role)
    net.inject(heartbeat_of(3, 2, 4))
    net.settle()
    net.sent.clear()
    vote = net.core(2).vote
    net.inject(_REQUESTS[kind](3))
    net.settle()
    assert (net.core(2).term, net.core(2).leader, net.core(2).vote) == (4, 3, vote)
    (answer,) = [m for m in net.sent if m.src == 2]
    assert answer.term == 4
    if isinstance(answer, VoteReply):
        assert not answer.granted
    else:
        assert isinstance(answer, AppendReply)
        assert not answer.accepted


@pytest.mark.parametrize("kind", _REPLIES)
def test_5_1_a_reply_of_an_older_term_is_nothing(kind: str) -> None:
    """Terms detect what is obsolete (5.1)."""
    net = _in_role(Role.LEADER)
    net.inject(heartbeat_of(3, 2, 4))
    net.settle()
    net.inject(_REPLIES[kind](3))
    assert not net.core(2).has_ready
    assert net.core(2).term == 4


def test_5_1_the_term_of_a_node_never_falls_over_a_crash() -> None:
    """Each node stores its current term, which only rises (5.1, figure 2)."""
    net = _plain()
    net.inject(heartbeat_of(1, 2, 7))
    net.settle()
    net.restart(2)
    assert net.core(2).term == 7
    net.inject(heartbeat_of(1, 2, 3))
    assert net.core(2).term == 7


def test_5_1_at_most_one_leader_in_a_term() -> None:
    """A term without a winner has no leader; no term has two (5.1, 5.2)."""
    net = _plain(4)
    net.held = set(itertools.permutations(net.ids, 2))
    for node in (1, 2):
        net.tick(node, 2 * T - 1)
    for src, dst in ((1, 3), (2, 4), (1, 4), (2, 3), (1, 2), (2, 1)):
        net.deliver_between(src, dst)
    net.heal()
    net.settle()
    granted = [(m.src, m.dst) for m in sent(net, VoteReply) if m.granted]
    assert granted == [(3, 1), (4, 2)]
    assert [net.core(node).term for node in net.ids] == [1] * 4
    assert net.leader() is None
    while net.leader() is None:
        net.tick_all()
    assert min(net.core(node).term for node in net.ids) > 1


def test_5_2_nodes_start_as_followers() -> None:
    """Whatever they were before a crash (5.2)."""
    net = _plain()
    net.elect(2)
    net.restart(2)
    assert {net.core(node).role for node in net.ids} == {Role.FOLLOWER}
    assert net.core(2).leader is None


@pytest.mark.parametrize("kind", ["append", "heartbeat"])
def test_5_2_a_follower_stays_one_while_it_hears_its_leader(kind: str) -> None:
    """Each valid word of the leader starts its timer anew (5.2)."""
    net = _plain()
    net.isolate(2)
    for _ in range(8):
        net.inject(_REQUESTS[kind](1))
        net.settle()
        net.tick(2, T - 1)
        assert net.core(2).role is Role.FOLLOWER
    net.tick(2, T)
    assert net.core(2).role is Role.CANDIDATE


@pytest.mark.parametrize(("last", "is_granted"), [((9, 9), True), ((0, 0), False)])
def test_5_2_a_vote_given_starts_the_timer_anew_a_refused_one_does_not(
    last: tuple[int, int], is_granted: bool
) -> None:
    """Who grants a vote lets its candidate try (5.2, figure 2 for followers)."""
    net = Network(logs={2: entries_of_terms(1)}, configure=_PLAIN)
    net.isolate(2)
    net.inject(heartbeat_of(3, 2, 4))
    for _ in range(3):
        net.inject(vote_of(1, 2, 5, last))
        net.tick(2, T - 1)
    assert (net.core(2).vote == 1) == is_granted
    assert (net.core(2).role is Role.FOLLOWER) == is_granted


def test_5_2_a_leader_sends_heartbeats_to_everybody_all_the_time() -> None:
    """Else its followers would stand for election (5.2)."""
    net = _plain(5)
    net.elect(1)
    net.tick(1, HEARTBEAT)
    net.sent.clear()
    net.tick(1, 10 * HEARTBEAT)
    for follower in (2, 3, 4, 5):
        assert len(sent(net, Heartbeat, src=1, dst=follower)) == 10
    net.tick_all(5 * T)
    assert (net.leader(), net.core(1).term) == (1, 1)


def test_5_2_to_begin_an_election_is_one_step() -> None:
    """The term rises by one; it votes for itself and asks all others (5.2)."""
    net = _plain(5)
    net.isolate(3)
    net.tick(3, T - 1)
    assert net.core(3).role is Role.FOLLOWER
    while net.core(3).role is Role.FOLLOWER:
        net.tick(3)
    assert (net.core(3).role, net.core(3).term) == (Role.CANDIDATE, 1)
    assert net[3].disk.hard_state == HardState(Term(1), NodeId(3))
    asked = sent(net, Vote, src=3)
    assert [m.dst for m in asked] == [1, 2, 4, 5]
    assert {m.term for m in asked} == {1}


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7])
def test_5_2_a_candidate_wins_with_a_majority_of_the_whole_cluster(size: int) -> None:
    """Its own vote among them; not with one less (5.2)."""
    net = _plain(size)
    net.isolate(1)
    while net.core(1).role is Role.FOLLOWER:
        net.tick(1)
    needed = size // 2 + 1
    for voter in range(2, needed + 1):
        assert net.core(1).role is Role.CANDIDATE
        net.inject(vote_reply_of(voter, 1, 1, granted=True))
    assert net.core(1).role is Role.LEADER


def test_5_2_a_repeated_vote_is_one_vote() -> None:
    """Votes are counted by voter (5.2)."""
    net = _plain(5)
    net.isolate(1)
    while net.core(1).role is Role.FOLLOWER:
        net.tick(1)
    for _ in range(3):
        net.inject(vote_reply_of(2, 1, 1, granted=True))
    assert net.core(1).role is Role.CANDIDATE


def test_5_2_a_vote_of_another_term_does_not_help() -> None:
    """The majority must be of the same term (5.2)."""
    net = _plain()
    net.isolate(1)
    while net.core(1).term < 3:
        net.tick(1)
    net.inject(vote_reply_of(2, 1, 2, granted=True))
    assert net.core(1).role is Role.CANDIDATE
    net.inject(vote_reply_of(2, 1, 3, granted=True))
    assert net.core(1).role is Role.LEADER


@pytest.mark.parametrize("order", list(itertools.permutations((1, 3, 4))))
def test_5_2_one_vote_a_term_for_who_asks_first(order: tuple[int, ...]) -> None:
    """First come, first served; a new term is a new vote (5.2)."""
    net = _plain(4)
    for term in (1, 2):
        for candidate in order:
            net.inject(vote_of(candidate, 2, term))
            net.settle()
    given = [(m.term, m.dst) for m in sent(net, VoteReply, src=2) if m.granted]
    assert given == [(1, order[0]), (2, order[0])]


@pytest.mark.parametrize("known_term", [0, 1])
def test_5_2_a_vote_is_on_disk_before_it_is_heard_of(known_term: int) -> None:
    """Stable storage is updated before any answer (figure 2), for the vote alone too.

    Else a node that crashes in between could vote twice (5.2).
    """
    net = Network(terms={2: known_term}, configure=_PLAIN)
    net[2].is_disk_held = True
    net.inject(vote_of(1, 2, 1))
    net.settle()
    assert not sent(net, VoteReply)
    net.restart(2)
    net.inject(vote_of(3, 2, 1))
    net.settle()
    assert [(m.dst, m.granted) for m in sent(net, VoteReply)] == [(3, True)]


def test_5_2_a_winner_makes_itself_known_at_once() -> None:
    """It does not wait for its next heartbeat, so that nobody else stands (5.2)."""
    net = _plain(5)
    net.isolate(1)
    while net.core(1).role is Role.FOLLOWER:
        net.tick(1)
    net.sent.clear()
    for voter in (2, 3):
        net.inject(vote_reply_of(voter, 1, 1, granted=True))
    net.settle()
    assert [m.dst for m in sent(net, Append, src=1)] == [2, 3, 4, 5]


@pytest.mark.parametrize("kind", ["append", "heartbeat"])
def test_5_2_a_candidate_yields_to_a_leader_of_its_term_not_of_an_older_one(
    kind: str,
) -> None:
    """A legitimate leader's term is at least as large as its own (5.2)."""
    net = _in_role(Role.CANDIDATE)
    while net.core(2).term < 3:
        net.tick(2)
    net.inject(_REQUESTS[kind](2))
    assert (net.core(2).role, net.core(2).term) == (Role.CANDIDATE, 3)
    net.inject(_REQUESTS[kind](3))
    assert (net.core(2).role, net.core(2).leader) == (Role.FOLLOWER, 1)
    assert net.core(2).vote == 2


def test_5_2_a_candidate_without_an_answer_begins_again_in_the_next_term() -> None:
    """After a new election timeout, drawn anew from the same interval (5.2)."""
    net = _in_role(Role.CANDIDATE)
    waits = []
    for term in range(2, 42):
        ticks = 0
        while net.core(2).term < term:
            net.tick(2)
            ticks += 1
        waits.append(ticks)
        assert len(sent(net, Vote, src=2, dst=1)) == term
    assert min(waits) >= T
    assert max(waits) < 2 * T
    assert len(set(waits)) > T // 3


def test_5_2_split_votes_are_rare_and_end_soon() -> None:
    """Random timeouts: in most cases only one node times out first (5.2)."""
    terms: list[int] = []
    for seed in range(40):
        net = Network(5, seed=seed, configure=_PLAIN)
        while net.leader() is None:
            net.tick_all()
        terms.append(net.core(1).term)
    assert terms.count(1) >= 30
    assert max(terms) <= 4


def test_5_6_safety_does_not_depend_on_timing() -> None:
    """With messages slower than the timeout nobody may win, and nobody errs (5.6)."""
    net = _plain()
    net.held = set(itertools.permutations(net.ids, 2))
    for _ in range(12):
        net.tick_all(T)
        for packet in list(net.wire[:4]):
            net.deliver(net.wire.index(packet))
        net.settle()
    stalled = max(net.core(node).term for node in net.ids)
    assert stalled > 3
    net.heal()
    net.tick_all(10 * T)
    leader = net.leader()
    assert leader is not None
    assert {net.core(node).leader for node in net.ids} == {leader}
    net.check_logs()
