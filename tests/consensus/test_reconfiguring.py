"""Membership changes: Raft paper 6; thesis 4; rules 8, 12, 22 and 39-44."""

import msgspec
import pytest

from raftd.consensus import (
    ChangeKind,
    ConfigChange,
    Entry,
    EntryKind,
    Index,
    InvalidChange,
    Membership,
    NodeId,
    RefusalReason,
    Refused,
    Role,
    Term,
    after,
    decode_change,
    encode_change,
)
from raftd.consensus.messages import Append
from tests.consensus.disk import Snapshot
from tests.consensus.helpers import (
    HEARTBEAT,
    T,
    adding,
    change_of,
    change_quietly,
    limited,
    members,
    removing,
)
from tests.consensus.network import Network


def test_a_change_goes_through_the_log_with_what_it_makes() -> None:
    net = Network(4, voters=(1, 2, 3), learners=())
    net.elect(1)
    wish = ConfigChange(adding(4).steps, b"context")
    net.change(1, wish)
    net.settle()
    entry = net[1].applied[-1]
    assert entry.kind is EntryKind.CONFIG
    assert decode_change(entry.payload) == msgspec.structs.replace(
        wish, result=members(1, 2, 3, 4)
    )
    assert net.core(1).membership == members(1, 2, 3, 4)


def test_only_the_context_may_change() -> None:
    net = Network()
    net.elect(1)
    change_quietly(net, ConfigChange((), b"an address"))
    assert net.core(2).membership == members(1, 2, 3)
    assert decode_change(net[2].applied[-1].payload).context == b"an address"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (change_of((ChangeKind.ADD_LEARNER, 0)), "0 is no member id."),
        (change_of((ChangeKind.ADD_LEARNER, 2)), "2 is a member already."),
        (change_of((ChangeKind.ADD_LEARNER, 3)), "3 is a member already."),
        (adding(1), "1 votes already."),
        (removing(4), "4 is no member."),
        (change_of((ChangeKind.REMOVE, 1), (ChangeKind.REMOVE, 2)), "The last voter"),
        (change_of((ChangeKind.PROMOTE, 3), (ChangeKind.REMOVE, 3)), "named twice"),
        (ConfigChange(is_leave=True), "no joint phase"),
        (ConfigChange(removing(1).steps, is_leave=True), "changes nothing else"),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    change: ConfigChange, sentence: str
) -> None:
    membership = Membership((NodeId(1), NodeId(2)), (), (NodeId(3),))
    with pytest.raises(InvalidChange, match=sentence):
        after(membership, change)


def test_a_joint_phase_takes_no_other_step() -> None:
    joint = after(
        members(1, 2), change_of((ChangeKind.PROMOTE, 3), (ChangeKind.REMOVE, 1))
    )
    assert joint == Membership((NodeId(2), NodeId(3)), (NodeId(1), NodeId(2)))
    with pytest.raises(InvalidChange, match="joint phase"):
        after(joint, adding(4))
    assert after(joint, ConfigChange(is_leave=True)) == members(2, 3)


def test_a_refused_change_leaves_no_trace() -> None:
    net = Network()
    net.elect(1)
    last = net.core(1).last_index
    answer = net.core(1).change(removing(9))
    assert answer == Refused(RefusalReason.INVALID_CHANGE, NodeId(1), "9 is no member.")
    assert net.core(1).last_index == last
    assert not net.core(1).has_pending_change


def test_rule_39_one_at_a_time_whatever_the_stage() -> None:
    net = Network(4, voters=(1, 2, 3), learners=())
    net.elect(1)
    core = net.core(1)
    net[1].is_apply_held = True
    net.change(1, change_of((ChangeKind.ADD_LEARNER, 4)))
    refused = Refused(RefusalReason.CHANGE_PENDING, NodeId(1))
    assert core.change(removing(3)) == refused
    net.settle()
    assert core.commit_index == core.last_index
    assert core.change(removing(3)) == refused
    assert core.has_pending_change
    net.apply(1)
    assert not core.has_pending_change
    net.change(1, removing(3))


def test_rule_40_nothing_before_an_entry_of_the_own_term_is_committed() -> None:
    net = Network()
    net.elect(1)
    net.isolate(2)
    net.elect_quietly(2)
    answer = net.core(2).change(removing(3))
    assert answer == Refused(RefusalReason.TERM_NOT_STARTED, NodeId(2))


def test_rule_22_a_lost_change_is_told_like_any_proposal() -> None:
    net = Network()
    net.elect(1)
    net.isolate(1)
    lost = net.change(1, removing(3))
    net.settle()
    net.elect(2)
    net.heal()
    net.tick(2, 2 * HEARTBEAT)
    assert net[1].failed == [(lost, False), (lost, True)]
    assert net.core(1).membership == members(1, 2, 3)


def test_a_change_is_refused_during_a_transfer() -> None:
    net = Network()
    net.elect(1)
    net.isolate(2)
    net.core(1).transfer(NodeId(2))
    answer = net.core(1).change(removing(3))
    assert answer == Refused(RefusalReason.TRANSFERRING, NodeId(1))


def test_a_smaller_configuration_commits_what_it_has() -> None:
    """Raft paper 5.3 with the new majority: nothing else has to arrive."""
    net = Network(4)
    net.elect(1)
    net.isolate(4)
    net.change(1, removing(4))
    net.settle()
    net.cut |= {(1, 3), (3, 1)}
    net.held.add((2, 1))
    net.change(1, removing(3))
    net.propose(1, b"x")
    net.settle()
    assert net.core(1).commit_index == 2
    net.deliver_between(2, 1)
    net.settle()
    # {1, 2} of {1, 2, 3} remove 3; then {1, 2} have x.
    assert net.core(1).membership == members(1, 2)
    assert net.core(1).commit_index == 4


def test_a_removal_alone_may_commit_more() -> None:
    """X is on two of four; with one of them gone, two of three are enough."""
    net = Network(4)
    net.elect(1)
    net[1].is_apply_held = True
    net.change(1, removing(4))
    net.settle()
    assert net.core(1).commit_index == net.core(1).last_index
    net.cut |= {(1, 3), (1, 4)}
    net.propose(1, b"x")
    net.settle()
    behind = net.core(1).commit_index
    assert behind == net.core(1).last_index - 1
    net.apply(1)
    assert net.core(1).commit_index == net.core(1).last_index


def test_a_round_of_reads_ends_when_a_removal_makes_it_a_quorum() -> None:
    net = Network(4)
    net.elect(1)
    net[1].is_apply_held = True
    net.change(1, removing(4))
    net.settle()
    net.cut |= {(1, 3), (1, 4)}
    ctx = net.read(1)
    net.settle()
    assert ctx not in net[1].reads
    net.apply(1)
    net.settle()
    assert ctx in net[1].reads


def test_check_quorum_gives_a_new_voter_time_to_answer() -> None:
    """It joined just before the check; with it as silent there would be no quorum."""
    net = Network(4, voters=(1, 2), learners=())
    net.elect(1)
    net.isolate(3, 4)
    net.tick(1, T - 2)
    net.change(1, adding(3))
    net.settle()
    assert net.core(1).followers()[NodeId(3)].is_active
    net.cut |= {(2, 1)}
    net.tick(1, 3)
    assert net.core(1).role is Role.LEADER
    net.tick(1, 2 * T)
    assert net.core(1).role is Role.FOLLOWER


def test_learners_count_for_nothing() -> None:
    net = Network(4, voters=(1, 2), learners=(3, 4))
    net.elect(1)
    net.isolate(2)
    net.propose(1, b"x")
    ctx = net.read(1)
    net.settle()
    assert net.core(1).commit_index == 1
    assert ctx not in net[1].reads
    net.tick(1, 2 * T)
    assert net.core(1).role is Role.FOLLOWER


def test_a_joiner_need_not_know_the_first_configuration() -> None:
    """It may even have heard of one that lies far ahead of its log's beginning."""
    net = Network(4, voters=(1, 2, 3), learners=())
    net.elect(1)
    change_quietly(net, removing(3))
    ahead = Membership((NodeId(1), NodeId(2)), (), (NodeId(4),))
    net[4].disk.state = Snapshot(Index(0), Term(0), ahead)
    net.restart(4)
    assert net.core(4).membership == ahead
    change_quietly(net, change_of((ChangeKind.ADD_LEARNER, 4)))
    net.tick(1, HEARTBEAT)
    assert net.core(4).membership == net.core(1).membership == ahead


def test_members_that_differ_on_who_is_a_member_stop() -> None:
    """The result in the entry is checked once the configuration is certain."""
    net = Network()
    net.elect(1)
    change_quietly(net, ConfigChange())
    wrong = msgspec.structs.replace(removing(3), result=members(1, 3))
    index = Index(net.core(2).last_index + 1)
    entry = Entry(index, Term(1), EntryKind.CONFIG, encode_change(wrong))
    prev = Index(index - 1)
    net.inject(Append(NodeId(1), NodeId(2), Term(1), prev, Term(1), (entry,), index))
    with pytest.raises(AssertionError, match="differ"):
        net.settle()


def test_rule_42_a_new_leader_ends_the_joint_phase_once() -> None:
    net = Network(4, voters=(1, 2, 3), learners=())
    net.elect(1)
    net[1].is_apply_held = True
    net.change(1, change_of((ChangeKind.PROMOTE, 4), (ChangeKind.REMOVE, 3)))
    net.settle()
    net.tick(1, HEARTBEAT)
    assert net.core(2).membership.outgoing == (1, 2, 3)
    net.isolate(1)
    for node in (3, 4):
        net.core(node).forget_leader()
    net.elect(2)
    net.settle()
    assert net.core(2).membership == members(1, 2, 4)
    leaves = [
        entry
        for entry in net[2].log
        if entry.kind is EntryKind.CONFIG and decode_change(entry.payload).is_leave
    ]
    assert len(leaves) == 1


def test_a_joint_phase_ends_after_a_transfer_that_failed() -> None:
    """No entry is appended while leadership is handed over; it is made up for."""
    election_ticks = T + 1  # so that no heartbeat is due when it fails
    net = Network(
        4,
        voters=(1, 2, 3),
        learners=(),
        configure=limited(election_ticks=election_ticks),
    )
    net.elect(1)
    net.core(2).unfit = True
    net.change(1, change_of((ChangeKind.PROMOTE, 4), (ChangeKind.REMOVE, 3)))
    net.core(1).transfer(NodeId(2))
    net.settle()
    assert net.core(1).membership.outgoing
    net.tick(1, election_ticks)
    assert net.core(1).transfer_target is None
    answer = net.core(1).change(removing(2))
    assert answer == Refused(RefusalReason.CHANGE_PENDING, NodeId(1))
    net.tick(1, HEARTBEAT)
    assert net.core(1).membership == members(1, 2, 4)
