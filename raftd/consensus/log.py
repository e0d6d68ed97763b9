"""The log as the core sees it: its newest part in memory, its terms for all of it.

Rules:

* The in-memory tail ends at the last entry. Only entries that are durable *and*
  applied may leave it, oldest first, and only to keep it within its byte limit.
* Term runs cover the whole log, so `term_at` never reads the disk. The (index, term)
  of the entry before the first is kept when the log is cut (rule 31).
* Truncation happens at a real conflict only, and never at or below what is committed;
  the caller asserts the latter (rule 16).
* `staged` is the last index handed to the store, `durable` the last it confirmed.

Source: Raft paper section 5.3; rules 16, 17, 24, 31.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Protocol

from raftd.consensus.types import Entry, Index, Install, Term

__all__ = ["ENTRY_OVERHEAD_BYTES", "Log", "LogReader", "entry_bytes"]

#: What an entry costs besides its payload, on the wire and in memory, roughly.
ENTRY_OVERHEAD_BYTES = 64

#: The tail is cut this far below its limit, so that cutting is rare.
_EVICT_TO_NUMERATOR, _EVICT_TO_DENOMINATOR = 7, 8


def entry_bytes(entry: Entry) -> int:
    """Return what `entry` counts against every byte limit."""
    return len(entry.payload) + ENTRY_OVERHEAD_BYTES


class LogReader(Protocol):
    """Reads entries back that are durable and no longer in memory."""

    def entries(self, lo: int, hi: int, bytes_max: int) -> Sequence[Entry]:
        """Return entries from index `lo`, at least one, before `hi`.

        Args:
            lo: First index wanted; it is in the log and durable.
            hi: First index not wanted; greater than `lo`.
            bytes_max: Stop before this many bytes, but never before the first entry.
        """
        ...


class Log:
    """Entries, terms, and how far they are written."""

    __slots__ = (
        "_bytes_max",
        "_reader",
        "_run_starts",
        "_run_terms",
        "_tail",
        "_tail_bytes",
        "_tail_first",
        "durable",
        "first_index",
        "install",
        "last_index",
        "prev_term",
        "staged",
        "truncate_from",
    )

    def __init__(
        self,
        *,
        first_index: Index,
        prev_term: Term,
        entries: Sequence[Entry],
        term_runs: Sequence[tuple[Index, Term]],
        reader: LogReader | None,
        bytes_max: int,
    ) -> None:
        """Take over a durable log.

        Args:
            first_index: Its first index; the next one to be written if it is empty.
            prev_term: Term of the entry before `first_index`; 0 before the first.
            entries: Its end, at least the last entry; empty only if it is empty.
            term_runs: (first index, term) of each run of equal terms, rising.
            reader: Reads what is not in `entries`; None if that is nothing.
            bytes_max: Bytes of entries kept in memory.
        """
        self.first_index = first_index
        self.prev_term = prev_term
        self.last_index = entries[-1].index if entries else Index(first_index - 1)
        self._tail = list(entries)
        self._tail_first = entries[0].index if entries else first_index
        self._tail_bytes = sum(map(entry_bytes, entries))
        self._run_starts = [start for start, _ in term_runs]
        self._run_terms = [term for _, term in term_runs]
        self._reader = reader
        self._bytes_max = bytes_max
        self.staged = self.last_index
        self.durable = self.last_index
        #: Set when entries that the store has, or was handed, are to be removed.
        self.truncate_from: Index | None = None
        #: Set when the store is to drop everything and begin behind this entry.
        self.install: Install | None = None
        self._check_taken_over()

    def _check_taken_over(self) -> None:
        last_run = self._run_starts[-1] if self._run_starts else self.first_index
        assert self.first_index >= 1, "indexes start at 1"
        assert (self.last_index < self.first_index) == (not self._run_starts)
        assert self.first_index <= self._tail_first, "a tail before the first index"
        assert self.last_index + 1 == self._tail_first + len(self._tail), "a gap"
        assert not self._run_starts or self._run_starts[0] == self.first_index
        assert last_run <= max(self.last_index, self.first_index), "a run past the end"

    @property
    def last_term(self) -> Term:
        """The term of the last entry, or of the one before the first."""
        return self._run_terms[-1] if self._run_terms else self.prev_term

    @property
    def tail_bytes(self) -> int:
        """Bytes of entries in memory."""
        return self._tail_bytes

    @property
    def tail_first_index(self) -> Index:
        """The first index in memory; one past the last if nothing is."""
        return self._tail_first

    @property
    def term_runs(self) -> tuple[tuple[Index, Term], ...]:
        """(first index, term) of each run of equal terms."""
        return tuple(zip(self._run_starts, self._run_terms, strict=True))

    def term_at(self, index: int) -> Term | None:
        """Return the term at `index`; None if it is cut away or not yet there."""
        starts = self._run_starts
        if index > self.last_index:
            return None
        if starts and index >= starts[-1]:
            return self._run_terms[-1]
        if index < self.first_index:
            return self.prev_term if index == self.first_index - 1 else None
        return self._run_terms[bisect_right(starts, index) - 1]

    def find_at_most(self, index: int, term: int) -> tuple[Index, Term]:
        """Return (index, term) of the largest entry at most at both, by runs.

        Falls back to the entry before the first, whatever its term.
        """
        at = min(index, self.last_index)
        if at < self.first_index:
            return Index(max(at, 0)), self.term_at(at) or Term(0)
        run = bisect_right(self._run_starts, at) - 1
        while run >= 0 and self._run_terms[run] > term:
            at = self._run_starts[run] - 1
            run -= 1
        if run < 0:
            return Index(self.first_index - 1), self.prev_term
        return Index(at), self._run_terms[run]

    def append(self, entry: Entry) -> None:
        """Add one entry behind the last."""
        assert entry.index == self.last_index + 1, "entries follow one another"
        if not self._run_terms or self._run_terms[-1] != entry.term:
            assert entry.term >= self.last_term, "terms never fall along the log"
            self._run_starts.append(entry.index)
            self._run_terms.append(entry.term)
        self._tail.append(entry)
        self._tail_bytes += len(entry.payload) + ENTRY_OVERHEAD_BYTES
        self.last_index = entry.index

    def truncate(self, index: Index) -> None:
        """Remove every entry from `index` on: here now, on disk with the next write.

        The store's confirmations for what is removed no longer count: `staged` and
        `durable` fall with it.
        """
        assert self._tail_first <= index <= self.last_index, "only the tail is cut"
        at = index - self._tail_first
        self._tail_bytes -= sum(map(entry_bytes, self._tail[at:]))
        del self._tail[at:]
        while self._run_starts and self._run_starts[-1] >= index:
            self._run_starts.pop()
            self._run_terms.pop()
        self.last_index = Index(index - 1)
        if self.staged >= index:
            self.staged = self.last_index
            known = self.truncate_from
            self.truncate_from = index if known is None else min(known, index)
        self.durable = min(self.durable, self.last_index)

    def restart(self, index: Index, term: Term, durable_max: Index) -> None:
        """Drop everything: the log begins behind (`index`, `term`) from here on.

        The store learns it with the next write; until that is confirmed no more than
        `durable_max` of what it has counts as durable.
        """
        assert index > durable_max, "nothing that is known to be committed goes"
        self.first_index = Index(index + 1)
        self.prev_term = term
        self.last_index = index
        self._tail = []
        self._tail_first = self.first_index
        self._tail_bytes = 0
        self._run_starts = []
        self._run_terms = []
        self.truncate_from = None
        self.install = Install(index, term)
        # The store is yet to be handed the new beginning.
        self.staged = Index(index - 1)
        self.durable = min(self.durable, durable_max)

    @property
    def is_installing(self) -> bool:
        """Tell whether the disk does not have the beginning of this log yet."""
        return self.durable < self.first_index - 1

    def take_unstaged(self) -> tuple[Entry, ...]:
        """Return what the store was not handed yet, and count it as handed."""
        entries = tuple(self._tail[self.staged + 1 - self._tail_first :])
        self.staged = self.last_index
        return entries

    def slice(self, lo: int, hi: int, bytes_max: int) -> tuple[Entry, ...]:
        """Return entries from `lo` before `hi`, at least one, within `bytes_max`.

        May stop earlier than the limits say, where memory begins.
        """
        assert self.first_index <= lo < hi <= self.last_index + 1, "not in the log"
        if lo < self._tail_first:
            assert self._reader is not None, "entries neither in memory nor on disk"
            stop = min(hi, self._tail_first)
            read = tuple(self._reader.entries(lo, stop, bytes_max))
            assert read, "the store lost entries that it confirmed"
            assert read[0].index == lo, "the store answered for another index"
            return read
        tail, first = self._tail, self._tail_first
        at = lo - first
        used = len(tail[at].payload) + ENTRY_OVERHEAD_BYTES
        end = at + 1
        for position in range(at + 1, hi - first):
            used += len(tail[position].payload) + ENTRY_OVERHEAD_BYTES
            if used > bytes_max:
                break
            end = position + 1
        return tuple(tail[at:end])

    def in_memory(self, lo: int, hi: int) -> Sequence[Entry]:
        """Return entries from `lo` to `hi`, both included, all of them in memory."""
        assert self._tail_first <= lo, "evicted"
        return self._tail[lo - self._tail_first : hi + 1 - self._tail_first]

    def evict(self, applied: Index) -> None:
        """Drop the oldest entries from memory, if it holds more than its limit.

        Args:
            applied: Entries after this one stay; so do entries not yet durable.
        """
        if self._tail_bytes <= self._bytes_max:
            return
        goal = self._bytes_max * _EVICT_TO_NUMERATOR // _EVICT_TO_DENOMINATOR
        # The last entry stays, so that a tail is never mistaken for an empty log.
        stop = min(applied, self.durable, self.last_index - 1) + 1 - self._tail_first
        count = 0
        while count < stop and self._tail_bytes > goal:
            self._tail_bytes -= entry_bytes(self._tail[count])
            count += 1
        del self._tail[:count]
        self._tail_first = Index(self._tail_first + count)

    def compact(self, index: Index) -> None:
        """Forget every entry up to `index`, which the node has cut from its store.

        Args:
            index: Applied and durable; below the first index nothing happens.
        """
        if index < self.first_index:
            return
        assert index <= self.durable, "the log is never cut beyond the disk"
        term = self.term_at(index)
        assert term is not None
        keep = bisect_right(self._run_starts, index + 1) - 1
        if index == self.last_index:
            keep = len(self._run_starts)
        del self._run_starts[:keep]
        del self._run_terms[:keep]
        self.first_index = Index(index + 1)
        self.prev_term = term
        if self._run_starts:
            self._run_starts[0] = self.first_index
        dropped = max(self.first_index - self._tail_first, 0)
        self._tail_bytes -= sum(map(entry_bytes, self._tail[:dropped]))
        del self._tail[:dropped]
        self._tail_first = max(self._tail_first, self.first_index)
