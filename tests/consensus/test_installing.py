"""Snapshots: Raft paper 7; rules 9, 24, 28-31 and 33."""

import msgspec
import pytest

from raftd.consensus import (
    Index,
    Install,
    InstallSnapshot,
    Membership,
    Message,
    NodeId,
    ProgressState,
    Role,
    Term,
)
from raftd.consensus.messages import AppendReply
from tests.consensus.helpers import HEARTBEAT, T, append_of, limited
from tests.consensus.network import Network

_ENDS = NodeId(1), NodeId(2)


def _install(term: int, last: tuple[int, int]) -> InstallSnapshot:
    """A snapshot from node 1 for node 2; `last` is (term, index)."""
    membership = Membership((NodeId(1), NodeId(2), NodeId(3)))
    return InstallSnapshot(
        *_ENDS, Term(term), Index(last[1]), Term(last[0]), membership
    )


def _cut_off_follower() -> Network:
    """Node 1 leads and has cut its log at 4; node 3 has nothing of it."""
    net = Network()
    net.isolate(3)
    net.elect(1)
    for payload in (b"a", b"b", b"c"):
        net.propose(1, payload)
    net.settle()
    net.checkpoint(1)
    net.cut_log(1, 4)
    net.heal()
    net.tick(1, HEARTBEAT)
    return net


def test_no_link_can_carry_an_install() -> None:
    """Only the node itself may say that all rows are there."""
    data = msgspec.msgpack.encode(_install(1, (1, 5)))
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(data, type=Message)


def test_rule_29_the_write_names_the_snapshot_and_carries_nothing_else() -> None:
    net = Network()
    core = net.core(2)
    core.step(_install(3, (2, 7)))
    write = core.ready().write
    assert write is not None
    assert write.install == Install(Index(7), Term(2))
    assert (write.entries, write.truncate_from, write.commit) == ((), None, 7)
    assert write.hard_state is not None
    assert write.hard_state.term == 3
    assert (core.commit_index, core.applied_index, core.first_index) == (7, 7, 8)
    assert (core.last_index, core.last_term, core.term_at(7)) == (7, 2, 2)
    assert core.membership.voters == (1, 2, 3)


def test_rule_24_a_write_from_before_vouches_for_nothing_of_the_new_log() -> None:
    """Its entries were in the log that went."""
    net = Network()
    core = net.core(2)
    core.step(append_of(2, 1, (0, 0), 1, 1, 1, 1, 1, 1, 1, 1, 1, commit=2))
    old = core.ready().write
    core.step(_install(2, (2, 7)))
    install = core.ready().write
    assert old is not None
    assert install is not None
    core.stored(old.id)
    assert core.durable_index == 2
    assert not core.has_ready
    core.stored(install.id)
    assert core.durable_index == 7


def test_entries_behind_a_snapshot_go_with_the_next_write() -> None:
    """And their acknowledgement with it: not with the snapshot's own."""
    core = Network().core(2)
    core.step(_install(1, (1, 7)))
    core.step(append_of(2, 1, (1, 7), 1, 1, commit=8))
    first, second = core.ready(), core.ready()
    assert first.write is not None
    assert first.write.install is not None
    assert first.send_after == ()
    assert [entry.index for entry in first.commit] == [8]
    assert second.write is not None
    assert [entry.index for entry in second.write.entries] == [8, 9]
    assert second.send_after == (
        AppendReply(NodeId(2), NodeId(1), Term(1), True, Index(9)),
    )
    core.stored(first.write.id)
    assert core.durable_index == 7


def test_what_was_being_applied_takes_no_room_after_an_install() -> None:
    """Rule 21: the state machine took the snapshot in place of it."""
    net = Network(configure=limited(apply_bytes_max=1))
    core = net.core(2)
    core.step(append_of(2, 1, (0, 0), 1, 1, commit=2))
    assert len(core.ready().commit) == 1
    core.step(_install(1, (1, 7)))
    core.step(append_of(2, 1, (1, 7), 1, commit=8))
    assert [entry.index for entry in core.ready().commit] == [8]


def test_an_install_outlives_a_change_of_term_before_it_is_written() -> None:
    core = Network().core(2)
    core.step(_install(1, (1, 7)))
    core.step(append_of(2, 4, (0, 0)))
    ready = core.ready()
    assert ready.write is not None
    assert ready.write.install == Install(Index(7), Term(1))
    assert [m for m in ready.send_after if isinstance(m, AppendReply)] == [
        AppendReply(NodeId(2), NodeId(1), Term(4), True, Index(7))
    ]


def test_rule_22_what_a_snapshot_covers_is_never_said_to_be_lost() -> None:
    """Nobody here can tell whether it was committed."""
    net = Network()
    net.elect(1)
    net.isolate(1)
    net.propose(1, b"x")
    lost = net.propose(1, b"y")
    net.settle()
    net.core(1).step_down()
    net.settle()
    membership = net.membership
    last = InstallSnapshot(NodeId(2), NodeId(1), Term(5), Index(2), Term(4), membership)
    net.core(1).step(last)
    ready = net.core(1).ready()
    assert ready.failed == ()
    # What was behind it went with it, and another entry comes there: that is certain.
    m = append_of(1, 5, (4, 2), 5, commit=3)
    net.core(1).step(msgspec.structs.replace(m, src=NodeId(2)))
    assert net.core(1).ready().failed == ((lost, True),)


def test_rule_19_a_follower_is_named_once_until_the_sender_reports() -> None:
    net = _cut_off_follower()
    net.tick(1, 4 * HEARTBEAT)
    assert net[1].snapshots == [3]
    assert net.core(1).followers()[NodeId(3)].state is ProgressState.SNAPSHOT
    net.core(1).snapshot_sent(NodeId(3), False)
    net.settle()
    assert net[1].snapshots == [3]
    net.tick(1, HEARTBEAT)
    assert net[1].snapshots == [3, 3]


def test_a_follower_behind_a_dead_link_is_not_named_again() -> None:
    """Else sender and core would turn in a circle."""
    net = _cut_off_follower()
    net.isolate(3)
    net.core(1).snapshot_sent(NodeId(3), False)
    net.tick(1, T - 1)
    assert net[1].snapshots == [3]


def test_the_sender_knows_first_that_a_snapshot_was_taken() -> None:
    net = _cut_off_follower()
    net.offer(1, 3)
    assert net.core(1).followers()[NodeId(3)].snapshot_index == 4
    net.held.add((3, 1))
    net.install(1, 3)
    net.settle()
    net.core(1).snapshot_sent(NodeId(3), True)
    view = net.core(1).followers()[NodeId(3)]
    assert (view.state, view.next_index, view.match_index) == (
        ProgressState.PROBE,
        5,
        0,
    )
    net.propose(1, b"d")
    net.settle()
    net.deliver_between(3, 1)
    net.settle()
    assert net.core(1).followers()[NodeId(3)].match_index == 5


def test_a_probe_without_anything_to_send_is_an_empty_append() -> None:
    """After a snapshot of all there is, whose acknowledgement got lost."""
    net = _cut_off_follower()
    net.offer(1, 3)
    net.cut.add((3, 1))
    net.install(1, 3)
    net.settle()
    net.core(1).snapshot_sent(NodeId(3), True)
    net.heal()
    net.tick(1, 2 * HEARTBEAT)
    view = net.core(1).followers()[NodeId(3)]
    assert (view.state, view.match_index) == (ProgressState.REPLICATE, 4)


def test_reports_about_nobody_are_nothing() -> None:
    net = _cut_off_follower()
    core = net.core(1)
    core.snapshot_began(NodeId(9), 4)
    core.snapshot_sent(NodeId(9), True)
    core.snapshot_sent(NodeId(2), False)
    assert core.followers()[NodeId(2)].state is ProgressState.REPLICATE
    net.core(2).snapshot_sent(NodeId(3), True)
    assert net.core(2).followers() == {}


def test_what_a_leader_wanted_ends_with_its_leadership() -> None:
    net = _cut_off_follower()
    core = net.core(1)
    core.snapshot_sent(NodeId(3), False)
    net.held |= {(1, 3), (3, 1)}
    core.tick()
    core.step_down()
    assert core.ready().snapshots == ()
    assert core.role is Role.FOLLOWER


def test_a_snapshot_leads_through_everything_to_the_same_state() -> None:
    net = _cut_off_follower()
    net.offer(1, 3)
    net.install(1, 3)
    net.settle()
    net.core(1).snapshot_sent(NodeId(3), True)
    net.propose(1, b"after")
    net.settle()
    net.tick_all(HEARTBEAT)
    assert net[3].applied == net[1].applied
    net.restart(3)
    net.tick_all(2 * HEARTBEAT)
    assert net[3].applied == net[1].applied
