"""Elections: Raft paper 5.1 and 5.2; thesis 4.2.3 and 9.6; rules 1-10 and 13."""

from random import Random

import pytest

from raftd.consensus import (
    Config,
    ConfigChange,
    Core,
    Entry,
    EntryKind,
    HardState,
    Index,
    Membership,
    NodeId,
    Persisted,
    Role,
    Term,
    encode_change,
)
from raftd.consensus.messages import (
    Append,
    AppendReply,
    Heartbeat,
    PreVoteReply,
)
from raftd.consensus.roles import ROLE_TRANSITIONS
from tests.consensus.helpers import (
    HEARTBEAT,
    T,
    limited,
)
from tests.consensus.network import Network, entries_of_terms


def test_one_leader_emerges_and_says_so_with_a_no_op() -> None:
    """Raft paper 5.2 and 8; rule 10."""
    net = Network()
    net.elect(2)
    leader = net.core(2)
    assert (leader.role, leader.term, leader.leader) == (Role.LEADER, 1, 2)
    assert leader.is_term_started
    assert net[2].applied == [Entry(Index(1), Term(1), EntryKind.NORMAL, b"")]
    assert {net.core(n).leader for n in net.ids} == {2}
    assert net[1].disk.hard_state.vote == 2


def test_a_single_node_elects_itself_once_its_vote_is_durable() -> None:
    net = Network(1)
    net[1].is_disk_held = True
    net.tick(1, 2 * T)
    assert net.core(1).role is Role.CANDIDATE
    net.finish_write(1)
    net.settle()
    assert net.core(1).role is Role.LEADER
    assert net.core(1).commit_index == 0, "its disk lacks the no-op"
    net.finish_write(1)
    net.settle()
    assert net.core(1).commit_index == 1


def test_rule_1_timeouts_are_spread_over_t_to_2t_and_redrawn() -> None:
    drawn = []
    for seed in range(200):
        net = Network(2, seed=seed)
        net.isolate(1)
        ticks = 0
        while net.core(1).role is Role.FOLLOWER:
            net.tick(1)
            ticks += 1
        drawn.append(ticks)
    assert min(drawn) == T
    assert max(drawn) == 2 * T - 1
    assert len(set(drawn)) == T


def test_rule_2_an_isolated_node_never_raises_the_term() -> None:
    net = Network()
    net.elect(1)
    net.isolate(3)
    net.tick_all(10 * T)
    assert net.core(3).role is Role.PRE_CANDIDATE
    assert net.core(3).term == 1
    net.heal()
    net.tick_all(T)
    assert net.leader() == 1
    assert net.core(1).term == 1, "nobody was deposed"


def test_without_pre_vote_the_returning_node_deposes_the_leader() -> None:
    """The harm that pre-vote is for (thesis 9.6); rule 6 then frees the node."""
    net = Network(configure=limited(pre_vote=False))
    net.elect(1)
    net.isolate(3)
    net.tick_all(5 * T)
    high = net.core(3).term
    assert high > 1
    net.heal()
    net.tick_all(4 * T)
    leader = net.leader()
    assert leader is not None
    assert net.core(leader).term > high
    assert {net.core(n).leader for n in net.ids} == {leader}


def test_rule_4_a_leader_without_a_majority_steps_down_in_time() -> None:
    net = Network(5)
    net.elect(1)
    net.isolate(1, 2)
    net.tick_all(2 * T)
    assert net.core(1).role is not Role.LEADER
    assert net.core(1).leader is None


def test_rule_4_a_leader_with_a_bare_majority_stays() -> None:
    net = Network(5)
    net.elect(1)
    net.isolate(1, 2, 3)
    net.tick_all(5 * T)
    assert (net.core(1).role, net.core(1).term) == (Role.LEADER, 1)


@pytest.mark.parametrize("kind", ["append", "heartbeat"])
def test_rule_6_a_leader_of_a_lower_term_is_told(kind: str) -> None:
    net = Network(terms={2: 7})
    header = (NodeId(1), NodeId(2), Term(3))
    if kind == "append":
        net.inject(Append(*header, Index(0), Term(0), (), Index(0)))
    else:
        net.inject(Heartbeat(*header, Index(0)))
    ready = net.take_ready(2)
    (reply,) = ready.send_now
    assert isinstance(reply, AppendReply)
    assert (reply.term, reply.accepted) == (7, False)


def test_rule_6_frees_a_node_that_is_stuck_at_a_high_term() -> None:
    net = Network(terms={3: 9})
    net.isolate(3)
    net.elect(1)
    net.heal()
    net.tick_all(4 * T)
    leader = net.leader()
    assert leader is not None
    assert net.core(leader).term > 9
    assert {net.core(n).leader for n in net.ids} == {leader}


def test_rule_9_no_campaign_before_the_stored_commit_is_applied() -> None:
    net = Network()
    net.elect(1)
    net.tick_all(2)
    net.propose(1, b"x")
    net.settle()
    net.tick_all()
    net.propose(1, b"carries the commit index")
    net.settle()
    net.restart(2)
    net[2].is_apply_held = True
    net.isolate(2)
    net.tick(2, 5 * T)
    assert net.core(2).role is Role.FOLLOWER
    net.core(2).applied(net[2].applied[-1].index)
    net.tick(2)
    assert net.core(2).role is Role.PRE_CANDIDATE


def test_rule_9_no_campaign_with_a_committed_config_change_unapplied() -> None:
    change = Entry(Index(1), Term(1), EntryKind.CONFIG, encode_change(ConfigChange()))
    net = Network()
    net[2].is_apply_held = True
    append = Append(
        NodeId(1), NodeId(2), Term(1), Index(0), Term(0), (change,), Index(1)
    )
    net.inject(append)
    net.isolate(2)
    net.tick(2, 5 * T)
    assert net.core(2).role is Role.FOLLOWER
    net.apply(2)
    net.tick(2)
    assert net.core(2).role is Role.PRE_CANDIDATE


def test_a_split_vote_ends_in_a_later_term() -> None:
    """Raft paper 5.2: random timeouts make it rare and short."""
    net = Network(2, configure=limited(pre_vote=False))
    net.held = {(1, 2), (2, 1)}
    for node in (1, 2):
        net.tick(node, 2 * T)
    assert {net.core(n).role for n in net.ids} == {Role.CANDIDATE}
    net.heal()
    net.settle()
    assert net.leader() is None
    net.tick_all(20 * T)
    assert net.leader() is not None


def test_a_candidate_follows_a_leader_of_its_own_term() -> None:
    """Raft paper 5.2."""
    net = Network(5)
    net.isolate(5)
    net.tick(5, 2 * T)
    net.inject(PreVoteReply(NodeId(1), NodeId(5), Term(1), True))
    net.inject(PreVoteReply(NodeId(2), NodeId(5), Term(1), True))
    net.settle()
    assert (net.core(5).role, net.core(5).term) == (Role.CANDIDATE, 1)
    net.inject(Heartbeat(NodeId(3), NodeId(5), Term(1), Index(0)))
    assert (net.core(5).role, net.core(5).leader) == (Role.FOLLOWER, 3)
    assert net.core(5).vote == 5, "the vote stands"


def test_rule_13_a_forgotten_leader_is_soon_replaced() -> None:
    net = Network()
    net.elect(1)
    net.isolate(1)
    for node in (2, 3):
        net.core(node).forget_leader()
    ticks = 0
    while not {net.core(n).role for n in (2, 3)} & {Role.LEADER}:
        net.tick(2)
        net.tick(3)
        ticks += 1
    assert ticks <= 2 * HEARTBEAT


def test_rule_13_a_leader_that_lives_keeps_its_place() -> None:
    """One follower's broken link deposes nobody: the other still hears the leader."""
    net = Network()
    net.elect(1)
    net.core(2).forget_leader()
    net.cut = {(1, 2), (2, 1)}
    net.tick_all(3 * T)
    assert net.leader() == 1
    net.heal()
    net.tick_all(T)
    assert (net.core(1).term, net.core(2).leader) == (1, 1)


def test_the_table_of_roles_has_no_way_around_an_election() -> None:
    assert set(ROLE_TRANSITIONS) == set(Role)
    makers = [role for role, nexts in ROLE_TRANSITIONS.items() if Role.LEADER in nexts]
    assert makers == [Role.CANDIDATE]
    assert ROLE_TRANSITIONS[Role.LEADER] == (Role.FOLLOWER,)


@pytest.mark.parametrize(
    ("log", "match"),
    [(entries_of_terms(3), "the term fell"), (entries_of_terms(1), None)],
)
def test_rule_27_a_term_below_the_log_is_damage(
    log: list[Entry], match: str | None
) -> None:
    persisted = Persisted(
        Membership((NodeId(1),)),
        entries=log,
        term_runs=[(Index(1), log[0].term)],
        hard_state=HardState(Term(2)),
    )
    if match is None:
        assert Core(Config(NodeId(1)), persisted, Random(0)).term == 2
        return
    with pytest.raises(AssertionError, match=match):
        Core(Config(NodeId(1)), persisted, Random(0))
