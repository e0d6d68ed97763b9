"""Log replication, claim by claim: Raft paper 5.3 and 5.5."""

import itertools

import msgspec
import pytest

from raftd.consensus import Entry, Index, NodeId, Proposal, Term
from raftd.consensus.messages import Append, AppendReply, Heartbeat
from tests.consensus.helpers import (
    HEARTBEAT,
    T,
    append_of,
    appends_to,
    limited,
    payloads,
)
from tests.consensus.network import Network, entries_of_terms
from tests.consensus.words import accepted_by, refused_by, sent


def _leading(size: int = 3) -> Network:
    """Node 1 leads term 1; its no-op is everywhere and known to be committed."""
    net = Network(size)
    net.elect(1)
    net.tick(1, HEARTBEAT)
    net.sent.clear()
    return net


def test_5_3_a_command_is_appended_then_sent_to_all_others_at_once() -> None:
    """In one go, to everybody, before anybody has answered (5.3)."""
    net = _leading(5)
    net[1].is_disk_held = True
    proposal = net.propose(1, b"x")
    entry = Entry(proposal.index, proposal.term, net[1].log[0].kind, b"x")
    ready = net.take_ready(1)
    appends = [m for m in ready.send_now if isinstance(m, Append)]
    assert [m.dst for m in appends] == [2, 3, 4, 5]
    assert {m.entries for m in appends} == {(entry,)}
    assert net[1].log[-1] == entry


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6])
def test_5_3_an_entry_is_committed_when_a_majority_has_it(size: int) -> None:
    """Not before; and only then it is applied (5.3)."""
    net = _leading(size)
    net.isolate(1)
    net.propose(1, b"x")
    net.settle()
    for follower in range(2, size // 2 + 2):
        assert payloads(net, 1) == []
        net.inject(accepted_by(follower, 1, 1, 2))
        net.settle()
    assert payloads(net, 1) == [b"x"]
    assert net.core(1).commit_index == 2


def test_5_3_a_leader_tries_without_end_until_all_have_all() -> None:
    """Even when it has answered its client long ago (5.3)."""
    net = _leading()
    net.isolate(3)
    net.propose(1, b"x")
    net.settle()
    assert payloads(net, 1) == [b"x"]
    net.tick(1, 20 * T)
    net.heal()
    net.tick(1, 2 * HEARTBEAT)
    assert payloads(net, 3) == [b"x"]
    assert net[3].disk.log == net[1].disk.log


def test_5_3_what_commits_an_entry_commits_all_before_it() -> None:
    """Those of earlier leaders too (5.3)."""
    earlier = entries_of_terms(1, 2, 2)
    net = Network(logs={1: earlier, 2: earlier})
    net.isolate(3)
    net.elect(1)
    assert net.core(1).commit_index == 4
    assert [e.term for e in net[1].applied] == [1, 2, 2, 3]


def test_5_3_later_messages_say_what_is_committed_and_followers_apply_it() -> None:
    """Entries that are to come carry it, and heartbeats; applied in order (5.3)."""
    net = _leading()
    net.propose(1, b"x")
    net.settle()
    assert payloads(net, 2) == []
    net.propose(1, b"y")
    net.settle()
    assert appends_to(net.sent, 2)[-1].commit == 2
    assert payloads(net, 2) == [b"x"]
    net.sent.clear()
    net.tick(1)
    assert [m.commit for m in sent(net, Heartbeat, dst=2)] == [3]
    assert payloads(net, 2) == [b"x", b"y"]


def test_5_3_a_leader_makes_one_entry_for_an_index_in_a_term() -> None:
    """The ground of log matching: (index, term) names one entry (5.3)."""
    net = _leading()
    net.cut = {(1, 2), (1, 3)}
    places: list[Proposal] = []
    for number in range(5):
        places.append(net.propose(1, b"%d" % number))
        net.settle()
    assert places == [Proposal(Term(1), Index(at)) for at in range(2, 7)]


def test_5_3_an_append_names_the_entry_before_its_own() -> None:
    """By index and term, at each leader and in each append (5.3)."""
    net = Network(logs={1: entries_of_terms(1, 1, 3)}, terms={1: 3})
    net.elect(1)
    net.propose(1, b"x")
    net.settle()
    appends = sent(net, Append, src=1)
    assert len(appends) > 4
    for m in appends:
        assert m.prev_term == (net.core(1).term_at(m.prev_index) or 0)
        if m.entries:
            assert m.entries[0].index == m.prev_index + 1


@pytest.mark.parametrize("prev", [(1, 3), (3, 2), (1, 2), (4, 4), (2, 9)])
def test_5_3_without_that_entry_a_follower_refuses_and_keeps_its_log(
    prev: tuple[int, int],
) -> None:
    """The consistency check fails on another term as on a log too short (5.3)."""
    mine = entries_of_terms(1, 2, 2)
    net = Network(logs={2: mine}, terms={2: 4})
    net.inject(append_of(2, 4, prev, 4, commit=9))
    net.settle()
    (reply,) = sent(net, AppendReply)
    assert (reply.accepted, reply.index) == (False, prev[1])
    assert net[2].disk.log == mine
    assert net.core(2).commit_index == 0


def test_5_3_a_new_leader_takes_everybody_for_as_far_as_itself() -> None:
    """It begins with nextIndex right behind its last entry (5.3)."""
    net = Network(logs={1: entries_of_terms(1, 1, 2, 2)})
    net.isolate(2)
    net.elect(1)
    first = appends_to(net.sent, 2)[0]
    assert (first.prev_index, first.prev_term) == (4, 2)


def test_5_3_refused_it_goes_back_and_tries_again_until_the_logs_meet() -> None:
    """Each refusal moves nextIndex back; then the follower gets all the rest (5.3)."""
    leader = entries_of_terms(1, 2, 4, 6)
    net = Network(
        logs={1: leader, 3: leader, 2: entries_of_terms(1, 3, 3, 5)},
        terms={1: 6, 2: 6, 3: 6},
    )
    net.elect(1)
    tried = [int(m.prev_index) for m in appends_to(net.sent, 2)]
    assert tried[0] == 4
    assert all(a > b for a, b in itertools.pairwise(tried[: tried.index(1) + 1]))
    assert net[2].disk.log == net[1].disk.log


def test_5_3_the_repair_removes_what_contradicts_and_nothing_else() -> None:
    """Entries of no leader's log go, those before them stay as they are (5.3)."""
    leader = entries_of_terms(1, 1, 4)
    net = Network(logs={1: leader, 3: leader, 2: entries_of_terms(1, 1, 2, 3, 3)})
    net.isolate(2)
    net.elect(1)
    net.heal()
    before = net[2].disk.log[:2]
    net.tick(1, 2 * HEARTBEAT)
    assert net[2].disk.log[:2] == before
    assert [e.term for e in net[2].disk.log] == [1, 1, 4, net.core(1).term]


def test_5_3_once_repaired_a_log_stays_so_for_the_term() -> None:
    """No further refusal while the same leader leads (5.3)."""
    leader = entries_of_terms(1, 1, 4)
    net = Network(logs={1: leader, 3: leader, 2: entries_of_terms(1, 2, 2)})
    net.elect(1)
    net.tick(1, HEARTBEAT)
    net.sent.clear()
    for number in range(20):
        net.propose(1, b"%d" % number)
        net.tick(1)
    assert [m for m in sent(net, AppendReply) if not m.accepted] == []
    assert net[2].disk.log == net[1].disk.log


def test_5_3_a_leader_never_removes_or_changes_an_entry_of_its_own() -> None:
    """Leader append-only (5.3, figure 3), whatever followers have or say."""
    leader = entries_of_terms(1, 2, 2)
    longer = entries_of_terms(1, 1, 1, 1, 1)
    net = Network(logs={1: leader, 2: longer, 3: longer}, terms={2: 2, 3: 2})
    net.elect(1)
    term = net.core(1).term
    for index in (1, 2, 3, 4):
        net.inject(refused_by(2, 1, term, index))
    late = append_of(1, term - 1, (0, 0), 1, 1)
    net.inject(msgspec.structs.replace(late, src=NodeId(3)))
    net.settle()
    net.tick(1, HEARTBEAT)
    assert net[1].disk.log[:3] == leader
    assert [e.term for e in net[1].disk.log] == [1, 2, 2, term]


def test_5_3_one_round_to_a_majority_commits() -> None:
    """A slow follower holds nobody up (5.3)."""
    net = _leading(5)
    net.held = {(1, 4), (1, 5)}
    for number in range(10):
        net.propose(1, b"%d" % number)
        net.settle()
        assert net.core(1).commit_index == number + 2
    assert len(sent(net, Append, dst=2)) == len(sent(net, AppendReply, src=2)) == 10
    assert sent(net, Heartbeat) == []


def test_figure_2_a_follower_commits_no_further_than_the_last_new_entry() -> None:
    """Commit index = min(leader's, index of last new entry), and it never falls."""
    net = Network(logs={2: entries_of_terms(1, 1, 1)})
    for m, commit in (
        (append_of(2, 2, (1, 1), commit=3), 1),
        (append_of(2, 2, (1, 1), 2, commit=3), 2),
        (append_of(2, 2, (2, 2), 2, 2, commit=3), 3),
        (append_of(2, 2, (2, 2), commit=2), 3),
    ):
        net.inject(m)
        assert net.core(2).commit_index == commit


def test_5_5_a_crashed_follower_is_tried_until_it_is_back() -> None:
    """Requests to it fail; when it restarts they succeed (5.5)."""
    net = _leading()
    net.isolate(2)
    net.core(1).unreachable(NodeId(2))
    for number in range(3):
        net.propose(1, b"%d" % number)
        net.tick(1, T)
    net.restart(2)
    net.heal()
    net.tick(1, 2 * HEARTBEAT)
    assert payloads(net, 2) == [b"0", b"1", b"2"]


def test_5_5_a_request_that_comes_twice_does_no_harm() -> None:
    """Who answered and crashed is asked again; the same entries are kept (5.5)."""
    net = _leading()
    net.propose(1, b"x")
    net.propose(1, b"y")
    net.settle()
    (m,) = appends_to(net.sent, 2)
    before = list(net[2].disk.log)
    for again in (m, msgspec.structs.replace(m, entries=m.entries[:1]), m):
        net.inject(again)
        net.settle()
        assert net[2].disk.log == before
    last = sent(net, AppendReply, src=2)[-1]
    assert (last.accepted, last.index) == (True, 3)


def test_5_5_a_follower_that_crashes_before_it_answers_is_sent_all_again() -> None:
    """What was not on its disk was not acknowledged (5.5)."""
    net = _leading()
    net[2].is_disk_held = True
    net.propose(1, b"x")
    net.settle()
    assert sent(net, AppendReply, src=2) == []
    net.restart(2)
    net.tick(1, 2 * HEARTBEAT)
    assert payloads(net, 2) == [b"x"]


def test_5_3_entries_reach_a_far_follower_in_order_whatever_their_number() -> None:
    """In as many appends as the limits ask for; none is left out (5.3)."""
    net = Network(configure=limited(append_bytes_max=150, inflight_messages_max=3))
    net.isolate(3)
    net.elect(1)
    for number in range(50):
        net.propose(1, b"%d" % number)
        net.settle()
    net.heal()
    net.tick(1, 3 * HEARTBEAT)
    assert payloads(net, 3) == [b"%d" % number for number in range(50)]
    assert len(appends_to(net.sent, 3)) > 25
