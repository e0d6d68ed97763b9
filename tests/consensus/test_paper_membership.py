"""Membership, claim by claim: thesis 4.1 and 4.2, and the erratum of 2015.

The erratum: D. Ongaro, "bug in single-server membership changes", raft-dev, 2015.
"""

from raftd.consensus import (
    EntryKind,
    NodeId,
    ProgressState,
    RefusalReason,
    Refused,
    Role,
)
from raftd.consensus.messages import PreVote, Vote
from tests.consensus.helpers import (
    HEARTBEAT,
    T,
    limited,
    payloads,
    pre_vote_of,
    vote_of,
)
from tests.consensus.network import Network
from tests.consensus.wishes import (
    adding,
    learning,
    members,
    removing,
    see_through,
)
from tests.consensus.words import (
    accepted_by,
    sent,
)

# --- one at a time: thesis 4.1, and the erratum ------------------------------------


def test_4_1_the_next_change_waits_for_the_one_before() -> None:
    """Two at once might have majorities without a node in common (thesis 4.1)."""
    net = Network(5, voters=(1, 2, 3), learners=())
    net.elect(1)
    net.cut = {(1, 2), (1, 3)}
    net.change(1, adding(4))
    net.settle()
    refused = Refused(RefusalReason.CHANGE_PENDING, NodeId(1))
    assert net.core(1).change(adding(5)) == refused
    net.heal()
    net.tick(1, 2 * HEARTBEAT)
    see_through(net, adding(5))
    assert net.core(1).membership == members(1, 2, 3, 4, 5)


def test_4_1_a_new_leader_counts_a_change_it_found_as_under_way() -> None:
    """It cannot know whether that is committed (thesis 4.1)."""
    net = Network(4, voters=(1, 2, 3), learners=())
    net.elect(1)
    net.held = {(2, 1), (3, 1)}
    net.change(1, adding(4))
    net.settle()
    net.heal()
    net.isolate(1)
    for node in (2, 3):
        net.core(node).forget_leader()
    net[2].is_apply_held = True
    net.elect(2)
    assert net.core(2).has_pending_change
    refused = Refused(RefusalReason.CHANGE_PENDING, NodeId(2))
    assert net.core(2).change(removing(3)) == refused
    net.apply(2)
    assert not net.core(2).has_pending_change
    assert net.core(2).membership == members(1, 2, 3, 4)


def test_erratum_2015_no_change_before_an_entry_of_the_own_term_is_committed() -> None:
    """Else: two leaders, each with a change of its own, and disjoint majorities.

    The first leader adds 5 on its own disk only; another wants to remove 1 before it
    has committed anything, so that {2 3 4} may agree without those whom {1 5} need.
    """
    net = Network(5, voters=(1, 2, 3, 4), learners=())
    net.elect(1)
    net.isolate(1)
    net.change(1, adding(5))
    net.settle()
    net.elect(2)
    net.isolate(1, 2)
    net.core(2).step_down()
    net.elect_quietly(2)
    refused = Refused(RefusalReason.TERM_NOT_STARTED, NodeId(2))
    assert net.core(2).change(removing(1)) == refused
    net.heal()
    net.tick_all(2 * T)
    leader = net.leader()
    assert leader is not None
    see_through(net, removing(1 if leader != 1 else 2), leader)
    assert len({net.core(node).membership for node in (3, 4)}) == 1


def test_4_1_removing_or_adding_one_keeps_majorities_in_touch() -> None:
    """So nothing joint is needed for one voter, from 1 up to 5 and back (4.1)."""
    net = Network(5, voters=(1,), learners=())
    net.elect(1)
    for node in (2, 3, 4, 5):
        see_through(net, adding(node))
        assert net.core(1).membership == members(*range(1, node + 1))
    for node in (5, 4, 3, 2):
        see_through(net, removing(node))
        assert net.core(1).membership == members(*range(1, node))
    kinds = [e.kind for e in net[1].applied]
    assert kinds == [EntryKind.NORMAL] + [EntryKind.CONFIG] * 8


# --- availability: thesis 4.2 -------------------------------------------------------


def test_4_2_1_a_learner_gets_the_log_and_has_no_say() -> None:
    """A new server is caught up as a non-voting member first (thesis 4.2.1)."""
    net = Network(3, voters=(1, 2), learners=())
    net.elect(1)
    for number in range(20):
        net.propose(1, b"%d" % number)
    net.settle()
    see_through(net, learning(3))
    assert payloads(net, 3)[:20] == [b"%d" % number for number in range(20)]
    net.isolate(2)
    net.propose(1, b"x")
    net.settle()
    assert net[3].disk.log[-1].payload == b"x"
    assert payloads(net, 1)[-1:] != [b"x"]
    net.tick_all(3 * T)
    assert net.core(3).role is Role.FOLLOWER


def test_4_2_1_a_promoted_learner_counts_at_once() -> None:
    """There is nothing left to catch up with (thesis 4.2.1)."""
    net = Network(3, voters=(1, 2), learners=(3,))
    net.elect(1)
    assert net.core(1).progress_states()[NodeId(3)] is ProgressState.REPLICATE
    see_through(net, adding(3))
    net.isolate(2)
    net.propose(1, b"x")
    net.settle()
    assert payloads(net, 1)[-1:] == [b"x"]


def test_4_2_2_a_leader_counts_itself_no_more_when_it_is_out() -> None:
    """What it appends then needs a majority of the others (thesis 4.2.2)."""
    net = Network(3)
    net.elect(1)
    net[1].is_apply_held = True
    net.change(1, removing(1))
    net.settle()
    net.propose(1, b"x")
    net.settle()
    last = net.core(1).last_index
    assert net.core(1).commit_index == last
    net.held = {(1, 2), (1, 3)}
    net.propose(1, b"y")
    net.apply(1)
    net.settle()
    net.inject(accepted_by(2, 1, 1, last + 1))
    assert net.core(1).commit_index == last
    net.inject(accepted_by(3, 1, 1, last + 1))
    assert net.core(1).commit_index == last + 1


def test_4_2_2_it_replicates_until_its_removal_is_committed() -> None:
    """A leader steps down after the entry is committed, not before (4.2.2)."""
    net = Network(3)
    net.elect(1)
    net.cut = {(1, 2), (1, 3)}
    net.change(1, removing(1))
    net.settle()
    net.tick(1, T // 2)
    assert net.core(1).role is Role.LEADER
    assert net.core(1).commit_index < net.core(1).last_index
    net.heal()
    net.tick_all(2 * HEARTBEAT)
    assert net.leader() in (2, 3)
    assert net.core(net.leader() or 0).membership == members(2, 3)


def test_4_2_3_who_hears_a_leader_is_not_disturbed_by_who_was_removed() -> None:
    """Neither a request to vote nor a higher term reaches it (thesis 4.2.3)."""
    net = Network(4)
    net.elect(1)
    net.isolate(4)
    see_through(net, removing(4))
    net.heal()
    for _ in range(10):
        net.inject(pre_vote_of(4, 2, 9, (9, 99)))
        net.inject(vote_of(4, 3, 9, (9, 99)))
        net.inject(vote_of(4, 1, 9, (9, 99)))
        net.tick_all(HEARTBEAT)
    assert [net.core(node).term for node in (1, 2, 3)] == [1, 1, 1]
    assert net.leader() == 1


def test_4_2_3_the_removed_node_itself_campaigns_in_vain() -> None:
    """It does not know that it is out, and nobody minds (thesis 4.2.3)."""
    net = Network(4, configure=limited(pre_vote=False))
    net.elect(1)
    net.isolate(4)
    see_through(net, removing(4))
    net.tick_all(6 * T)
    net.heal()
    net.tick_all(6 * T)
    assert net.core(4).term > 3
    assert sent(net, Vote, src=4)
    assert [net.core(node).term for node in (1, 2, 3)] == [1, 1, 1]


def test_4_2_3_a_transfer_is_the_one_campaign_that_may_disturb() -> None:
    """Its requests say so, and are heeded though the leader is heard (4.2.3, 3.10)."""
    net = Network()
    net.elect(1)
    net.inject(vote_of(3, 2, 2, (1, 1)))
    assert net.core(2).term == 1
    net.core(1).transfer(NodeId(3))
    net.settle()
    assert net.leader() == 3


def test_4_1_nodes_answer_whoever_asks_member_or_not() -> None:
    """A vote of one not yet known as a member may be what is missing (4.1)."""
    net = Network(4, voters=(1, 2, 3), learners=())
    net.elect(1)
    net.cut = {(1, 2), (1, 3)}
    net.tick(1)
    assert net.core(4).membership == members()
    net.inject(vote_of(3, 4, 5, (1, 1)))
    net.settle()
    assert net[4].disk.hard_state.vote == 3


def test_4_1_a_stranger_takes_entries_of_a_leader_it_does_not_know() -> None:
    """Or it could never learn that it is a member (thesis 4.1)."""
    net = Network(4, voters=(1, 2, 3), learners=())
    net.elect(1)
    see_through(net, adding(4))
    assert net.core(4).membership == members(1, 2, 3, 4)
    assert net[4].disk.log == net[1].disk.log


def test_4_2_3_who_is_no_member_never_campaigns() -> None:
    """A removed node that knows it, a learner and a stranger all keep still."""
    net = Network(5, voters=(1, 2, 3), learners=(4,))
    net.elect(1)
    see_through(net, removing(3))
    net.isolate(3, 4, 5)
    net.sent.clear()
    for node in (3, 4, 5):
        net.tick(node, 5 * T)
    assert [m for m in net.sent if isinstance(m, PreVote | Vote)] == []
