"""Windows, probes and limits: thesis 10.2.1; rules 19-21 and 31."""

import pytest

from raftd.consensus import (
    NodeId,
    RefusalReason,
    Refused,
    Term,
)
from raftd.consensus.messages import (
    HeartbeatReply,
)
from raftd.consensus.progress import ProgressState
from tests.consensus.helpers import (
    HEARTBEAT,
    appends_to,
    limited,
    payloads,
)
from tests.consensus.network import Network


def test_rule_19_an_unreachable_follower_is_probed_once_it_is_heard() -> None:
    net = Network()
    net.elect(1)
    net.cut = {(1, 2), (2, 1)}
    net.core(1).unreachable(NodeId(2))
    net.sent.clear()
    for payload in (b"a", b"b"):
        net.propose(1, payload)
        net.settle()
    assert net.core(1).progress_states()[NodeId(2)] is ProgressState.PROBE
    assert not appends_to(net.sent, 2), "nothing is sent into a broken link"
    net.heal()
    net.tick_all(HEARTBEAT)
    assert net.core(1).progress_states()[NodeId(2)] is ProgressState.REPLICATE
    assert net.core(2).last_index == 3


def test_rule_20_the_window_is_bounded_in_messages() -> None:
    net = Network(configure=limited(inflight_messages_max=2))
    net.elect(1)
    net.held = {(2, 1)}
    net.sent.clear()
    for _ in range(5):
        net.propose(1, b"x")
        net.settle()
    assert len(appends_to(net.sent, 2)) == 2
    net.heal()
    net.settle()
    assert net.core(2).last_index == 6


def test_rule_20_the_window_and_each_append_are_bounded_in_bytes() -> None:
    limits = limited(append_bytes_max=2_200, inflight_bytes_max=4_256)
    net = Network(configure=limits)
    net.elect(1)
    net.held = {(2, 1)}
    net.sent.clear()
    for _ in range(9):
        net.propose(1, b"x" * 1000)
    net.settle()
    assert [len(m.entries) for m in appends_to(net.sent, 2)] == [2, 2]
    net.heal()
    net.settle()
    assert net.core(2).last_index == 10


@pytest.mark.parametrize("window", [1, 256])
def test_rule_20_a_window_lost_as_a_whole_recovers(window: int) -> None:
    """Nothing more is proposed."""
    net = Network(configure=limited(inflight_messages_max=window))
    net.elect(1)
    net.cut = {(1, 2)}
    for _ in range(3):
        net.propose(1, b"x")
        net.settle()
    net.heal()
    net.sent.clear()
    net.tick_all(2 * HEARTBEAT)
    assert any(not m.entries for m in appends_to(net.sent, 2)), "an empty append"
    assert net.core(2).last_index == 4


def test_a_regular_heartbeat_sets_off_at_most_one_append() -> None:
    """Replies to read confirmations must not multiply appends."""
    net = Network()
    net.elect(1)
    net.held = {(1, 2)}
    net.propose(1, b"x")
    net.settle()
    net.tick(1, HEARTBEAT)
    net.sent.clear()
    for _ in range(5):
        net.inject(HeartbeatReply(NodeId(2), NodeId(1), Term(1)))
        net.settle()
    assert len(appends_to(net.sent, 2)) == 1


def test_rule_21_too_much_uncommitted_is_refused_and_nothing_happened() -> None:
    net = Network(configure=limited(uncommitted_bytes_max=10))
    net.elect(1)
    net.isolate(1)
    assert not isinstance(net.core(1).propose(b"x" * 50), Refused), "the first passes"
    last = net.core(1).last_index
    refused = net.core(1).propose(b"y")
    assert refused == Refused(RefusalReason.TOO_MUCH_UNCOMMITTED, NodeId(1))
    assert net.core(1).last_index == last
    assert not isinstance(net.core(1).propose(b""), Refused), "an empty one passes"
    net.heal()
    net.tick_all(2 * HEARTBEAT)
    assert net.core(1).uncommitted_bytes == 0
    assert not isinstance(net.core(1).propose(b"y"), Refused)


def test_rule_21_what_is_being_applied_is_bounded() -> None:
    net = Network(1, configure=limited(apply_bytes_max=2_200))
    net.elect(1)
    net[1].is_apply_held = True
    for _ in range(5):
        net.propose(1, b"x" * 1000)
    net.settle()
    assert len(payloads(net, 1)) == 2
    assert not net.core(1).has_ready
    net.core(1).applied(3)
    net.settle()
    assert len(payloads(net, 1)) == 4


def test_a_slow_follower_is_fed_from_disk_when_memory_has_moved_on() -> None:
    net = Network(configure=limited(cached_log_bytes_max=500))
    net.elect(1)
    net.isolate(3)
    for at in range(50):
        net.propose(1, b"%03d" % at)
        net.settle()
    assert net.core(1).commit_index == 51
    net.heal()
    net.tick_all(2 * HEARTBEAT)
    assert payloads(net, 3) == [b"%03d" % at for at in range(50)]


def test_a_cut_log_stops_sending_what_is_gone_and_nothing_else() -> None:
    """Rule 31: snapshots are a later step; until then only heartbeats go there."""
    net = Network()
    net.elect(1)
    net.isolate(3)
    for _ in range(5):
        net.propose(1, b"x")
        net.settle()
    net.core(1).compact(5)
    assert (net.core(1).first_index, net.core(1).term_at(5)) == (6, 1)
    net.heal()
    net.tick_all(2 * HEARTBEAT)
    assert net.core(1).progress_states()[NodeId(3)] is ProgressState.SNAPSHOT
    assert net.core(3).leader == 1
    net.propose(1, b"y")
    net.settle()
    assert net.core(1).commit_index == 7
