"""Keys: put, delete, range delete, increment, and reads at any readable revision.

Rules: a write validates everything before it changes anything. All keys of one command
share its revision. Deletes always pass the quota. ``key_bytes_max`` and
``value_bytes_max`` are judged here, not only at the door: a log may come from another.

Source: SEMANTICS.md sections 0 and 2.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

import msgspec

from raftd.statemachine import refusals
from raftd.statemachine.answers import Answer
from raftd.statemachine.context import Context
from raftd.statemachine.loading import in_steps
from raftd.statemachine.module import EndReason, Handlers, LeaseKeeper, Module
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.kv import (
    DeleteKey,
    DeleteRange,
    GetKey,
    IncrementKey,
    KeyDeleted,
    KeyGot,
    KeyIncremented,
    KeyPut,
    KeyValue,
    PutKey,
    RangeDeleted,
)
from raftd.statemachine.tables import Rank, RowKey, Table
from raftd.statemachine.versions import REVISION_BYTES, Versions

__all__ = ["KeyPage", "Kv"]

_RANK: Final = int(Rank.KV)
_ROW_BYTES: Final = 250
"""What a key costs beside its key and value; measured (PERFORMANCE.md)."""
_INT64_MIN: Final = -(1 << 63)
_INT64_MAX: Final = (1 << 63) - 1
_INT64_DIGITS: Final = 20

_Stored = tuple[bytes, int, int, int]
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Stored).decode


class KeyPage(msgspec.Struct, frozen=True, gc=False):
    """A part of a range.

    Attributes:
        next_start: Where the next page begins; None = this was the last.
    """

    items: list[KeyValue]
    next_start: bytes | None


class Kv(Module):
    """The key-value store."""

    rank = Rank.KV
    tables = (Table.VERSIONS,)

    def __init__(self, context: Context, leases: LeaseKeeper) -> None:
        super().__init__(context)
        self._leases: Final = leases
        self._versions: Final = Versions(context)
        self._live: Final = self._versions.live
        self.trim: Final = self._versions.trim
        self.exact: Final = self._versions.exact
        self._key_bytes_max: Final = context.limits.key_bytes_max
        self._value_bytes_max: Final = context.limits.value_bytes_max
        self._state_bytes_max: Final = context.limits.state_bytes_max
        self.compacted_rev = 0
        """Below it nothing is readable; kept by the history module."""

    def handlers(self) -> Handlers:
        """Return who handles which command type."""
        return {
            PutKey: self._put,
            DeleteKey: self._delete,
            DeleteRange: self._delete_range,
            IncrementKey: self._increment,
            GetKey: self._get,
        }

    # --- reads -------------------------------------------------------------------

    def find(self, key: bytes) -> KeyValue | None:
        """Return the key as it is now."""
        return self._live.get(key)

    @property
    def count_all(self) -> int:
        """Return how many keys there are now."""
        return len(self._live)

    def get(self, key: bytes, at_rev: int = 0) -> KeyValue | Refusal | None:
        """Return a key, now or at a revision; None = there is none."""
        if not at_rev:
            return self._live.get(key)
        refusal = self._check_rev(at_rev)
        return refusal if refusal is not None else self._versions.at(key, at_rev)

    def range(
        self, start: bytes, end: bytes, limit: int, at_rev: int = 0
    ) -> KeyPage | Refusal:
        """Return up to ``limit`` keys of [start, end); an empty ``end`` = no end."""
        if not at_rev:
            live = self._live
            keys = list(islice(self._versions.keys(start, end), limit + 1))
            items = [live[key] for key in keys[:limit]]
            return KeyPage(items, keys[limit] if len(keys) > limit else None)
        refusal = self._check_rev(at_rev)
        if refusal is not None:
            return refusal
        items = []
        for key in self._versions.all_keys(start, end):
            record = self._versions.at(key, at_rev)
            if record is None:
                continue
            if len(items) == limit:
                return KeyPage(items, key)
            items.append(record)
        return KeyPage(items, None)

    def count(self, start: bytes, end: bytes, at_rev: int = 0) -> int | Refusal:
        """Return how many keys [start, end) holds, now (fast) or at a revision."""
        if not at_rev:
            return self._versions.count(start, end)
        refusal = self._check_rev(at_rev)
        if refusal is not None:
            return refusal
        at = self._versions.at
        return sum(
            at(key, at_rev) is not None for key in self._versions.all_keys(start, end)
        )

    def previous(self, event: KeyValue) -> KeyValue | None:
        """Return what a key event above the compaction revision replaced."""
        return self._versions.at(event.key, event.mod_rev - 1)

    def _check_rev(self, at_rev: int) -> Refusal | None:
        if at_rev < self.compacted_rev:
            return refusals.compacted(at_rev, self.compacted_rev)
        if at_rev > self.context.revision:
            return Refusal(
                Reason.PRECONDITION,
                f"revision {at_rev} is not reached yet, the state is at"
                f" {self.context.revision}",
                {"revision": str(self.context.revision)},
            )
        return None

    # --- commands ----------------------------------------------------------------

    def _get(self, command: GetKey) -> Answer:
        return KeyGot(self._live.get(command.key))

    def _put(self, command: PutKey) -> Answer:
        key = command.key
        value = command.value
        previous = self._live.get(key)
        expected = command.if_mod_rev
        if expected is not None and expected != (previous.mod_rev if previous else 0):
            return _mod_rev_differs(key, expected, previous)
        refusal = self._write(key, value, command.lease, previous)
        if refusal is not None:
            return refusal
        return KeyPut(
            self.context.command_rev, previous if command.want_previous else None
        )

    def _increment(self, command: IncrementKey) -> Answer:
        previous = self._live.get(command.key)
        number = 0 if previous is None else _parse(previous.value)
        if number is None:
            return Refusal(
                Reason.PRECONDITION,
                f"key {_shown(command.key)} holds no int64 as decimal text",
            )
        number += command.by
        if not _INT64_MIN <= number <= _INT64_MAX:
            return Refusal(
                Reason.PRECONDITION,
                f"key {_shown(command.key)} plus {command.by} is no int64",
            )
        refusal = self._write(command.key, b"%d" % number, command.lease, previous)
        if refusal is not None:
            return refusal
        return KeyIncremented(number, self.context.command_rev)

    def _delete(self, command: DeleteKey) -> Answer:
        previous = self._live.get(command.key)
        expected = command.if_mod_rev
        if expected is not None and expected != (previous.mod_rev if previous else 0):
            return _mod_rev_differs(command.key, expected, previous)
        if previous is None:
            return KeyDeleted(0)
        self._remove(previous)
        return KeyDeleted(1, previous if command.want_previous else None)

    def _delete_range(self, command: DeleteRange) -> Answer:
        limit = self.context.limits.range_delete_keys_max
        count = self._versions.count(command.start, command.end)
        if count > limit:
            return refusals.too_large(
                "the number of keys in the range",
                count,
                "range_delete_keys_max",
                limit,
            )
        for key in list(self._versions.keys(command.start, command.end)):
            self._remove(self._live[key])
        return RangeDeleted(count)

    def lease_ended(
        self, lease: int, keys: Sequence[RowKey], reason: EndReason
    ) -> None:
        """Delete the keys of a lease."""
        for key in keys:
            assert isinstance(key, bytes)
            self._remove(self._live[key])

    # --- the two changes ---------------------------------------------------------

    def _write(
        self, key: bytes, value: bytes, lease: int, previous: KeyValue | None
    ) -> Refusal | None:
        context = self.context
        key_bytes, value_bytes = len(key), len(value)
        growth = size = key_bytes + value_bytes + _ROW_BYTES
        if previous is not None:
            growth = value_bytes - len(previous.value)
        if (
            not 0 < key_bytes <= self._key_bytes_max
            or value_bytes > self._value_bytes_max
            or (growth > 0 and context.size_bytes + growth > self._state_bytes_max)
        ):
            return self._refuse_size(key, value, growth)
        if lease or (previous is not None and previous.lease):
            refusal = self._move_lease(key, lease, previous)
            if refusal is not None:
                return refusal
        rev = context.rev()
        if previous is None:
            record = KeyValue(key, value, rev, rev, 1, lease)
        else:
            record = KeyValue(
                previous.key,
                value,
                previous.create_rev,
                rev,
                previous.version + 1,
                lease,
            )
        context.size_bytes += growth
        replaced = self._versions.put(record, previous)
        if replaced is not None:
            self._take_back_event(replaced)
        context.events.append(record)
        context.event_bytes += size
        return None

    def _remove(self, previous: KeyValue) -> None:
        context = self.context
        key = previous.key
        rev = context.rev()
        if previous.lease:
            self._leases.detach(previous.lease, _RANK, key)
        context.size_bytes -= len(key) + len(previous.value) + _ROW_BYTES
        tombstone = KeyValue(key, b"", 0, rev, 0, 0)
        replaced, remains = self._versions.delete(tombstone, previous)
        if replaced is not None:
            self._take_back_event(replaced)
        if remains:
            context.emit(tombstone, len(key) + _ROW_BYTES)

    def _move_lease(
        self, key: bytes, lease: int, previous: KeyValue | None
    ) -> Refusal | None:
        before = previous.lease if previous is not None else 0
        if lease == before:
            return None
        if lease:
            refusal = self._leases.require(lease) or self._leases.attach(
                lease, _RANK, key
            )
            if refusal is not None:
                return refusal
        if before:
            self._leases.detach(before, _RANK, key)
        return None

    def _take_back_event(self, replaced: KeyValue) -> None:
        # One key changes once per revision: the event of the earlier write of this
        # same command is among the newest.
        context = self.context
        events = context.events
        for place in range(len(events) - 1, -1, -1):
            if events[place] is replaced:
                del events[place]
                context.event_bytes -= (
                    len(replaced.key) + len(replaced.value) + _ROW_BYTES
                )
                return
        raise AssertionError(f"no event of {_shown(replaced.key)} in this command")

    def _refuse_size(self, key: bytes, value: bytes, growth: int) -> Refusal:
        if not key:
            return Refusal(Reason.INVALID_REQUEST, "a key has at least one byte")
        if len(key) > self._key_bytes_max:
            return refusals.too_large(
                "the key", len(key), "key_bytes_max", self._key_bytes_max
            )
        if len(value) > self._value_bytes_max:
            return refusals.too_large(
                "the value", len(value), "value_bytes_max", self._value_bytes_max
            )
        return refusals.quota_reached(
            self.context.size_bytes + growth, self._state_bytes_max
        )

    # --- rows --------------------------------------------------------------------

    def encode_row(self, table: int, key: RowKey) -> bytes | None:
        """Encode one version of a key."""
        assert isinstance(key, bytes)
        rev = int.from_bytes(key[-REVISION_BYTES:], "big")
        record = self._versions.exact(key[:-REVISION_BYTES], rev)
        return self.encode_record(table, record) if record is not None else None

    def encode_record(self, table: int, record: KeyValue) -> bytes:
        """Encode a version of a key."""
        return _encode((record.value, record.create_rev, record.version, record.lease))

    def load_row(self, table: int, key: RowKey, value: bytes) -> None:
        """Take up one version of a key."""
        assert isinstance(key, bytes)
        rev = int.from_bytes(key[-REVISION_BYTES:], "big")
        content, create_rev, version, lease = _decode(value)
        self._versions.load(
            KeyValue(key[:-REVISION_BYTES], content, create_rev, rev, version, lease)
        )

    def loaded(self) -> Iterator[None]:
        """Index the versions and hang the keys on their leases."""
        yield from self._versions.loaded()
        yield from in_steps(self._live.values(), self._reattach)

    def let_go(self) -> Iterator[None]:
        """Free most versions."""
        return self._versions.let_go()

    def _reattach(self, record: KeyValue) -> None:
        if record.lease:
            self._leases.reattach(record.lease, _RANK, record.key)


def _parse(value: bytes) -> int | None:
    digits = value[1:] if value[:1] == b"-" else value
    if len(value) > _INT64_DIGITS or not digits.isdigit():
        return None
    number = int(value)
    return number if _INT64_MIN <= number <= _INT64_MAX else None


def _mod_rev_differs(key: bytes, expected: int, found: KeyValue | None) -> Refusal:
    actual = found.mod_rev if found is not None else 0
    if not actual:
        sentence = f"key {_shown(key)} does not exist"
    elif not expected:
        sentence = f"key {_shown(key)} exists already"
    else:
        sentence = f"key {_shown(key)} was last changed at {actual}, not {expected}"
    return Refusal(Reason.PRECONDITION, sentence, {"mod_rev": str(actual)})


def _shown(key: bytes) -> str:
    shown = key[:64].decode("utf-8", "backslashreplace")
    return shown if len(key) <= 64 else shown + "..."
