"""Joint consensus, claim by claim: Raft paper 6; thesis 4.3."""

import itertools

import pytest

from raftd.consensus import (
    ConfigChange,
    EntryKind,
    NodeId,
    Role,
)
from raftd.consensus.messages import Append, Heartbeat, TimeoutNow
from tests.consensus.helpers import (
    HEARTBEAT,
    T,
    payloads,
)
from tests.consensus.network import Network
from tests.consensus.wishes import (
    members,
    replacing,
    see_through,
)
from tests.consensus.words import (
    accepted_by,
    heartbeat_reply_of,
    pre_vote_reply_of,
    sent,
    vote_reply_of,
)


def _begun() -> Network:
    """Every follower knows that {1 2 3} is joint with {1 4 5}; the leader is slow."""
    net = Network(5, voters=(1, 2, 3), learners=())
    net.elect(1)
    net[1].is_apply_held = True
    net.change(1, replacing((2, 3), (4, 5)))
    net.settle()
    net.tick(1, HEARTBEAT)
    assert net.core(2).membership == members(1, 4, 5, outgoing=(1, 2, 3))
    return net


def _joint() -> Network:
    """Node 1 leads that, and has proposed to leave it; nothing is delivered."""
    net = _begun()
    net.held = set(itertools.permutations(net.ids, 2))
    net[1].is_apply_held = False
    net.apply(1)
    net.settle()
    assert net.core(1).membership == members(1, 4, 5, outgoing=(1, 2, 3))
    return net


def test_6_entries_go_to_all_of_both_configurations() -> None:
    """In the joint phase (paper 6)."""
    net = _joint()
    net.propose(1, b"x")
    net.settle()
    assert set(net.core(1).followers()) == {2, 3, 4, 5}
    assert {m.dst for m in sent(net, Append, src=1)} == {2, 3, 4, 5}


@pytest.mark.parametrize(
    ("others", "is_enough"),
    [((4, 5), False), ((2, 3), False), ((2, 4), True), ((3, 5), True), ((2,), False)],
)
def test_6_agreement_needs_a_majority_of_the_old_and_of_the_new(
    others: tuple[int, ...], is_enough: bool
) -> None:
    """For entries (paper 6)."""
    net = _joint()
    place = net.propose(1, b"x")
    net.settle()
    for follower in others:
        net.inject(accepted_by(follower, 1, 1, place.index))
    assert (net.core(1).commit_index >= place.index) == is_enough


@pytest.mark.parametrize(
    ("others", "is_enough"),
    [
        ((1, 3), False),
        ((4, 5), False),
        ((1, 4), True),
        ((3, 4, 5), True),
        ((1,), False),
    ],
)
@pytest.mark.parametrize("asks_first", [True, False])
def test_6_elections_need_both_majorities(
    others: tuple[int, ...], is_enough: bool, asks_first: bool
) -> None:
    """And anybody of either configuration may come to lead (paper 6)."""
    net = _begun()
    net.isolate(2)
    core = net.core(2)
    if asks_first:
        net.tick(2, 2 * T)
        for voter in others:
            net.inject(pre_vote_reply_of(voter, 2, 2, granted=True))
        net.settle()
        assert (core.role is Role.CANDIDATE) == is_enough
        return
    net.inject(TimeoutNow(NodeId(1), NodeId(2), core.term))
    net.settle()
    for voter in others:
        net.inject(vote_reply_of(voter, 2, 2, granted=True))
    assert (core.role is Role.LEADER) == is_enough


@pytest.mark.parametrize(
    ("others", "stays"), [((2, 3), False), ((4, 5), False), ((3, 4), True)]
)
def test_6_a_joint_leader_keeps_its_place_by_both_majorities(
    others: tuple[int, ...], stays: bool
) -> None:
    """Check-quorum asks what elections ask (thesis 6.2, for a joint phase)."""
    net = _joint()
    for _ in range(2 * T):
        for follower in others:
            net.inject(heartbeat_reply_of(follower, 1, 1))
        net.tick(1)
    assert (net.core(1).role is Role.LEADER) == stays


def test_6_the_second_entry_follows_by_itself_and_ends_the_joint_phase() -> None:
    """The leader adds it once the first is committed; then only the new counts."""
    net = Network(5, voters=(1, 2, 3), learners=())
    net.elect(1)
    see_through(net, replacing((2, 3), (4, 5)))
    assert [e.kind for e in net[1].applied] == [
        EntryKind.NORMAL,
        EntryKind.CONFIG,
        EntryKind.CONFIG,
    ]
    assert net.core(1).membership == members(1, 4, 5)
    net.isolate(2, 3)
    net.propose(1, b"x")
    net.settle()
    assert payloads(net, 1)[-1:] == [b"x"]


def test_6_clients_are_served_all_along() -> None:
    """Service goes on through the change (paper 6)."""
    net = _joint()
    before = net.core(1).commit_index
    net.heal()
    for number in range(5):
        net.propose(1, b"%d" % number)
        net.settle()
    assert payloads(net, 1)[-5:] == [b"%d" % number for number in range(5)]
    assert net.core(1).commit_index > before


def test_6_a_leader_that_is_not_in_the_new_configuration_ends_leading() -> None:
    """It manages a cluster without counting itself meanwhile (paper 6)."""
    net = Network(5, voters=(1, 2, 3), learners=())
    net.elect(1)
    see_through(net, replacing((1,), (4,)))
    net.tick_all(2)
    leader = net.leader()
    assert leader in (2, 3, 4)
    assert net.core(1).role is Role.FOLLOWER
    assert net.core(1).is_removed
    assert net.core(leader or 0).membership == members(2, 3, 4)
    net.tick_all(5 * T)
    assert net.leader() == leader


def test_6_a_change_whose_leader_fails_goes_on_under_the_next() -> None:
    """The entry is committed by a later leader like any other (paper 6)."""
    net = Network(5, voters=(1, 2, 3), learners=())
    net.elect(1)
    net.held = {(2, 1), (3, 1)}
    net.change(1, replacing((3,), (4,)))
    net.settle()
    net.heal()
    net.isolate(1)
    for node in (2, 3):
        net.core(node).forget_leader()
    net.elect(2)
    net.tick(2, 2 * HEARTBEAT)
    assert net.core(2).membership == members(1, 2, 4)
    assert net.core(4).membership == members(1, 2, 4)
    assert sent(net, Heartbeat, src=2, dst=4)


def test_4_3_a_change_of_nothing_but_words_is_committed_like_any() -> None:
    """An entry of configuration that keeps the voters is never joint (thesis 4.3)."""
    net = Network()
    net.elect(1)
    see_through(net, ConfigChange(context=b"addresses"))
    assert {net.core(node).membership for node in net.ids} == {members(1, 2, 3)}
    assert len(net[3].applied) == 2
