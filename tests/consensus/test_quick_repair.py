"""Bringing logs in line against naive versions: paper 5.3 and 5.4.1, figure 2.

The naive leader goes back one entry at a time; the naive follower is figure 2's
AppendEntries on a list of terms.
"""

import itertools
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from raftd.consensus import Index, Term
from raftd.consensus.messages import AppendReply, PreVoteReply, VoteReply
from tests.consensus.helpers import (
    HEARTBEAT,
    append_of,
    appends_to,
    limited,
    pre_vote_of,
    vote_of,
)
from tests.consensus.network import Network, entries_of_terms
from tests.consensus.quick import QUICK
from tests.consensus.words import sent

_RUN = st.integers(1, 4)


@st.composite
def _forked(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Two logs that agree up to some place; behind it no term is in both.

    Any two logs of one cluster are such: a term has one leader, which has one log.
    """
    past = sorted(draw(st.lists(st.integers(1, 3), max_size=6)))
    logs = (list(past), list(past))
    for term in range(past[-1] if past else 1, 9):
        whose = draw(st.sampled_from([None, 0, 1]))
        if whose is not None:
            logs[whose].extend([term] * draw(_RUN | st.just(30)))
    return logs


def _meeting_place(one: list[int], other: list[int]) -> int:
    """Going back by one until an entry has the same index and term."""
    at = len(one)
    while at and one[at - 1 : at] != other[at - 1 : at]:
        at -= 1
    return at


@QUICK
@given(_forked(), st.sampled_from([1, 200, 1 << 20]))
def test_fast_backing_off_stops_where_going_back_by_one_would(
    logs: tuple[list[int], list[int]], append_bytes_max: int
) -> None:
    """At the very same entry, in no more probes, at most one for a run of terms."""
    leader, follower = logs
    term = max([*leader, *follower, 1])
    net = Network(
        2,
        logs={1: entries_of_terms(*leader), 2: entries_of_terms(*follower)},
        terms={1: term, 2: term},
        voters=(1,),
        configure=limited(append_bytes_max=append_bytes_max),
    )
    net.elect(1)
    net.tick(1, 2 * HEARTBEAT)
    common = _meeting_place(leader, follower)
    probes = [int(m.prev_index) for m in appends_to(net.sent, 2)]
    refused = [m.index for m in sent(net, AppendReply, src=2) if not m.accepted]
    assert probes[: len(refused)] == refused
    assert probes[len(refused)] == common
    assert all(a > b for a, b in itertools.pairwise(probes[: len(refused) + 1]))
    assert len(refused) <= len(leader) - common, "more than going back by one"
    runs = set(leader[common:]) | set(follower[common:])
    assert len(refused) <= len(runs) + 1
    assert net[2].disk.log == net[1].disk.log
    assert [e.term for e in net[2].disk.log[:-1]] == leader


@dataclass
class _Receiver:
    """Figure 2's AppendEntries, word by word."""

    term: int = 0
    log: list[int] = field(default_factory=list)
    commit: int = 0

    def receive(self, term: int, prev: int, leader: list[int], end: int, c: int) -> str:
        """Take in the leader's entries after `prev`, up to `end`; say the answer."""
        if term < self.term:
            return f"{self.term} refuses 0, hints 0.0"
        self.term = term
        prev_term = leader[prev - 1] if prev else 0
        if prev > len(self.log) or (prev and self.log[prev - 1] != prev_term):
            return f"{term} refuses {prev}, hints {self.hint(prev, prev_term)}"
        for at in range(prev, end):
            if at < len(self.log) and self.log[at] != leader[at]:
                del self.log[at:]
            if at == len(self.log):
                self.log.append(leader[at])
        if c > self.commit:
            self.commit = max(self.commit, min(c, end))
        # What is committed is known to be the same, whatever this request says.
        return f"{term} accepts {max(end, self.commit)}"

    def hint(self, prev: int, prev_term: int) -> str:
        """The last own entry that is at most at both."""
        at = min(prev, len(self.log))
        while at and self.log[at - 1] > prev_term:
            at -= 1
        return f"{at}.{self.log[at - 1] if at else 0}"


def _told(m: AppendReply) -> str:
    if m.accepted:
        return f"{m.term} accepts {m.index}"
    return f"{m.term} refuses {m.index}, hints {m.hint_index}.{m.hint_term}"


@st.composite
def _leaders(draw: st.DrawFn) -> dict[int, list[int]]:
    """The log of each term's leader: a part of an earlier one's, and its own."""
    logs: dict[int, list[int]] = {0: []}
    for term in range(1, 6):
        earlier = logs[draw(st.sampled_from(sorted(logs)))]
        kept = draw(st.integers(0, len(earlier)))
        logs[term] = [*earlier[:kept], *[term] * draw(_RUN)]
    return {term: log for term, log in logs.items() if term}


@QUICK
@given(_leaders(), st.data())
def test_a_follower_does_what_figure_2_says(
    logs: dict[int, list[int]], data: st.DataObject
) -> None:
    """With appends of several leaders in any order, again and again, and crashes."""
    net = Network(2, voters=(1, 2))
    net.isolate(2)
    naive = _Receiver()
    safe = min(_meeting_place(a, b) for a in logs.values() for b in logs.values())
    for _ in range(data.draw(st.integers(1, 12))):
        if data.draw(st.integers(0, 9)) == 0:
            net.restart(2)
            naive.commit = net[2].disk.commit
        term = data.draw(st.sampled_from(sorted(logs)))
        log = logs[term]
        prev = data.draw(st.integers(0, len(log)))
        end = data.draw(st.integers(prev, len(log)))
        commit = data.draw(st.integers(0, safe))
        prev_term = log[prev - 1] if prev else 0
        m = append_of(2, term, (prev_term, prev), *log[prev:end], commit=commit)
        net.inject(m)
        net.settle()
        expected = naive.receive(term, prev, log, end, commit)
        assert _told(sent(net, AppendReply, src=2)[-1]) == expected
        assert [e.term for e in net[2].disk.log] == naive.log
        assert net.core(2).term == naive.term
        assert net.core(2).commit_index == naive.commit


@QUICK
@given(_forked(), st.booleans())
def test_a_vote_is_given_as_section_5_4_1_says(
    logs: tuple[list[int], list[int]], is_pre_vote: bool
) -> None:
    """To a log that is not behind in (last term, last index), and to no other."""
    theirs, mine = logs
    net = Network(2, logs={2: entries_of_terms(*mine)})
    last = (theirs[-1] if theirs else 0, len(theirs))
    ask = pre_vote_of if is_pre_vote else vote_of
    net.inject(ask(1, 2, 20, last))
    net.settle()
    replies = [m for m in net.sent if isinstance(m, VoteReply | PreVoteReply)]
    own = (mine[-1] if mine else 0, len(mine))
    is_longer = own[0] == last[0] and own[1] <= last[1]
    assert [m.granted for m in replies] == [own[0] < last[0] or is_longer]
    assert net.core(2).term == (Term(own[0]) if is_pre_vote else 20)
    assert net.core(2).last_index == Index(len(mine))
