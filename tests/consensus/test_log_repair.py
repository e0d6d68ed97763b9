"""Bringing logs in line: Raft paper 5.3 and figure 7; rules 15-18."""

import msgspec
import pytest

from raftd.consensus import (
    Index,
    NodeId,
    Term,
)
from raftd.consensus.messages import (
    Append,
    AppendReply,
    Heartbeat,
)
from raftd.consensus.progress import ProgressState
from raftd.consensus.types import EntriesGone
from tests.consensus.helpers import (
    HEARTBEAT,
    append_of,
    appends_to,
)
from tests.consensus.network import Network, entries_of_terms


def test_rule_15_commit_follows_only_what_this_message_matched() -> None:
    """What lies beyond it may be another leader's."""
    net = Network(logs={2: entries_of_terms(1, 1, 1, 1)})
    net.inject(append_of(2, 2, (1, 1), commit=9))
    assert net.core(2).commit_index == 1
    net.inject(append_of(2, 2, (1, 2), 2, commit=9))
    assert net.core(2).commit_index == 3
    net.inject(append_of(2, 2, (1, 1), commit=1))
    assert net.core(2).commit_index == 3, "commit never falls"


def test_rule_15_a_heartbeat_never_tells_more_than_the_follower_acknowledged() -> None:
    net = Network()
    net.elect(1)
    net.tick_all()
    net.cut = {(1, 3)}
    net.propose(1, b"x")
    net.settle()
    net.sent.clear()
    net.tick(1, HEARTBEAT)
    told = {m.dst: m.commit for m in net.sent if isinstance(m, Heartbeat)}
    assert told == {2: 2, 3: 1}


@pytest.mark.parametrize("late", [(2, 2, 2), (2, 2), (2,), ()])
def test_rule_16_a_late_shorter_append_removes_nothing(late: tuple[int, ...]) -> None:
    net = Network()
    net.inject(append_of(2, 2, (0, 0), 2, 2, 2, 2))
    net.settle()
    net.inject(append_of(2, 2, (0, 0), *late))
    net.settle()
    assert net.core(2).last_index == 4
    assert len(net[2].disk.log) == 4


def test_rule_16_a_conflict_removes_it_and_all_behind_it() -> None:
    """Raft paper 5.3."""
    net = Network(logs={2: entries_of_terms(1, 1, 2, 2, 2)})
    net.inject(append_of(2, 3, (1, 1), 1, 3))
    net.settle()
    assert [e.term for e in net[2].disk.log] == [1, 1, 3]


def test_rule_16_contradicting_what_is_committed_is_fatal() -> None:
    net = Network()
    m = append_of(2, 1, (0, 0), 1, 1)
    net.inject(Append(m.src, m.dst, m.term, Index(0), Term(0), m.entries, Index(2)))
    net.settle()
    same = append_of(2, 2, (0, 0), 2, 2, 2)
    net.inject(same)
    assert [net.core(2).term_at(i) for i in (1, 2)] == [1, 1], "committed stays"
    with pytest.raises(EntriesGone, match="up to 9 to be here, and the log ends at 3"):
        net.inject(Heartbeat(NodeId(1), NodeId(2), Term(2), Index(9)))


# Raft paper figure 7: logs that a new leader of term 8 may meet.
_FIGURE_7_LEADER = (1, 1, 1, 4, 4, 5, 5, 6, 6, 6)
_FIGURE_7 = {
    "a": (1, 1, 1, 4, 4, 5, 5, 6, 6),
    "b": (1, 1, 1, 4),
    "c": (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6),
    "d": (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7),
    "e": (1, 1, 1, 4, 4, 4, 4),
    "f": (1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3),
}


@pytest.mark.parametrize("name", _FIGURE_7)
def test_figure_7_every_log_is_brought_in_line(name: str) -> None:
    leader = entries_of_terms(*_FIGURE_7_LEADER)
    logs = {1: leader, 2: entries_of_terms(*_FIGURE_7[name]), 3: leader}
    net = Network(logs=logs, terms={1: 7, 2: 7, 3: 7})
    net.elect(1)
    net.tick_all(2 * HEARTBEAT)
    terms = [e.term for e in net[2].disk.log]
    assert terms == [*_FIGURE_7_LEADER, net.core(1).term]
    net.check_logs()


def test_rule_17_backing_off_costs_one_probe_per_term_not_per_entry() -> None:
    leader = entries_of_terms(*[1] * 3, *[4] * 300, *[5] * 300)
    net = Network(
        logs={1: leader, 2: entries_of_terms(*[1] * 3, *[2] * 300, *[3] * 300)},
        voters=(1,),
        size=2,
    )
    net.elect(1)
    net.tick_all()
    rejections = [m for m in net.sent if isinstance(m, AppendReply) and not m.accepted]
    assert len(rejections) <= 3
    assert net.core(2).last_index == net.core(1).last_index


def test_rule_18_stale_rejections_are_dropped() -> None:
    net = Network()
    net.elect(1)
    net.propose(1, b"x")
    net.settle()
    stale = AppendReply(NodeId(2), NodeId(1), Term(1), False, Index(1), Index(0))
    net.inject(stale)
    assert net.core(1).progress_states()[NodeId(2)] is ProgressState.REPLICATE
    assert not net.core(1).has_ready


def test_rule_18_so_are_those_to_an_earlier_probe() -> None:
    leader = entries_of_terms(1, 1, 1)
    net = Network(logs={1: leader, 3: leader})
    net.isolate(2)
    net.elect(1)
    earlier = AppendReply(NodeId(2), NodeId(1), net.core(1).term, False, Index(2))
    net.inject(earlier)
    assert not net.core(1).has_ready
    to_this_probe = msgspec.structs.replace(earlier, index=Index(3))
    net.inject(to_this_probe)
    (again,) = appends_to(list(net.take_ready(1).send_now), 2)
    assert again.prev_index == 0


def test_rule_18_replies_of_another_term_count_for_nothing() -> None:
    """An acknowledgement of this node's own older leadership."""
    net = Network()
    net.elect(1)
    net.held = {(2, 1), (3, 1)}
    net.propose(1, b"x")
    net.settle()
    late = [m for m in net.sent if isinstance(m, AppendReply) and m.index == 2]
    net.drop_between(2, 1)
    net.drop_between(3, 1)
    net.core(1).step_down()
    net.heal()
    net.elect(1)
    net.isolate(1)
    match = net.core(1).match_indexes()
    assert net.core(1).term == 2
    for m in late:
        net.inject(m)
    assert net.core(1).match_indexes() == match
