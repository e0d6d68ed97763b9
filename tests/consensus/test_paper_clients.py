"""Clients, reads and writes beside each other: Raft paper 8; thesis 6.4 and 10.2.1."""

import pytest

from raftd.consensus import (
    Entry,
    EntryKind,
    Index,
    NodeId,
    RefusalReason,
    Refused,
    Role,
    Term,
)
from raftd.consensus.messages import (
    Append,
    AppendReply,
    Heartbeat,
    ReadIndexReply,
    ReadIndexRequest,
)
from tests.consensus.helpers import HEARTBEAT, T, limited, payloads
from tests.consensus.network import Network
from tests.consensus.words import accepted_by, heartbeat_reply_of, sent


def _leading(size: int = 3) -> Network:
    net = Network(size)
    net.elect(1)
    net.tick(1, HEARTBEAT)
    net.sent.clear()
    return net


# --- paper 8 ------------------------------------------------------------------------


def test_8_who_does_not_lead_names_the_leader_it_knows() -> None:
    """So that the client turns there (8)."""
    net = _leading()
    refused = Refused(RefusalReason.NOT_LEADER, NodeId(1))
    assert net.core(2).propose(b"x") == refused
    assert net.core(2).last_index == net.core(1).last_index == 1
    net.core(2).forget_leader()
    assert net.core(2).propose(b"x") == Refused(RefusalReason.NOT_LEADER, None)


def test_8_a_leader_begins_its_term_with_an_empty_entry() -> None:
    """To learn which entries are committed (8)."""
    net = Network()
    for leader in (1, 2, 1):
        net.elect(leader)
        last = net[leader].log[-1]
        assert last == Entry(last.index, last.term, EntryKind.NORMAL, b"")
        assert net.core(leader).term == last.term
        assert net.core(leader).commit_index == last.index


def test_8_no_read_is_answered_before_that_is_committed() -> None:
    """It is unknown what is committed until then (8, 6.4 step 1)."""
    net = Network()
    net.elect(1)
    net.propose(1, b"x")
    net.settle()
    net.isolate(2)
    net.elect_quietly(2)
    ctx = net.read(2)
    net.settle()
    for voter in (1, 3):
        for round_id in range(4):
            net.inject(heartbeat_reply_of(voter, 2, 2, read_id=round_id))
    net.settle()
    assert net[2].reads == {}
    net.heal()
    net.tick(2, 2 * HEARTBEAT)
    assert net[2].reads[ctx] >= net.core(2).term_start_index


def test_8_a_leader_makes_sure_of_a_majority_before_it_answers_a_read() -> None:
    """It may have been deposed without knowing (8)."""
    net = _leading()
    net.isolate(1)
    ctx = net.read(1)
    net.tick(1, T // 2)
    assert net[1].reads == {}
    net.tick(1, 2 * T)
    assert net.core(1).role is not Role.LEADER
    assert (net[1].reads, net[1].reads_failed) == ({}, [ctx])


# --- thesis 6.4 ---------------------------------------------------------------------


def test_6_4_2_the_read_index_is_the_commit_index_at_its_arrival() -> None:
    """Saved at once; what is committed later is not waited for (6.4 step 2)."""
    net = _leading()
    net.held = {(2, 1), (3, 1)}
    ctx = net.read(1)
    arrived_at = net.core(1).commit_index
    net.settle()
    net.propose(1, b"x")
    net.settle()
    net.inject(accepted_by(2, 1, 1, 2))
    assert net.core(1).commit_index > arrived_at
    net.heal()
    net.settle()
    assert net[1].reads == {ctx: arrived_at}


def test_6_4_3_only_heartbeats_sent_after_its_arrival_confirm_a_read() -> None:
    """An answer that was under way before proves nothing (6.4 step 3)."""
    net = _leading()
    net.held = {(2, 1), (3, 1)}
    first = net.read(1)
    net.settle()
    (earlier,) = sent(net, Heartbeat, dst=2)
    second = net.read(1)
    net.settle()
    net.inject(heartbeat_reply_of(2, 1, 1, read_id=earlier.read_id))
    net.settle()
    assert list(net[1].reads) == [first]
    late = sent(net, Heartbeat, dst=2)[-1]
    assert late.read_id > earlier.read_id
    net.inject(heartbeat_reply_of(3, 1, 1, read_id=earlier.read_id))
    net.settle()
    assert list(net[1].reads) == [first]
    net.inject(heartbeat_reply_of(3, 1, 1, read_id=late.read_id))
    net.settle()
    assert list(net[1].reads) == [first, second]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_6_4_3_a_majority_has_to_answer(size: int) -> None:
    """The leader itself among them (6.4 step 3)."""
    net = _leading(size)
    net.isolate(1)
    ctx = net.read(1)
    net.settle()
    for voter in range(2, size // 2 + 2):
        assert net[1].reads == {}
        round_id = sent(net, Heartbeat, dst=voter)[-1].read_id
        net.inject(heartbeat_reply_of(voter, 1, 1, read_id=round_id))
        net.settle()
    assert list(net[1].reads) == [ctx]


def test_6_4_4_a_follower_answers_after_asking_the_leader() -> None:
    """The leader runs the same steps for it; the work is the follower's (6.4)."""
    net = _leading()
    net.propose(1, b"x")
    net.settle()
    ctx = net.read(3)
    net.settle()
    assert [m.dst for m in sent(net, ReadIndexRequest, src=3)] == [1]
    assert [m.dst for m in sent(net, ReadIndexReply, src=1)] == [3]
    assert net[3].reads == {ctx: net.core(1).commit_index}
    assert payloads(net, 3) == [b"x"]


def test_6_4_one_round_of_heartbeats_serves_all_reads_that_wait() -> None:
    """That is what makes it cheap (6.4)."""
    net = _leading()
    reads = [net.read(1) for _ in range(100)]
    net.settle()
    assert list(net[1].reads) == reads
    assert len(sent(net, Heartbeat)) == 2


def test_6_4_reads_cost_no_entry_and_no_write() -> None:
    """They go around the log (6.4)."""
    net = _leading()
    last = net.core(1).last_index
    for node in net.ids:
        net[node].is_disk_held = True
    ctx = net.read(1)
    net.settle()
    assert ctx in net[1].reads
    assert net.core(1).last_index == last
    assert [len(net[node].writes) for node in net.ids] == [0, 0, 0]


# --- thesis 10.2.1 ------------------------------------------------------------------


def test_10_2_1_a_leader_sends_entries_beside_its_own_write() -> None:
    """The followers' disks and its own work at the same time (10.2.1)."""
    net = _leading()
    net[1].is_disk_held = True
    net.propose(1, b"x")
    net.settle()
    assert [m.dst for m in sent(net, Append)] == [2, 3]
    assert [m.src for m in sent(net, AppendReply)] == [2, 3]
    assert net[1].disk.log[-1].payload == b""


def test_10_2_1_it_may_be_committed_before_the_leader_has_it_on_disk() -> None:
    """If a majority of the others has it (10.2.1)."""
    net = _leading()
    net[1].is_disk_held = True
    net.propose(1, b"x")
    net.settle()
    assert net.core(1).durable_index == 1
    assert net.core(1).commit_index == 2
    assert payloads(net, 1) == [b"x"]


def test_10_2_1_its_own_disk_counts_only_when_it_has_written() -> None:
    """One follower and an unfinished write are no majority (10.2.1)."""
    net = _leading()
    net[1].is_disk_held = True
    net.cut = {(1, 3)}
    net.propose(1, b"x")
    net.settle()
    assert net.core(1).commit_index == 1
    net.finish_write(1)
    assert net.core(1).commit_index == 2


def test_10_2_1_a_leader_that_crashes_before_its_write_loses_nothing() -> None:
    """What was committed is with the others, and comes back to it (10.2.1)."""
    net = _leading()
    net[1].is_disk_held = True
    net.propose(1, b"x")
    net.settle()
    assert payloads(net, 1) == [b"x"]
    net.restart(1)
    assert net.core(1).last_index == 1
    net.tick_all(4 * T)
    assert net.leader() in (2, 3)
    assert payloads(net, 1) == payloads(net, 2) == [b"x"]


def test_10_2_1_a_follower_answers_only_for_what_is_on_its_disk() -> None:
    """A follower's answer is a promise, unlike a leader's append (10.2.1)."""
    net = _leading()
    net[2].is_disk_held = True
    net.propose(1, b"x")
    net.settle()
    net.propose(1, b"y")
    net.settle()
    assert sent(net, AppendReply, src=2) == []
    net.finish_write(2)
    net.settle()
    assert [m.index for m in sent(net, AppendReply, src=2)] == [2]
    net.finish_write(2)
    net.settle()
    assert [m.index for m in sent(net, AppendReply, src=2)] == [2, 3]


def test_10_2_2_appends_are_pipelined() -> None:
    """The next one leaves before the last one is answered (10.2.2)."""
    net = _leading()
    net.held = {(2, 1), (3, 1)}
    for number in range(5):
        net.propose(1, b"%d" % number)
        net.settle()
    assert [m.prev_index for m in sent(net, Append, dst=2)] == [1, 2, 3, 4, 5]
    net.heal()
    net.settle()
    assert net.core(1).commit_index == 6


def test_10_2_2_commands_that_come_together_travel_together() -> None:
    """In one append, and one write on each disk (10.2.2)."""
    net = _leading()
    for number in range(5):
        net.propose(1, b"%d" % number)
    net.settle()
    (m,) = sent(net, Append, dst=2)
    assert [e.payload for e in m.entries] == [b"%d" % number for number in range(5)]
    assert len(sent(net, AppendReply, src=2)) == 1


def test_10_2_2_a_lost_append_in_the_pipeline_is_noticed() -> None:
    """The one behind it is refused, and the leader begins again there (10.2.2)."""
    net = Network(configure=limited(check_quorum=False))
    net.elect(1)
    net.tick(1, HEARTBEAT)
    net.cut = {(1, 2)}
    net.propose(1, b"lost")
    net.settle()
    net.heal()
    net.propose(1, b"behind")
    net.settle()
    refusals = [m for m in sent(net, AppendReply, src=2) if not m.accepted]
    assert [m.index for m in refusals] == [2]
    assert net[2].disk.log == net[1].disk.log
    net.inject(accepted_by(2, 1, 1, 3))
    assert net.core(1).match_indexes() == {1: Index(3), 2: Index(3), 3: Index(3)}
    assert net.core(1).term == Term(1)
