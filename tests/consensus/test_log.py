"""The core's view of the log, against a plain list of terms."""

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftd.consensus import Entry, EntryKind, Index, Term
from raftd.consensus.log import ENTRY_OVERHEAD_BYTES, Log
from tests.consensus.network import Disk, entries_of_terms, runs_of

_TERMS = st.lists(st.integers(1, 6), max_size=14).map(sorted)


class _Built(NamedTuple):
    log: Log
    disk: Disk


def _build(terms: list[int], *, bytes_max: int = 1 << 20) -> _Built:
    entries = entries_of_terms(*terms)
    disk = Disk(log=list(entries))
    log = Log(
        first_index=Index(1),
        prev_term=Term(0),
        entries=entries,
        term_runs=runs_of(entries),
        reader=disk,
        bytes_max=bytes_max,
    )
    return _Built(log, disk)


@given(_TERMS, st.data())
def test_terms_are_known_for_the_whole_log_even_after_a_cut(
    terms: list[int], data: st.DataObject
) -> None:
    log = _build(terms).log
    cut = data.draw(st.integers(0, len(terms)))
    log.compact(Index(cut))
    assert log.first_index == cut + 1
    assert log.last_index == len(terms)
    for index in range(len(terms) + 3):
        is_known = max(cut, 0) <= index <= len(terms)
        expected = ([0, *terms])[index] if is_known else None
        assert log.term_at(index) == expected
    assert log.last_term == ([0, *terms])[-1]


@given(_TERMS, st.integers(0, 16), st.integers(0, 7))
def test_hint_is_the_largest_entry_at_most_at_both(
    terms: list[int], index: int, term: int
) -> None:
    """Rule 17."""
    log = _build(terms).log
    naive = max(
        at
        for at, have in enumerate([0, *terms])
        if at == 0 or (at <= index and have <= term)
    )
    assert log.find_at_most(index, term) == (naive, ([0, *terms])[naive])


@given(_TERMS.filter(bool), st.data())
def test_truncation_forgets_entries_terms_and_what_was_confirmed(
    terms: list[int], data: st.DataObject
) -> None:
    log = _build(terms).log
    at = data.draw(st.integers(1, len(terms)))
    log.truncate(Index(at))
    assert (log.last_index, log.durable, log.staged) == (at - 1, at - 1, at - 1)
    assert log.truncate_from == at
    assert log.term_runs == tuple(runs_of(entries_of_terms(*terms[: at - 1])))
    assert log.term_at(at) is None


def test_what_was_never_handed_to_the_store_needs_no_truncation_there() -> None:
    log = _build([1]).log
    for index in (2, 3):
        log.append(Entry(Index(index), Term(1), EntryKind.NORMAL, b""))
    log.truncate(Index(2))
    assert log.truncate_from is None
    assert log.take_unstaged() == ()


def test_memory_is_bounded_and_the_rest_is_read_back() -> None:
    size = ENTRY_OVERHEAD_BYTES + len(b"1.1")
    built = _build([1] * 9, bytes_max=4 * size)
    log = built.log
    log.evict(Index(9))
    assert log.tail_bytes <= 4 * size
    assert log.tail_first_index > 1
    read: list[Entry] = []
    while len(read) < 9:
        read += log.slice(len(read) + 1, 10, 2 * size)
    assert read == built.disk.log


@pytest.mark.parametrize(("applied", "durable"), [(2, 9), (9, 2)])
def test_only_durable_and_applied_entries_leave_memory(
    applied: int, durable: int
) -> None:
    log = _build([1] * 9, bytes_max=1).log
    log.durable = Index(durable)
    log.evict(Index(applied))
    assert log.tail_first_index == 3


def test_a_slice_gives_at_least_one_entry_and_stops_at_its_limit() -> None:
    log = _build([1] * 9).log
    size = ENTRY_OVERHEAD_BYTES + len(b"1.1")
    assert [e.index for e in log.slice(2, 10, 1)] == [2]
    assert [e.index for e in log.slice(2, 10, 3 * size)] == [2, 3, 4]
    assert [e.index for e in log.slice(8, 10, 1 << 20)] == [8, 9]


def test_a_cut_at_the_very_end_leaves_an_empty_log_that_goes_on() -> None:
    log = _build([1, 2]).log
    log.compact(Index(2))
    assert (log.first_index, log.last_index, log.last_term) == (3, 2, 2)
    log.append(Entry(Index(3), Term(2), EntryKind.NORMAL, b"x"))
    assert log.term_runs == ((3, 2),)
    assert [e.payload for e in log.take_unstaged()] == [b"x"]
