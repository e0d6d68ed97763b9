"""Nothing is promised before it is on disk: thesis 10.2.1; rules 22-24.

The oracle compares every vote and acknowledgement that leaves with the sender's disk.
"""

import msgspec

from raftd.consensus import (
    Entry,
    EntryKind,
    HardState,
    Index,
    NodeId,
    Proposal,
    Role,
    Term,
)
from raftd.consensus.messages import AppendReply, HeartbeatReply, VoteReply
from tests.consensus.helpers import HEARTBEAT, append_of, vote_of
from tests.consensus.network import Network, entries_of_terms


def test_rule_23_a_vote_waits_for_the_disk() -> None:
    """Crash before the fsync, restart in the same election."""
    net = Network()
    net[2].is_disk_held = True
    net.inject(vote_of(1, 2, 1))
    net.settle()
    assert not [m for m in net.sent if isinstance(m, VoteReply)]
    net.restart(2)
    net.inject(vote_of(3, 2, 1))
    net.settle()
    given = [(m.dst, m.granted) for m in net.sent if isinstance(m, VoteReply)]
    assert given == [(3, True)], "the first vote was never given"


def test_rule_23_a_repeated_question_does_not_overtake_the_write() -> None:
    net = Network()
    net[2].is_disk_held = True
    for _ in range(2):
        net.inject(vote_of(1, 2, 1))
        net.settle()
    assert not [m for m in net.sent if isinstance(m, VoteReply)]
    net.finish_write(2)
    net.settle()
    assert len([m for m in net.sent if isinstance(m, VoteReply)]) == 2


def test_rule_23_an_acknowledgement_waits_for_its_entries() -> None:
    net = Network()
    net.elect(1)
    net[2].is_disk_held = True
    net.sent.clear()
    net.propose(1, b"x")
    net.settle()
    assert not [m for m in net.sent if m.src == 2]
    net.finish_write(2)
    assert [m.index for m in net.sent if isinstance(m, AppendReply) and m.src == 2] == [
        2
    ]


def test_rule_23_an_empty_append_does_not_vouch_for_a_write_under_way() -> None:
    """Asked again while the entries are still being written."""
    net = Network()
    net[2].is_disk_held = True
    net.inject(append_of(2, 1, (0, 0), 1))
    net.settle()
    net.inject(append_of(2, 1, (1, 1)))
    net.settle()
    assert not [m for m in net.sent if isinstance(m, AppendReply)]
    net.finish_write(2)
    net.settle()
    assert {m.index for m in net.sent if isinstance(m, AppendReply)} == {1}


def test_what_matched_in_one_term_is_not_acknowledged_in_the_next() -> None:
    net = Network()
    net.inject(append_of(2, 1, (0, 0), 1))
    net.inject(msgspec.structs.replace(vote_of(1, 2, 2, (1, 1)), transfer=True))
    net.settle()
    replies = [type(m) for m in net.sent if m.src == 2]
    assert replies == [VoteReply]


def test_several_writes_are_under_way_at_once() -> None:
    net = Network(1)
    net.elect(1)
    net[1].is_disk_held = True
    for payload in (b"a", b"b", b"c"):
        net.propose(1, payload)
        net.settle()
    assert [w.id for w, _ in net[1].writes] == [3, 4, 5]
    net.core(1).stored(5)
    net.settle()
    assert net.core(1).commit_index == 4, "a completion vouches for all before it"


def test_a_heartbeat_is_answered_while_entries_are_being_written() -> None:
    """A slow disk is not a dead node; only an unwritten term holds the answer back."""
    net = Network()
    net.elect(1)
    net[2].is_disk_held = True
    net.propose(1, b"x")
    net.settle()
    net.sent.clear()
    net.tick(1, HEARTBEAT)
    assert [m for m in net.sent if isinstance(m, HeartbeatReply) and m.src == 2]


def test_a_heartbeat_of_a_new_term_is_answered_when_the_term_is_durable() -> None:
    net = Network()
    net[2].is_disk_held = True
    net.elect(1)
    net.tick(1, HEARTBEAT)
    assert not [m for m in net.sent if isinstance(m, HeartbeatReply) and m.src == 2]
    net[2].is_disk_held = False
    net.settle()
    assert [m for m in net.sent if isinstance(m, HeartbeatReply) and m.src == 2]


def test_rule_24_a_late_completion_does_not_vouch_for_replaced_entries() -> None:
    """The same (index, term) is written, removed, and written again."""
    net = Network(terms={2: 1})
    net[2].is_disk_held = True
    net.inject(append_of(2, 1, (0, 0), 1, 1))
    net.settle()
    net.inject(append_of(2, 2, (0, 0), 2))
    net.settle()
    net.inject(append_of(2, 3, (0, 0), 1, 1))
    net.settle()
    assert net.core(2).last_index == 2
    assert net.core(2).term_at(1) == 1
    net.finish_write(2)
    assert net.core(2).durable_index == 0, "that write's entries are gone"
    net.finish_write(2)
    assert net.core(2).durable_index == 0
    net.finish_write(2)
    assert net.core(2).durable_index == 2
    assert [e.term for e in net[2].disk.log] == [1, 1]


def test_rule_24_within_one_term_too() -> None:
    """A term is entered by a vote; its leader then removes what was being written."""
    net = Network(logs={2: entries_of_terms(1)})
    net[2].is_disk_held = True
    net.inject(append_of(2, 1, (1, 1), 1, 1))
    net.settle()
    net.inject(msgspec.structs.replace(vote_of(3, 2, 2, (9, 9)), transfer=True))
    net.settle()
    net.inject(append_of(2, 2, (1, 1), 2, 2))
    net.settle()
    net.finish_write(2)
    net.finish_write(2)
    assert net.core(2).term == 2
    assert net.core(2).durable_index == 1
    net.finish_write(2)
    assert net.core(2).durable_index == 3


def test_a_crash_keeps_a_prefix_of_the_writes_under_way() -> None:
    net = Network()
    net.elect(1)
    net[2].is_disk_held = True
    for payload in (b"a", b"b"):
        net.propose(1, payload)
        net.settle()
    net.restart(2, keep_writes=1)
    assert net.core(2).last_index == 2
    net.tick_all(2 * HEARTBEAT)
    assert net.core(2).last_index == 3
    assert len(net[2].disk.log) == 3


def test_terms_and_votes_survive_a_restart_of_everything() -> None:
    """Rule 27."""
    net = Network()
    net.elect(1)
    net.propose(1, b"x")
    net.settle()
    before = {n: net[n].disk.hard_state for n in net.ids}
    for node in net.ids:
        net.restart(node)
    assert {n: HardState(net.core(n).term, net.core(n).vote) for n in net.ids} == before
    net.elect(2)
    assert net.core(2).term == 2
    assert net[2].applied[1].payload == b"x"


def test_commit_is_stored_with_the_next_write_and_never_by_itself() -> None:
    """Rule 26."""
    net = Network()
    net.elect(1)
    net.tick_all()
    assert (net.core(2).commit_index, net[2].disk.commit) == (1, 0)
    net.propose(1, b"x")
    net.settle()
    assert net[2].disk.commit == 1


def _deposed(net: Network) -> Proposal:
    """Let 1 propose in vain and 2 take over; 1 does not know yet."""
    net.elect(1)
    net.isolate(1)
    proposal = net.propose(1, b"lost")
    net.settle()
    net.elect(2)
    return proposal


def test_rule_22_leadership_lost_means_outcome_unknown() -> None:
    net = Network()
    proposal = _deposed(net)
    net.core(1).step_down()
    net.settle()
    assert net[1].failed == [(proposal, False)]


def test_rule_22_another_entry_committed_there_means_it_never_happened() -> None:
    net = Network()
    proposal = _deposed(net)
    net.core(1).step_down()
    net.settle()
    net.heal()
    net.tick_all(2 * HEARTBEAT)
    assert net[1].failed == [(proposal, False), (proposal, True)]
    assert b"lost" not in [e.payload for n in net.ids for e in net[n].applied]


def test_rule_22_being_overwritten_alone_proves_nothing() -> None:
    """The overwriting entry may be lost, and a third node bring this one back."""
    net = Network()
    net.elect(1)
    net.cut = {(1, 3), (3, 1), (2, 1)}
    proposal = net.propose(1, b"survivor")
    net.settle()
    assert net.core(2).last_index == 2
    net.core(1).step_down()
    overwriting = append_of(1, 2, (1, 1), 2)
    net.inject(msgspec.structs.replace(overwriting, src=NodeId(3)))
    net.settle()
    assert net.core(1).term_at(2) == 2, "overwritten"
    assert net[1].failed == [(proposal, False)], "and still unknown"
    net.heal()
    net.restart(3)
    net.core(2).forget_leader()
    net.cut = {(1, 2), (2, 1), (1, 3), (3, 1)}
    net.elect(2)
    assert net.core(2).role is Role.LEADER
    assert b"survivor" in [e.payload for e in net[2].applied]


def test_rule_22_a_proposal_that_survives_is_not_reported_again() -> None:
    net = Network()
    net.elect(1)
    net.held = {(2, 1), (3, 1)}
    proposal = net.propose(1, b"x")
    net.settle()
    net.core(1).step_down()
    net.settle()
    net.heal()
    net.elect(2)
    net.tick_all(HEARTBEAT)
    assert net[1].failed == [(proposal, False)]
    assert Entry(Index(2), Term(1), EntryKind.NORMAL, b"x") in net[1].applied


def test_a_no_op_is_no_proposal() -> None:
    net = Network()
    net.isolate(1)
    net.elect_quietly(1)
    net.core(1).step_down()
    net.settle()
    assert net[1].failed == []
