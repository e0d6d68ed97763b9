"""Handing leadership over: thesis 3.10; rule 12."""

import pytest

from raftd.consensus import NodeId, RefusalReason, Refused, Role, Term
from raftd.consensus.messages import PreVote, TimeoutNow, Vote
from tests.consensus.helpers import T
from tests.consensus.network import Network


def _leading() -> Network:
    net = Network()
    net.elect(1)
    net.tick_all()
    net.sent.clear()
    return net


def test_a_caught_up_target_takes_over_without_time_passing() -> None:
    net = _leading()
    assert net.core(1).transfer(NodeId(3))
    net.settle()
    assert net.leader() == 3
    assert net.core(1).leader == 3
    assert not [m for m in net.sent if isinstance(m, PreVote)]
    assert all(m.transfer for m in net.sent if isinstance(m, Vote))


def test_a_target_that_lags_is_caught_up_first() -> None:
    net = _leading()
    net.held = {(1, 3)}
    net.propose(1, b"x")
    net.settle()
    net.core(1).transfer(NodeId(3))
    net.settle()
    assert not [m for m in net.sent if isinstance(m, TimeoutNow)]
    net.heal()
    net.settle()
    assert net.leader() == 3
    assert net.core(3).last_index >= 3


def test_proposals_meanwhile_are_refused_for_certain() -> None:
    net = _leading()
    net.cut = {(1, 3)}
    net.core(1).transfer(NodeId(3))
    last = net.core(1).last_index
    refused = net.core(1).propose(b"x")
    assert refused == Refused(RefusalReason.TRANSFERRING, NodeId(1))
    assert net.core(1).last_index == last


def test_a_leader_gives_up_after_t_and_goes_on() -> None:
    net = _leading()
    net.isolate(3)
    net.core(1).transfer(NodeId(3))
    net.tick_all(T)
    assert net.core(1).transfer_target is None
    net.propose(1, b"x")
    net.settle()
    assert net.core(1).commit_index == 2
    assert net.core(1).role is Role.LEADER


def test_the_request_ends_with_leadership_and_does_not_come_back() -> None:
    """A leader elected again must not refuse writes for ever."""
    net = _leading()
    net.isolate(3)
    net.core(1).transfer(NodeId(3))
    net.settle()
    net.core(1).step_down()
    net.heal()
    net.elect(1)
    assert net.core(1).transfer_target is None
    net.propose(1, b"x")
    net.settle()
    assert net.core(1).commit_index == net.core(1).last_index


def test_the_target_may_be_told_twice_or_too_late() -> None:
    """A message may come twice, or a term later."""
    net = _leading()
    net.core(1).transfer(NodeId(3))
    net.settle()
    (told,) = [m for m in net.sent if isinstance(m, TimeoutNow)]
    term = net.core(3).term
    net.inject(told)
    net.settle()
    assert (net.leader(), net.core(3).term) == (3, term)


def test_a_candidate_that_is_told_again_does_not_start_over() -> None:
    net = _leading()
    net.isolate(3)
    for _ in range(2):
        net.inject(TimeoutNow(NodeId(1), NodeId(3), net.core(3).term))
        net.settle()
    assert (net.core(3).role, net.core(3).term) == (Role.CANDIDATE, 2)


def test_only_the_leader_is_believed() -> None:
    net = _leading()
    net.inject(TimeoutNow(NodeId(2), NodeId(3), Term(1)))
    net.settle()
    assert net.leader() == 1


@pytest.mark.parametrize("target", [1, 3, 9])
def test_leadership_goes_to_other_voters_only(target: int) -> None:
    net = Network(3, voters=(1, 2))
    net.elect(1)
    assert not net.core(1).transfer(NodeId(target))
    assert net.core(1).transfer_target is None


def test_a_follower_has_nothing_to_hand_over() -> None:
    net = _leading()
    assert not net.core(2).transfer(NodeId(3))


def test_another_target_replaces_the_first() -> None:
    net = _leading()
    net.cut = {(1, 3)}
    net.core(1).transfer(NodeId(3))
    net.settle()
    net.core(1).transfer(NodeId(2))
    net.settle()
    assert net.leader() == 2
