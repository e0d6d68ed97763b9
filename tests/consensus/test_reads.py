"""Linearizable reads: thesis 6.4; rules 10 and 33. The oracle checks each answer."""

import pytest

from raftd.consensus import NodeId, Role, Term
from raftd.consensus.messages import (
    Heartbeat,
    HeartbeatReply,
    ReadIndexReply,
    ReadIndexRequest,
)
from tests.consensus.helpers import HEARTBEAT, T
from tests.consensus.network import Network


def _leading(size: int = 3) -> Network:
    net = Network(size)
    net.elect(1)
    net.tick_all(HEARTBEAT)
    net.sent.clear()
    return net


def test_a_read_is_confirmed_at_once_without_waiting_for_a_tick() -> None:
    net = _leading()
    ctx = net.read(1)
    net.settle()
    assert net[1].reads == {ctx: 1}


def test_a_single_node_answers_at_once() -> None:
    net = Network(1)
    net.elect(1)
    ctx = net.read(1)
    assert net.take_ready(1).reads == ((ctx, 1),)


def test_rule_10_reads_on_a_new_leader_wait_for_its_no_op() -> None:
    """Until then it does not know what is committed."""
    net = _leading()
    net.propose(1, b"x")
    net.settle()
    assert net.core(2).commit_index == 1
    net.isolate(1)
    net.held = {(2, 3)}
    net.elect_quietly(2)
    ctx = net.read(2)
    net.settle()
    assert net[2].reads == {}
    net.heal()
    net.tick(2, HEARTBEAT)
    assert net[2].reads == {ctx: 3}


def test_rule_33_a_leader_cut_off_answers_no_read() -> None:
    """Somebody else may lead and commit by now."""
    net = _leading()
    net.isolate(1)
    net.elect(2)
    net.propose(2, b"newer")
    net.settle()
    ctx = net.read(1)
    net.settle()
    assert net[1].reads == {}
    net.tick(1, 2 * T)
    assert net.core(1).role is not Role.LEADER
    assert net[1].reads_failed == [ctx]


def test_rule_33_replies_to_an_earlier_round_confirm_nothing_later() -> None:
    """Late replies, then a pause, then another read."""
    net = _leading()
    net.held = {(2, 1), (3, 1)}
    first = net.read(1)
    net.settle()
    late = [m for m in net.sent if isinstance(m, HeartbeatReply)]
    net.deliver_between(2, 1)
    net.settle()
    second = net.read(1)
    net.settle()
    assert net[1].reads == {first: 1}
    for m in late:
        net.inject(m)
    net.settle()
    assert second not in net[1].reads
    net.deliver_between(3, 1)
    net.settle()
    assert net[1].reads == {first: 1, second: 1}


def test_rule_33_rounds_are_numbered_anew_never_by_the_caller() -> None:
    net = _leading()
    for _ in range(2):
        net.core(1).read_index(7)
        net.take_ready(1)
        net.wire.clear()
        net.core(1).step_down()
        net.take_ready(1)
        net.elect(1)
        net.sent.clear()
    ctx = net.read(1)
    net.settle()
    assert ctx in net[1].reads
    rounds = [m.read_id for m in net.sent if isinstance(m, Heartbeat) and m.read_id]
    assert len(set(rounds)) == 1
    assert rounds[0] > 1, "the rounds before were not used again"


def test_reads_during_a_round_share_the_next_one() -> None:
    net = _leading()
    net.held = {(2, 1), (3, 1)}
    first = net.read(1)
    net.settle()
    later = [net.read(1) for _ in range(100)]
    net.settle()
    assert len([m for m in net.sent if isinstance(m, Heartbeat)]) == 2
    net.heal()
    net.settle()
    assert len([m for m in net.sent if isinstance(m, Heartbeat)]) == 4
    assert sorted(net[1].reads) == [first, *later]


def test_a_lost_confirmation_is_repeated_by_the_regular_heartbeat() -> None:
    net = _leading()
    net.cut = {(1, 2), (1, 3)}
    ctx = net.read(1)
    net.settle()
    net.heal()
    net.tick(1, HEARTBEAT)
    assert ctx in net[1].reads


def test_a_followers_read_goes_through_the_leader_and_can_be_served() -> None:
    net = _leading()
    net.propose(1, b"x")
    net.settle()
    assert net.core(2).commit_index == 1, "the follower was not told yet"
    ctxs = [net.read(2) for _ in range(3)]
    net.settle()
    assert net[2].reads == dict.fromkeys(ctxs, 2)
    assert net[2].applied[-1].index == 2
    assert len([m for m in net.sent if isinstance(m, ReadIndexRequest)]) == 1


def test_a_follower_that_acknowledged_only_just_now_can_serve_too() -> None:
    """The round's own heartbeat could not tell it that much (rule 15)."""
    net = _leading()
    net.held = {(2, 1), (3, 1)}
    net.propose(1, b"x")
    net.settle()
    net.deliver_between(3, 1)
    ctx = net.read(2)
    net.take_ready(2)
    acknowledgement, request = [i for i, p in enumerate(net.wire) if p[0] == 2]
    net.deliver(request)
    net.settle()
    assert net.core(2).commit_index == 1
    net.deliver(acknowledgement)
    net.deliver_between(3, 1)
    net.settle()
    assert net[2].reads == {ctx: 2}
    assert net[2].applied[-1].payload == b"x"


def test_a_read_without_a_leader_fails_at_once() -> None:
    net = Network()
    ctx = net.read(2)
    net.settle()
    assert net[2].reads_failed == [ctx]


@pytest.mark.parametrize("how", ["silence", "unreachable", "forgotten", "replaced"])
def test_a_followers_read_fails_when_the_leader_is_lost(how: str) -> None:
    net = _leading()
    net.cut = {(2, 1)}
    ctx = net.read(2)
    net.settle()
    assert net[2].reads_failed == []
    match how:
        case "silence":
            net.tick(2, T)
        case "unreachable":
            net.core(2).unreachable(NodeId(1))
        case "forgotten":
            net.core(2).forget_leader()
        case _:
            net.elect(3)
    net.settle()
    assert net[2].reads_failed == [ctx]
    assert net[2].reads == {}


def test_a_read_that_waits_to_be_sent_fails_with_its_leader() -> None:
    net = _leading()
    ctx = net.read(2)
    net.core(2).forget_leader()
    net.settle()
    assert net[2].reads_failed == [ctx]


def test_an_answer_meant_for_the_life_before_a_restart_answers_nothing() -> None:
    net = _leading()
    net.held = {(1, 2)}
    net.read(2)
    net.settle()
    (late,) = [m for m in net.sent if isinstance(m, ReadIndexReply)]
    net.restart(2)
    net.heal()
    net.tick_all(HEARTBEAT)
    net.held = {(2, 1)}
    ctx = net.read(2)
    net.settle()
    net.inject(late)
    net.settle()
    assert ctx not in net[2].reads


def test_a_leaders_reads_fail_when_it_steps_down() -> None:
    net = _leading()
    net.isolate(1)
    in_round = net.read(1)
    net.settle()
    queued = net.read(1)
    net.core(1).step_down()
    net.settle()
    assert net[1].reads_failed == [in_round, queued]


def test_a_request_at_a_former_leader_is_left_to_time_out() -> None:
    net = _leading()
    net.core(1).step_down()
    net.take_ready(1)
    request = ReadIndexRequest(NodeId(2), NodeId(1), Term(1), 5)
    net.inject(request)
    assert not net.core(1).has_ready
