"""One history of events by revision; it serves every watch.

One record per entry that had events. Bounded by count, age and bytes: the last 10 000
revisions are always kept; older ones up to 5 minutes, while all fits
``history_bytes_max``. Compaction is a task of apply on the entries' stamps, so every
member forgets the same records in the same entry; ``CompactHistory`` moves the
compaction revision at once and leaves the forgetting to the task.

Rules: below ``compacted_rev`` nothing is readable, whether forgotten yet or not. A key
event refers to its version; what it replaced goes when the event goes.

Source: SEMANTICS.md section 2; DESIGN.md section 5 (one history).
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Final, Protocol

import msgspec

from raftd.statemachine import refusals
from raftd.statemachine.answers import Answer
from raftd.statemachine.context import Context
from raftd.statemachine.events import (
    ElectionEvent,
    Event,
    HistoryRecord,
    JobEvent,
    LockLost,
)
from raftd.statemachine.loading import STEP_ROWS
from raftd.statemachine.module import Handlers, Module
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.kv import CompactHistory, HistoryCompacted, KeyValue
from raftd.statemachine.tables import Rank, RowKey, Table

__all__ = ["History", "VersionKeeper"]

_COMPACTED: Final = 0
"""The row under this key holds the compaction revision; records begin at 1."""


class _KeyRef(
    msgspec.Struct, frozen=True, array_like=True, gc=False, tag=1, tag_field="tag"
):
    """A key event in a row: its record is a row of the versions' table."""

    key: bytes
    rev: int


_StoredEvent = _KeyRef | ElectionEvent | JobEvent | LockLost
_Stored = tuple[int, int, int, list[_StoredEvent]]
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Stored).decode
_decode_rev: Final = msgspec.msgpack.Decoder(int).decode


class VersionKeeper(Protocol):
    """What the history asks of the key-value store."""

    compacted_rev: int

    def exact(self, key: bytes, rev: int) -> KeyValue | None:
        """Return the record (or tombstone) written at exactly this revision."""

    def trim(self, event: KeyValue) -> None:
        """Drop what an event replaced: the event leaves the history."""


class History(Module):
    """The records of recent entries, oldest first."""

    rank = Rank.HISTORY
    tables = (Table.HISTORY,)

    def __init__(self, context: Context, versions: VersionKeeper) -> None:
        super().__init__(context)
        self._versions: Final = versions
        self._records: deque[HistoryRecord] = deque()
        self._by_first: dict[int, HistoryRecord] = {}
        self._loading: list[tuple[int, _Stored]] = []
        self.size_bytes = 0

    def handlers(self) -> Handlers:
        """Return who handles which command type."""
        return {CompactHistory: self._compact}

    # --- reads -------------------------------------------------------------------

    @property
    def compacted_rev(self) -> int:
        """Return the oldest readable revision."""
        return self._versions.compacted_rev

    def read(self, from_rev: int, records_max: int) -> list[HistoryRecord] | Refusal:
        """Return records with events at or above ``from_rev``, oldest first.

        The first may hold older events as well. Refused if events at ``from_rev`` may
        be forgotten.
        """
        if from_rev <= self.compacted_rev:
            return refusals.compacted(from_rev, self.compacted_rev)
        records = self._records
        place = bisect_left(records, from_rev, key=_last_rev)
        return list(islice(records, place, place + records_max))

    # --- entries -----------------------------------------------------------------

    def close_entry(self, first_rev: int) -> HistoryRecord | None:
        """Make the record of the entry that ends, from the context's events."""
        context = self.context
        if not context.events:
            return None
        record = HistoryRecord(
            first_rev,
            context.revision,
            context.now_ms,
            context.event_bytes,
            context.events,
        )
        context.events = []
        context.event_bytes = 0
        context.mark(Table.HISTORY, first_rev)
        self._records.append(record)
        self._by_first[first_rev] = record
        self.size_bytes += record.size_bytes
        return record

    def _compact(self, command: CompactHistory) -> Answer:
        context = self.context
        if command.revision > context.revision:
            return Refusal(
                Reason.PRECONDITION,
                f"revision {command.revision} is not reached yet, the state is at"
                f" {context.revision}",
                {"revision": str(context.revision)},
            )
        if command.revision > self.compacted_rev:
            context.mark(Table.HISTORY, _COMPACTED)
            context.journal.attribute(self._versions, "compacted_rev")
            self._versions.compacted_rev = command.revision
        return HistoryCompacted(self.compacted_rev)

    # --- forgetting --------------------------------------------------------------

    def has_tasks(self) -> bool:
        """Tell whether the oldest record is to be forgotten."""
        if not self._records:
            return False
        oldest = self._records[0]
        if oldest.last_rev <= self.compacted_rev:
            return True
        context = self.context
        limits = context.limits
        return oldest.last_rev <= context.revision - limits.history_revisions_min and (
            self.size_bytes > limits.history_bytes_max
            or oldest.now_ms < context.now_ms - limits.history_ms_max
        )

    def run_tasks(self, rows_max: int) -> int:
        """Forget the oldest records, and what their events replaced."""
        left = rows_max
        while left > 0 and self.has_tasks():
            left -= self._forget(left)
        return rows_max - left

    def _forget(self, rows_max: int) -> int:
        """Forget events of the oldest record, and the record with its last one."""
        oldest = self._records[0]
        context = self.context
        if oldest.last_rev > self.compacted_rev:
            context.mark(Table.HISTORY, _COMPACTED)
            self._versions.compacted_rev = oldest.last_rev
        context.mark(Table.HISTORY, oldest.first_rev)
        events = oldest.events
        if len(events) > rows_max:
            rest = HistoryRecord(
                oldest.first_rev,
                oldest.last_rev,
                oldest.now_ms,
                oldest.size_bytes,
                events[rows_max:],
            )
            self._records[0] = self._by_first[oldest.first_rev] = rest
            events = events[:rows_max]
        else:
            self._records.popleft()
            del self._by_first[oldest.first_rev]
            self.size_bytes -= oldest.size_bytes
        trim = self._versions.trim
        for event in events:
            if isinstance(event, KeyValue):
                trim(event)
        return len(events)

    # --- rows --------------------------------------------------------------------

    def encode_row(self, table: int, key: RowKey) -> bytes | None:
        """Encode a record, or the compaction revision."""
        assert isinstance(key, int)
        if key == _COMPACTED:
            return _encode(self.compacted_rev)
        record = self._by_first.get(key)
        if record is None:
            return None
        return _encode(
            (
                record.last_rev,
                record.now_ms,
                record.size_bytes,
                [_store(event) for event in record.events],
            )
        )

    def load_row(self, table: int, key: RowKey, value: bytes) -> None:
        """Take up a record; its key events are found when all rows are there."""
        assert isinstance(key, int)
        if key == _COMPACTED:
            self._versions.compacted_rev = _decode_rev(value)
        else:
            self._loading.append((key, _decode(value)))

    def loaded(self) -> Iterator[None]:
        """Give every key event its record."""
        left = STEP_ROWS
        for loaded in self._loading:
            self._restore_record(loaded)
            left -= 1 + len(loaded[1][-1])
            if left <= 0:
                left = STEP_ROWS
                yield
        self._loading = []

    def _restore_record(self, loaded: tuple[int, _Stored]) -> None:
        first_rev, (last_rev, now_ms, size_bytes, events) = loaded
        record = HistoryRecord(
            first_rev,
            last_rev,
            now_ms,
            size_bytes,
            [self._restore(event) for event in events],
        )
        self._records.append(record)
        self._by_first[first_rev] = record
        self.size_bytes += size_bytes

    def _restore(self, event: _StoredEvent) -> Event:
        if not isinstance(event, _KeyRef):
            return event
        record = self._versions.exact(event.key, event.rev)
        assert record is not None, f"revision {event.rev} has no version row"
        return record


def _store(event: Event) -> _StoredEvent:
    if isinstance(event, KeyValue):
        return _KeyRef(event.key, event.mod_rev)
    return event


def _last_rev(record: HistoryRecord) -> int:
    return record.last_rev
