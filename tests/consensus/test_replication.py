"""Replication and commit: Raft paper 5.3, 5.4.2; thesis 10.2.1; rules 11, 23."""

from raftd.consensus import (
    Config,
    HardState,
    Index,
    Membership,
    NodeId,
    Persisted,
    RefusalReason,
    Refused,
    Role,
    Term,
)
from raftd.consensus.core import Core
from raftd.consensus.messages import (
    Append,
    AppendReply,
    Heartbeat,
)
from tests.consensus.helpers import (
    HEARTBEAT,
    appends_to,
    payloads,
)
from tests.consensus.network import Network, entries_of_terms


def test_proposals_are_applied_everywhere_in_order() -> None:
    """Raft paper 5.3."""
    net = Network()
    net.elect(1)
    for payload in (b"a", b"b", b"c"):
        net.propose(1, payload)
        net.settle()
    net.tick_all()
    assert [payloads(net, n) for n in net.ids] == [[b"a", b"b", b"c"]] * 3


def test_what_is_proposed_together_travels_and_is_acknowledged_together() -> None:
    net = Network()
    net.elect(1)
    net.sent.clear()
    for payload in (b"a", b"b", b"c"):
        net.propose(1, payload)
    net.settle()
    (append,) = appends_to(net.sent, 2)
    assert [e.payload for e in append.entries] == [b"a", b"b", b"c"]
    assert len([m for m in net.sent if m.src == 2]) == 1


def test_several_appends_that_arrive_together_are_acknowledged_once() -> None:
    net = Network()
    net.elect(1)
    net.held = {(1, 2)}
    for payload in (b"a", b"b", b"c"):
        net.propose(1, payload)
        net.settle()
    net.sent.clear()
    net.deliver_between(1, 2)
    net.settle()
    replies = [m for m in net.sent if isinstance(m, AppendReply)]
    assert [(m.accepted, m.index) for m in replies] == [(True, 4)]


def test_appends_are_sent_ahead_of_their_replies() -> None:
    """Thesis 10.2.1: pipelining."""
    net = Network()
    net.elect(1)
    net.held = {(2, 1), (3, 1)}
    for payload in (b"a", b"b", b"c"):
        net.propose(1, payload)
        net.settle()
    assert net.core(2).last_index == 4
    assert net.core(1).commit_index == 1


def test_rule_23_appends_leave_beside_the_leaders_own_write() -> None:
    """Thesis 10.2.1: and two followers commit without the leader's disk."""
    net = Network()
    net.elect(1)
    net[1].is_disk_held = True
    net.propose(1, b"x")
    net.settle()
    assert net.core(1).durable_index == 1
    assert net.core(1).commit_index == 2


def test_the_leaders_own_copy_counts_only_when_durable() -> None:
    net = Network()
    net.elect(1)
    net.isolate(3)
    net[1].is_disk_held = True
    net.propose(1, b"x")
    net.settle()
    assert net.core(1).match_indexes() == {1: 1, 2: 2, 3: 1}
    assert net.core(1).commit_index == 1
    net.finish_write(1)
    assert net.core(1).commit_index == 2


def test_rule_11_an_older_terms_entry_commits_only_behind_one_of_this_term() -> None:
    """Raft paper 5.4.2."""
    net = Network(logs={1: entries_of_terms(1, 1), 2: entries_of_terms(1, 1)})
    net.isolate(3)
    net.held = {(1, 2)}
    net.elect_quietly(1)
    append = Append(NodeId(1), NodeId(2), Term(2), Index(2), Term(1), (), Index(0))
    net.drop_between(1, 2)
    net.inject(append)
    net.settle()
    assert net.core(1).match_indexes()[NodeId(2)] == 2
    assert net.core(1).commit_index == 0, "a majority has it, and that is not enough"
    net.heal()
    net.tick_all(2 * HEARTBEAT)
    assert net.core(1).commit_index == 3


def test_followers_and_strangers_may_not_propose() -> None:
    net = Network()
    assert net.core(1).propose(b"x") == Refused(RefusalReason.NOT_LEADER, None)
    net.elect(2)
    assert net.core(1).propose(b"x") == Refused(RefusalReason.NOT_LEADER, NodeId(2))


def test_commit_is_told_without_a_message_of_its_own_while_appends_flow() -> None:
    net = Network()
    net.elect(1)
    net.tick_all()
    net.sent.clear()
    net.propose(1, b"a")
    net.settle()
    assert len(net.sent) == 4, "two appends, two replies"
    assert net.core(2).commit_index == 1
    net.propose(1, b"b")
    net.settle()
    assert len(net.sent) == 8
    assert net.core(2).commit_index == 2


def test_commit_is_told_once_at_the_next_tick_when_nothing_follows() -> None:
    net = Network()
    net.elect(1)
    net.tick_all(HEARTBEAT)
    net.propose(1, b"a")
    net.settle()
    net.sent.clear()
    net.tick(1)
    assert net.core(2).commit_index == 2
    told = len([m for m in net.sent if isinstance(m, Heartbeat)])
    assert told == 2
    net.tick(1, HEARTBEAT - 1)
    assert len([m for m in net.sent if isinstance(m, Heartbeat)]) <= told + 2


def test_an_idle_cluster_writes_nothing() -> None:
    net = Network()
    net.elect(1)
    net.tick_all(HEARTBEAT)
    writes = [line for line in net.trace if " write " in line]
    net.tick_all(50)
    assert [line for line in net.trace if " write " in line] == writes


def test_peers_clocks_are_gathered_from_replies() -> None:
    net = Network()
    for node in net.ids:
        net.core(node).local_wall_ms = 1000 + node
    net.elect(1)
    net.tick_all(HEARTBEAT)
    assert net.core(1).peer_wall_ms == {2: 1002, 3: 1003}
    net.core(1).step_down()
    assert net.core(1).peer_wall_ms == {}


def test_ready_twice_in_a_row_gives_an_empty_one() -> None:
    net = Network()
    net.elect(1)
    net.propose(1, b"x")
    net.core(1).read_index(10**6)
    for node in net.ids:
        core = net.core(node)
        before = core.has_ready
        first = core.ready()
        assert before == (first != type(first)())
        assert core.ready() == type(first)()
        assert not core.has_ready


def test_a_start_hands_out_everything_up_to_the_stored_commit() -> None:
    log = entries_of_terms(1, 1, 2)
    persisted = Persisted(
        Membership((NodeId(1),)),
        hard_state=HardState(Term(2)),
        commit=Index(9),
        applied=Index(1),
        entries=log,
        term_runs=[(Index(1), Term(1)), (Index(3), Term(2))],
    )
    core = Core(Config(NodeId(1)), persisted, Network().rng)
    assert core.commit_index == 3, "clamped to the log (rule 26)"
    assert core.ready().commit == tuple(log[1:])
    assert core.role is Role.FOLLOWER
