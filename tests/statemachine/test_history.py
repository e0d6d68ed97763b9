"""The history: ordered, complete, bounded, and the same after a restart."""

from raftd.statemachine.events import HistoryRecord
from raftd.statemachine.limits import Limits
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.kv import (
    CompactHistory,
    DeleteKey,
    DeleteRange,
    HistoryCompacted,
    KeyValue,
    PutKey,
)
from raftd.statemachine.schema.txn import Transact, Transacted
from tests.statemachine.harness import Harness, refusal

_SMALL = Limits(history_revisions_min=3, history_ms_max=1000)


def _read(harness: Harness, from_rev: int) -> list[HistoryRecord]:
    records = harness.machine.history.read(from_rev, 1000)
    assert isinstance(records, list), records
    return records


def _events(harness: Harness, from_rev: int) -> list[tuple[int, bytes, bytes | None]]:
    found = []
    for record in _read(harness, from_rev):
        for event in record.events:
            assert isinstance(event, KeyValue)
            value = event.value if event.version else None
            if event.mod_rev >= from_rev:
                found.append((event.mod_rev, event.key, value))
    return found


def test_each_entry_with_events_is_one_record() -> None:
    harness = Harness()
    applied = harness.entry(PutKey(b"a", b"1"), DeleteKey(b"x"), PutKey(b"b", b"2"))
    assert applied.record is not None
    assert (applied.record.first_rev, applied.record.last_rev) == (1, 2)
    assert harness.entry(DeleteKey(b"x")).record is None
    assert _read(harness, 1) == [applied.record]


def test_reading_resumes_at_any_revision_in_order() -> None:
    harness = Harness()
    harness.entry(PutKey(b"a", b"1"), PutKey(b"b", b"2"))
    harness.entry(DeleteKey(b"a"))
    assert _events(harness, 2) == [(2, b"b", b"2"), (3, b"a", None)]
    assert _events(harness, 3) == [(3, b"a", None)]
    assert _events(harness, 4) == []


def test_reading_is_bounded_in_records() -> None:
    harness = Harness()
    for value in (b"1", b"2", b"3"):
        harness.do(PutKey(b"a", value))
    records = harness.machine.history.read(1, 2)
    assert isinstance(records, list)
    assert [record.last_rev for record in records] == [1, 2]


def test_an_event_knows_what_it_replaced() -> None:
    harness = Harness()
    for value in (b"1", b"2"):
        harness.do(PutKey(b"a", value))
    harness.do(DeleteKey(b"a"))
    harness.do(PutKey(b"a", b"4"))
    previous = []
    for record in _read(harness, 1):
        event = record.events[0]
        assert isinstance(event, KeyValue)
        found = harness.machine.kv.previous(event)
        previous.append(found.value if found is not None else None)
    assert previous == [None, b"1", b"2", None]


def test_a_key_written_twice_under_one_revision_is_one_event() -> None:
    harness = Harness()
    harness.do(PutKey(b"a", b"0"))
    answer = harness.do(
        Transact((), (PutKey(b"a", b"1"), PutKey(b"b", b"1"), PutKey(b"a", b"2")))
    )
    assert isinstance(answer, Transacted)
    assert _events(harness, 2) == [(2, b"b", b"1"), (2, b"a", b"2")]
    event = _read(harness, 2)[0].events[1]
    assert isinstance(event, KeyValue)
    previous = harness.machine.kv.previous(event)
    assert previous is not None
    assert previous.value == b"0"


def test_a_key_made_and_deleted_under_one_revision_is_no_event() -> None:
    harness = Harness()
    harness.do(Transact((), (PutKey(b"a", b"1"), DeleteKey(b"a"))))
    assert _events(harness, 1) == []
    harness.do(PutKey(b"b", b"1"))
    harness.do(DeleteKey(b"b"))
    harness.do(Transact((), (PutKey(b"b", b"2"), DeleteKey(b"b"))))
    assert _events(harness, 1) == [(2, b"b", b"1"), (3, b"b", None)]


def test_a_key_deleted_and_made_again_under_one_revision_is_a_put() -> None:
    harness = Harness()
    harness.do(PutKey(b"a", b"1"))
    harness.do(Transact((), (DeleteKey(b"a"), PutKey(b"a", b"2"))))
    assert _events(harness, 1) == [(1, b"a", b"1"), (2, b"a", b"2")]
    assert harness.record(b"a") == KeyValue(b"a", b"2", 2, 2, 1, 0)


def test_compaction_forgets_events_and_the_versions_they_replaced() -> None:
    harness = Harness()
    for value in (b"1", b"2", b"3", b"4"):
        harness.do(PutKey(b"a", value))
    assert harness.do(CompactHistory(3)) == HistoryCompacted(3)
    assert refusal(harness.machine.history.read(3, 9)) is Reason.COMPACTED
    assert _events(harness, 4) == [(4, b"a", b"4")]
    rows = harness.save()
    versions = sorted(key for table, key in rows if table == 30)
    assert versions == [b"a" + rev.to_bytes(8, "big") for rev in (3, 4)]


def test_compaction_never_goes_back_and_never_into_the_future() -> None:
    harness = Harness()
    for value in (b"1", b"2", b"3"):
        harness.do(PutKey(b"a", value))
    harness.do(CompactHistory(2))
    assert harness.do(CompactHistory(1)) == HistoryCompacted(2)
    assert refusal(harness.do(CompactHistory(4))) is Reason.PRECONDITION


def test_a_deletion_that_is_forgotten_leaves_no_row() -> None:
    harness = Harness()
    harness.do(PutKey(b"a", b"1"))
    harness.do(DeleteKey(b"a"))
    harness.do(CompactHistory(2))
    rows = harness.save()
    assert {table for table, _ in rows} == {0, 40}
    harness.do(PutKey(b"a", b"3"))
    assert harness.record(b"a").version == 1


def test_old_events_are_forgotten_but_never_the_newest_revisions() -> None:
    harness = Harness(_SMALL)
    for number in range(6):
        harness.do(PutKey(b"a", b"%d" % number))
    assert harness.machine.history.compacted_rev == 0
    harness.entry(after_ms=1001)
    assert harness.machine.history.compacted_rev == 3
    assert [rev for rev, _, _ in _events(harness, 4)] == [4, 5, 6]


def test_events_over_the_bytes_are_forgotten_before_their_time() -> None:
    harness = Harness(Limits(history_revisions_min=2, history_bytes_max=5000))
    for number in range(40):
        harness.do(PutKey(b"a", b"%d" % number * 100))
    history = harness.machine.history
    assert history.size_bytes <= 5000 + 500
    assert 0 < history.compacted_rev <= harness.machine.revision - 2


def test_forgetting_is_bounded_per_entry_and_goes_on_by_itself() -> None:
    harness = Harness(Limits(work_rows_max=2))
    for number in range(9):
        harness.do(PutKey(b"%d" % number, b""))
    harness.do(DeleteRange(b"", b""))
    harness.do(CompactHistory(harness.machine.revision))
    entries = 0
    while harness.machine.has_backlog:
        harness.entry()
        entries += 1
    assert 7 <= entries <= 9
    assert {table for table, _ in harness.save()} == {0, 40}
    assert harness.machine.history.size_bytes == 0


def test_a_restart_in_the_middle_of_forgetting_goes_on() -> None:
    limits = Limits(work_rows_max=2)
    harness = Harness(limits)
    for number in range(5):
        harness.do(PutKey(b"%d" % number, b""))
    harness.do(DeleteRange(b"", b""))
    harness.do(CompactHistory(harness.machine.revision))
    for _ in range(4):
        harness.entry()
    harness.save()
    other = harness.reload(limits)
    while other.machine.has_backlog:
        other.entry()
    assert {table for table, _ in other.save()} == {0, 40}


def test_a_restarted_member_resumes_watches_where_they_were() -> None:
    harness = Harness()
    harness.do(PutKey(b"a", b"1"))
    harness.entry(PutKey(b"a", b"2"), PutKey(b"b", b"1"))
    harness.do(DeleteKey(b"a"))
    harness.do(CompactHistory(1))
    harness.save()
    other = harness.reload()
    assert _read(other, 2) == _read(harness, 2)
    assert refusal(other.machine.history.read(1, 9)) is Reason.COMPACTED
    assert isinstance(other.machine.history.read(1, 9), Refusal)
