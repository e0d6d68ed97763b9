"""The core's log against a plain list, through everything that can happen to it.

Source: Raft paper 5.3 and 7; rules 16, 17, 24 and 31.
"""

from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from raftd.consensus import Entry, EntryKind, Index, Term
from raftd.consensus.log import Log, entry_bytes
from tests.consensus.quick import QUICK


class _Store:
    """What was written, by index."""

    def __init__(self) -> None:
        self.entries_at: dict[int, Entry] = {}

    def entries(self, lo: int, hi: int, bytes_max: int) -> Sequence[Entry]:
        found = [self.entries_at[lo]]
        for index in range(lo + 1, hi):
            found.append(self.entries_at[index])
            if sum(map(entry_bytes, found)) > bytes_max:
                return found[:-1]
        return found


class LogAgainstList(RuleBasedStateMachine):
    """`known` is the whole truth: what is at each index, cut away or not."""

    @initialize(bytes_max=st.sampled_from([1, 200, 1 << 20]))
    def begin(self, bytes_max: int) -> None:
        self.store = _Store()
        self.log = Log(
            first_index=Index(1),
            prev_term=Term(0),
            entries=(),
            term_runs=(),
            reader=self.store,
            bytes_max=bytes_max,
        )
        self.known: dict[int, Entry] = {}
        self.terms: dict[int, int] = {0: 0}
        self.first = 1
        self.last = 0
        self.staged = 0
        self.durable = 0
        self.applied = 0
        self.truncated_from: int | None = None
        self.written: list[Entry] = []

    @rule(rise=st.sampled_from([0, 0, 1, 2]), size=st.integers(0, 40))
    def append(self, rise: int, size: int) -> None:
        index, term = self.last + 1, max(self.terms[self.last] + rise, 1)
        entry = Entry(Index(index), Term(term), EntryKind.NORMAL, b"x" * size)
        self.log.append(entry)
        self.known[index], self.terms[index], self.last = entry, term, index

    @rule()
    def write(self) -> None:
        taken = self.log.take_unstaged()
        assert list(taken) == [
            self.known[at] for at in range(self.staged + 1, self.last + 1)
        ]
        assert self.log.truncate_from == self.truncated_from
        self.log.truncate_from = self.truncated_from = None
        self.staged = self.last
        self.written += taken

    @rule()
    def confirm(self) -> None:
        """The store has everything that it was handed and that still stands."""
        if self.truncated_from is None:
            self.store.entries_at |= {e.index: e for e in self.written}
            self.written = []
            self.log.durable = Index(self.staged)
            self.durable = self.staged

    @rule(data=st.data())
    def apply(self, data: st.DataObject) -> None:
        self.applied = data.draw(st.integers(self.applied, self.last))
        self.log.evict(Index(self.applied))

    @precondition(lambda self: self.applied < self.last)
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(self.applied + 1, self.last))
        self.log.truncate(Index(index))
        for at in range(index, self.last + 1):
            del self.known[at], self.terms[at]
        if self.staged >= index:
            known = self.truncated_from
            self.truncated_from = index if known is None else min(known, index)
        self.last = index - 1
        self.staged = min(self.staged, self.last)
        self.durable = min(self.durable, self.last)
        self.written = [e for e in self.written if e.index < index]

    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, min(self.applied, self.durable)))
        self.log.compact(Index(index))
        self.first = max(self.first, index + 1)

    @rule(ahead=st.integers(1, 3), rise=st.integers(0, 2))
    def restart(self, ahead: int, rise: int) -> None:
        """A snapshot takes the place of everything; it is on disk at once."""
        index = self.last + ahead
        term = max(self.terms[self.last] + rise, 1)
        self.log.restart(Index(index), Term(term), Index(self.applied))
        assert self.log.is_installing
        self.log.install = None
        self.log.staged = self.log.durable = Index(index)
        self.known, self.terms = {}, {index: term}
        self.written, self.truncated_from = [], None
        self.last = self.staged = self.durable = self.applied = index
        self.first = index + 1

    @invariant()
    def ends(self) -> None:
        log = self.log
        assert (log.first_index, log.last_index) == (self.first, self.last)
        assert (log.staged, log.durable) == (self.staged, self.durable)
        assert log.last_term == self.terms[self.last]
        assert not log.is_installing
        tail = [self.known[at] for at in range(log.tail_first_index, self.last + 1)]
        assert log.tail_bytes == sum(map(entry_bytes, tail))
        assert log.tail_first_index <= max(self.applied, self.first - 1) + 1
        assert log.tail_first_index <= max(self.durable, self.first - 1) + 1

    @invariant()
    def terms_are_known(self) -> None:
        for index in range(self.last + 3):
            is_known = self.first - 1 <= index <= self.last
            expected = self.terms[index] if is_known else None
            assert self.log.term_at(index) == expected

    @invariant()
    def runs_are_the_terms(self) -> None:
        naive = [
            (at, self.terms[at])
            for at in range(self.first, self.last + 1)
            if at == self.first or self.terms[at] != self.terms[at - 1]
        ]
        assert list(self.log.term_runs) == naive

    @rule(index=st.integers(0, 12), term=st.integers(0, 6))
    def find(self, index: int, term: int) -> None:
        at = min(index, self.last)
        while at >= self.first and self.terms[at] > term:
            at -= 1
        is_known = at >= self.first - 1
        expected = (at, self.terms[at] if is_known else 0)
        assert self.log.find_at_most(index, term) == expected

    @precondition(lambda self: self.first <= self.last)
    @rule(data=st.data(), bytes_max=st.sampled_from([1, 150, 1 << 20]))
    def read(self, data: st.DataObject, bytes_max: int) -> None:
        lo = data.draw(st.integers(self.first, self.last))
        hi = data.draw(st.integers(lo + 1, self.last + 1))
        got = self.log.slice(lo, hi, bytes_max)
        assert list(got) == [self.known[at] for at in range(lo, lo + len(got))]
        assert 1 <= len(got) <= hi - lo
        used = sum(map(entry_bytes, got))
        assert len(got) == 1 or used <= bytes_max
        stop = lo + len(got)
        if stop < hi and stop != self.log.tail_first_index:
            assert used + entry_bytes(self.known[stop]) > bytes_max, "too few"


TestLogAgainstList = LogAgainstList.TestCase
TestLogAgainstList.settings = settings(QUICK, max_examples=60, stateful_step_count=30)
