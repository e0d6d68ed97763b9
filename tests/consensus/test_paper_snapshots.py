"""Log compaction, claim by claim: Raft paper 7, with figure 13."""

import pytest

from raftd.consensus import (
    EntryKind,
    Index,
    NodeId,
    ProgressState,
    Role,
)
from raftd.consensus.messages import AppendReply
from tests.consensus.helpers import (
    HEARTBEAT,
    T,
    append_of,
    appends_to,
    payloads,
    vote_of,
)
from tests.consensus.network import Network, entries_of_terms
from tests.consensus.wishes import adding, members, see_through
from tests.consensus.words import sent, take_up


def _cut_leader(*, size: int = 3, voters: tuple[int, ...] | None = None) -> Network:
    """Node 1 leads with its log cut at 4; the last node has nothing of it."""
    net = Network(size, voters=voters, learners=())
    net.isolate(size)
    net.elect(1)
    for payload in (b"a", b"b", b"c", b"d"):
        net.propose(1, payload)
    net.settle()
    net.checkpoint(1)
    net.cut_log(1, 4)
    net.heal()
    return net


def test_7_each_node_cuts_its_own_log_without_asking() -> None:
    """Snapshots are taken independently, of what is committed (7)."""
    net = _cut_leader()
    assert [net.core(node).first_index for node in net.ids] == [5, 1, 1]
    net.propose(1, b"e")
    net.settle()
    assert payloads(net, 1)[-1] == b"e"
    assert net[2].disk.log[-1].payload == b"e"


def test_7_the_place_before_the_first_entry_serves_the_consistency_check() -> None:
    """Last included index and term are kept for the append that follows (7)."""
    net = Network()
    take_up(net, 2, 3, (2, 4))
    net.settle()
    net.inject(append_of(2, 3, (1, 4), 3))
    net.settle()
    assert net.core(2).last_index == 4
    net.inject(append_of(2, 3, (2, 4), 3))
    net.settle()
    assert (net.core(2).last_index, net.core(2).last_term) == (5, 3)


def test_7_it_serves_elections_too() -> None:
    """An empty log behind a snapshot is as up to date as the snapshot (7, 5.4.1)."""
    net = Network()
    take_up(net, 2, 3, (2, 4))
    net.settle()
    net.isolate(2)
    net.tick(2, T)
    for term, (last, is_granted) in enumerate(
        {(2, 3): False, (1, 9): False, (2, 4): True, (3, 1): True}.items(), 20
    ):
        net.inject(vote_of(3, 2, term, last))
        assert (net.core(2).vote == 3) == is_granted


def test_7_the_newest_configuration_is_part_of_a_snapshot() -> None:
    """Who starts from one knows who takes part (7)."""
    net = _cut_leader(size=4, voters=(1, 2, 3))
    see_through(net, adding(4))
    net.checkpoint(1)
    assert net[1].disk.state.membership == members(1, 2, 3, 4)
    net.restart(1)
    assert net.core(1).membership == members(1, 2, 3, 4)
    take_up(net, 3, 1, (1, 9), (1, 2, 4))
    assert net.core(3).membership == members(1, 2, 4)


def test_7_a_leader_sends_it_when_it_has_cut_what_comes_next() -> None:
    """To a follower so far behind, and not otherwise (7)."""
    net = _cut_leader()
    net.tick(1, HEARTBEAT)
    assert net[1].snapshots == [3]
    assert net.core(1).progress_states() == {
        2: ProgressState.REPLICATE,
        3: ProgressState.SNAPSHOT,
    }


def test_7_a_snapshot_replaces_a_log_that_knows_less() -> None:
    """The follower drops all of it: it is superseded, conflicts and all (7)."""
    net = _cut_leader()
    net.isolate(3)
    net.inject(append_of(3, 1, (0, 0), 0, 0))
    net.settle()
    assert net.core(3).last_index == 2
    net.heal()
    net.tick(1, HEARTBEAT)
    net.offer(1, 3)
    net.install(1, 3)
    net.settle()
    assert payloads(net, 3)[:3] == [b"a", b"b", b"c"]
    assert net.core(3).first_index > 2
    net.tick(1, HEARTBEAT)
    assert payloads(net, 3) == payloads(net, 1) == [b"a", b"b", b"c", b"d"]


def test_7_what_follows_the_snapshot_in_a_log_that_has_its_end_stays() -> None:
    """A snapshot of a prefix, by retransmission or mistake (7, figure 13 step 6)."""
    net = Network(logs={2: entries_of_terms(1, 1, 2, 2, 2)})
    take_up(net, 2, 3, (2, 3))
    net.settle()
    assert [e.term for e in net[2].disk.log] == [1, 1, 2, 2, 2]
    assert (net.core(2).commit_index, net.core(2).first_index) == (3, 1)
    assert len(net[2].applied) == 3


@pytest.mark.parametrize("end", [(1, 3), (3, 3), (2, 6)])
def test_7_the_whole_log_goes_if_it_does_not_have_that_very_entry(
    end: tuple[int, int],
) -> None:
    """Another term at its index, or nothing there (7, figure 13 step 7)."""
    net = Network(logs={2: entries_of_terms(1, 1, 2, 2, 2)}, terms={2: 3})
    take_up(net, 2, 3, end)
    core = net.core(2)
    assert (core.first_index, core.last_index) == (end[1] + 1, end[1])
    assert (core.commit_index, core.applied_index) == (end[1], end[1])
    assert core.last_term == end[0]


def test_7_an_older_snapshot_is_not_taken_up() -> None:
    """What it contains is applied already; commit and state never go back (7)."""
    net = Network()
    net.inject(append_of(2, 1, (0, 0), 1, 1, 1, commit=3))
    net.settle()
    take_up(net, 2, 1, (1, 2))
    net.settle()
    assert (net.core(2).commit_index, net.core(2).first_index) == (3, 1)
    assert len(net[2].applied) == 3


def test_figure_13_a_snapshot_of_an_older_term_is_refused() -> None:
    """Reply at once if term < currentTerm (figure 13 step 1)."""
    net = Network(terms={2: 7})
    take_up(net, 2, 3, (2, 4))
    net.settle()
    assert (net.core(2).commit_index, net.core(2).leader) == (0, None)
    (answer,) = sent(net, AppendReply, src=2)
    assert (answer.term, answer.accepted) == (7, False)


def test_7_whoever_sends_a_snapshot_leads() -> None:
    """It is heard like any word of a leader: terms are entered, timers begin (7)."""
    net = Network()
    net.isolate(2)
    net.tick(2, T - 1)
    take_up(net, 2, 3, (2, 4))
    assert (net.core(2).leader, net.core(2).term) == (1, 3)
    net.settle()
    net.tick(2, T - 1)
    assert net.core(2).role is Role.FOLLOWER


def test_7_it_is_acknowledged_when_it_is_on_disk() -> None:
    """Else a crash could lose what the leader counts (7, 5.3)."""
    net = Network()
    net[2].is_disk_held = True
    take_up(net, 2, 3, (2, 4))
    ready = net.core(2).ready()
    assert ready.send_now == ()
    assert ready.write is not None
    (answer,) = ready.send_after
    assert isinstance(answer, AppendReply)
    assert (answer.accepted, answer.index) == (True, 4)


def test_7_then_the_follower_gets_the_entries_behind_it_as_usual() -> None:
    """From the snapshot's end on, and nothing before it (7)."""
    net = _cut_leader()
    net.tick(1, HEARTBEAT)
    net.offer(1, 3)
    net.propose(1, b"e")
    net.settle()
    net.sent.clear()
    net.install(1, 3)
    net.settle()
    (m,) = appends_to(net.sent, 3)
    assert (m.prev_index, [e.payload for e in m.entries]) == (5, [b"e"])
    assert net.core(1).progress_states()[NodeId(3)] is ProgressState.REPLICATE
    assert net.core(3).last_index == net.core(1).last_index == 6


def test_7_only_what_is_committed_and_applied_is_ever_cut() -> None:
    """A snapshot covers just that (7)."""
    net = Network()
    net.elect(1)
    net.cut = {(1, 2), (1, 3)}
    net.propose(1, b"x")
    net.settle()
    core = net.core(1)
    assert core.applied_index < core.last_index
    with pytest.raises(AssertionError, match="only what is applied is cut"):
        core.compact(core.last_index)
    core.compact(core.applied_index)
    assert core.first_index == Index(2)
    assert core.term_at(1) == 1
    assert net[1].log[-1].kind is EntryKind.NORMAL
