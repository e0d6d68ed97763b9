"""Who leaves, and who takes over: thesis 3.10 and 4.2; rules 5, 9, 12, 14 and 44."""

from raftd.consensus import (
    ChangeKind,
    ConfigChange,
    Index,
    Membership,
    NodeId,
    RefusalReason,
    Refused,
    Role,
    Term,
)
from raftd.consensus.messages import Heartbeat, HeartbeatReply, TimeoutNow
from tests.consensus.disk import Snapshot
from tests.consensus.helpers import (
    HEARTBEAT,
    T,
    change_of,
    change_quietly,
    limited,
    removing,
)
from tests.consensus.network import Network


def test_a_removed_follower_is_told_and_forgotten() -> None:
    net = Network()
    net.elect(1)
    net.tick(1, HEARTBEAT)
    net.change(1, removing(3))
    net.settle()
    assert net.core(3).is_removed
    assert not net.core(2).is_removed
    assert list(net.core(1).followers()) == [2]
    before = len(net.sent)
    net.tick(1, 2 * HEARTBEAT)
    assert {m.dst for m in net.sent[before:] if m.src == 1} == {2}


def test_a_node_that_was_never_in_is_not_removed() -> None:
    net = Network(4, voters=(1, 2), learners=(3,))
    assert not net.core(4).is_removed
    net.elect(1)
    change_quietly(net, change_of((ChangeKind.ADD_LEARNER, 4)))
    change_quietly(net, removing(4))
    assert net.core(4).is_removed


def test_rule_44_a_removed_leader_tells_the_commit_index_before_it_hands_over() -> None:
    net = Network()
    net.elect(1)
    net.change(1, removing(1))
    net.held |= {(1, 2), (1, 3)}
    net.settle()
    for follower in (2, 3):
        net.deliver_between(1, follower)
    net.settle()
    told = [m for m in net.sent if m.src == 1][-2:]
    assert isinstance(told[0], Heartbeat)
    assert told[0].commit == net.core(1).commit_index == 2
    assert isinstance(told[1], TimeoutNow)
    assert told[0].dst == told[1].dst
    assert net.core(1).is_removed
    assert net.core(1).role is Role.LEADER
    answer = net.core(1).propose(b"x")
    assert answer == Refused(RefusalReason.TRANSFERRING, NodeId(1))


def test_rule_44_it_steps_down_after_one_timeout_whatever_happens() -> None:
    net = Network()
    net.elect(1)
    net.core(2).unfit = net.core(3).unfit = True
    net.change(1, removing(1))
    net.settle()
    net.tick(1, T - 1)
    assert net.core(1).role is Role.LEADER
    net.tick(1)
    assert net.core(1).role is Role.FOLLOWER
    net.tick(1, 3 * T)
    assert net.core(1).role is Role.FOLLOWER


def test_rule_44_it_hands_over_to_somebody_in_touch() -> None:
    """Though another one has as much of the log."""
    net = Network()
    net.elect(1)
    net[1].is_apply_held = True
    net.change(1, removing(1))
    net.settle()
    net.isolate(2)
    net.tick(1, 2 * T)
    matches = net.core(1).match_indexes()
    assert matches[NodeId(2)] == matches[NodeId(3)]
    assert not net.core(1).followers()[NodeId(2)].is_active
    net.apply(1)
    assert net.core(1).transfer_target == 3


def test_rule_44_it_hands_over_to_who_has_most_of_the_log() -> None:
    net = Network()
    net.elect(1)
    net.held.add((1, 2))
    net.core(3).unfit = True
    net.change(1, removing(1))
    net.settle()
    assert net.core(1).transfer_target == 3


def test_who_was_heard_before_the_last_check_is_still_active() -> None:
    """A leader that has just checked would else have nobody in touch."""
    net = Network()
    net.elect(1)
    net.tick(1, T - net.core(1).role_ticks - 1)
    net.isolate(3)
    net.core(1).tick()
    assert net.core(1).followers()[NodeId(3)].is_active
    net.tick(1, T)
    assert not net.core(1).followers()[NodeId(3)].is_active


def _told_too_early() -> Network:
    """Node 2 is told to take over while it applies a change."""
    net = Network()
    net.elect(1)
    net[2].is_apply_held = True
    change_quietly(net, ConfigChange())
    net.isolate(2)
    net.inject(TimeoutNow(NodeId(1), NodeId(2), Term(1)))
    net.settle()
    assert net.core(2).role is Role.FOLLOWER
    return net


def test_rule_9_a_campaign_that_has_to_wait_comes_right_after() -> None:
    net = _told_too_early()
    net.apply(2)
    assert net.core(2).role is Role.CANDIDATE


def test_rule_12_a_campaign_that_waited_too_long_does_not_come() -> None:
    net = _told_too_early()
    net.tick(2, T)
    net.apply(2)
    assert net.core(2).role is Role.FOLLOWER


def test_rule_12_a_campaign_is_for_the_term_that_asked_for_it() -> None:
    net = _told_too_early()
    net.inject(Heartbeat(NodeId(3), NodeId(2), Term(5), Index(0)))
    net.apply(2)
    assert net.core(2).role is Role.FOLLOWER


def test_rule_5_and_44_a_late_word_of_a_removed_node_is_not_heeded() -> None:
    net = Network()
    net.elect(1)
    change_quietly(net, removing(3))
    net.inject(HeartbeatReply(NodeId(3), NodeId(1), Term(9)))
    net.settle()
    assert (net.core(1).role, net.core(1).term) == (Role.LEADER, 1)
    net.inject(HeartbeatReply(NodeId(2), NodeId(1), Term(9)))
    net.settle()
    assert (net.core(1).role, net.core(1).term) == (Role.FOLLOWER, 9)


def test_an_unfit_node_votes_but_does_not_lead() -> None:
    """Rule 14; alone or not."""
    net = Network(1, configure=limited())
    net.core(1).unfit = True
    assert net.core(1).unfit
    net.tick(1, 5 * T)
    assert net.core(1).role is Role.FOLLOWER
    net.core(1).unfit = False
    net.tick(1, 2 * T)
    assert net.core(1).role is Role.LEADER


def test_nobody_is_a_member_of_nothing() -> None:
    net = Network(1)
    net[1].disk.state = Snapshot(Index(0), Term(0), Membership(()))
    net.restart(1)
    net.tick(1, 5 * T)
    assert net.core(1).role is Role.FOLLOWER
    assert not net.core(1).is_removed
