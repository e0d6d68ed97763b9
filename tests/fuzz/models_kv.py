"""Keys worked out a second time: whole states by revision, and one list of events.

Every revision's state is a dict of its own, every event stands in one list, and the
counter is predicted, not told. Nothing here knows of versions, chains or journals.

Source: SEMANTICS.md sections 0, 2 and 3.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from raftd.statemachine.schema.base import Reason
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
from raftd.statemachine.schema.txn import Compare, CompareOp, CompareTarget

__all__ = ["KeyOp", "KvModel", "KvResult", "No"]

KeyOp = PutKey | DeleteKey | DeleteRange | IncrementKey | GetKey
KvResult = KeyPut | KeyDeleted | RangeDeleted | KeyIncremented | KeyGot
State = dict[bytes, KeyValue]

ROW_BYTES: Final = 250
LEASE_BYTES: Final = 400


class No(Exception):
    """The model refuses, for this reason."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Final = reason


@dataclasses.dataclass
class _Lease:
    ttl_ms: int
    deadline_ms: int


class KvModel:
    """Keys, the leases they hang on, and all that ever was."""

    def __init__(
        self, *, state_bytes_max: int, attachments_max: int, range_keys_max: int
    ) -> None:
        self.now_ms = 0
        self.revision = 0
        self.keys: State = {}
        self.states: dict[int, State] = {0: {}}
        self.events: list[KeyValue] = []
        self.leases: dict[int, _Lease] = {}
        self._state_bytes_max: Final = state_bytes_max
        self._attachments_max: Final = attachments_max
        self._range_keys_max: Final = range_keys_max

    # --- reads -------------------------------------------------------------------

    @property
    def size_bytes(self) -> int:
        """What the state counts against the quota."""
        keys = sum(len(it.key) + len(it.value) + ROW_BYTES for it in self.keys.values())
        return keys + LEASE_BYTES * len(self.leases)

    def at(self, rev: int) -> State:
        """Return the keys as of a revision."""
        return self.states[max(known for known in self.states if known <= rev)]

    def events_from(self, rev: int) -> list[KeyValue]:
        """Return the events at or above a revision, in order."""
        return [event for event in self.events if event.mod_rev >= rev]

    def attached(self, lease: int) -> list[bytes]:
        """Return the keys of a lease, sorted."""
        return sorted(key for key, item in self.keys.items() if item.lease == lease)

    # --- commands ----------------------------------------------------------------

    def run(self, *ops: KeyOp) -> list[KvResult]:
        """Apply all operations at one revision, or none.

        Raises:
            No: Refused; nothing happened.
        """
        before, rev = dict(self.keys), self.revision + 1
        touched: dict[bytes, None] = {}
        results = []
        try:
            for op in ops:
                results.append(self._apply(op, rev, touched))  # noqa: PERF401  it raises midway
        except No:
            self.keys = before
            raise
        if touched:
            self._end_revision(rev, before, touched)
        return results

    def _end_revision(
        self, rev: int, before: State, touched: dict[bytes, None]
    ) -> None:
        self.revision = rev
        self.states[rev] = dict(self.keys)
        for key in touched:
            if key in self.keys:
                self.events.append(self.keys[key])
            elif key in before:
                self.events.append(KeyValue(key, b"", 0, rev, 0, 0))

    def _apply(self, op: KeyOp, rev: int, touched: dict[bytes, None]) -> KvResult:
        match op:
            case GetKey(key=key):
                return KeyGot(self.keys.get(key))
            case PutKey(key=key):
                previous = self.keys.get(key)
                self._expect(op.if_mod_rev, previous)
                self._put(key, op.value, op.lease, rev, touched)
                return KeyPut(rev, previous if op.want_previous else None)
            case IncrementKey(key=key, by=by):
                number = _number(self.keys[key].value if key in self.keys else b"0")
                number += by
                if not -(1 << 63) <= number < 1 << 63:
                    raise No(Reason.PRECONDITION)
                self._put(key, str(number).encode(), op.lease, rev, touched)
                return KeyIncremented(number, rev)
            case DeleteKey(key=key):
                previous = self.keys.get(key)
                self._expect(op.if_mod_rev, previous)
                self._delete([key] if previous is not None else [], touched)
                gone = previous if op.want_previous else None
                return KeyDeleted(int(previous is not None), gone)
            case DeleteRange(start=start, end=end):
                keys = [
                    key
                    for key in sorted(self.keys)
                    if start <= key and (not end or key < end)
                ]
                if len(keys) > self._range_keys_max:
                    raise No(Reason.TOO_LARGE)
                self._delete(keys, touched)
                return RangeDeleted(len(keys))

    def _expect(self, wanted: int | None, found: KeyValue | None) -> None:
        if wanted is not None and wanted != (found.mod_rev if found else 0):
            raise No(Reason.PRECONDITION)

    def _put(
        self, key: bytes, value: bytes, lease: int, rev: int, touched: dict[bytes, None]
    ) -> None:
        old = self.keys.get(key)
        if not key:
            raise No(Reason.INVALID_REQUEST)
        size = self.size_bytes
        growth = len(value) - len(old.value) if old else len(key + value) + ROW_BYTES
        if growth > 0 and size + growth > self._state_bytes_max:
            raise No(Reason.QUOTA)
        if lease and lease != (old.lease if old else 0):
            if lease not in self.leases:
                raise No(Reason.LEASE_EXPIRED)
            if len(self.attached(lease)) >= self._attachments_max:
                raise No(Reason.TOO_MANY)
        made_rev, version = (old.create_rev, old.version + 1) if old else (rev, 1)
        self.keys[key] = KeyValue(key, value, made_rev, rev, version, lease)
        touched.pop(key, None)
        touched[key] = None

    def _delete(self, keys: list[bytes], touched: dict[bytes, None]) -> None:
        for key in keys:
            del self.keys[key]
            touched.pop(key, None)
            touched[key] = None

    # --- leases and time ---------------------------------------------------------

    def grant(self, ttl_ms: int) -> int:
        """Begin a lease and return its id."""
        if self.size_bytes + LEASE_BYTES > self._state_bytes_max:
            raise No(Reason.QUOTA)
        self.revision += 2
        self.leases[self.revision] = _Lease(ttl_ms, self.now_ms + ttl_ms)
        return self.revision

    def revoke(self, lease: int) -> int:
        """End a lease with its keys and return how many went."""
        if lease not in self.leases:
            raise No(Reason.NOT_FOUND)
        keys, before = self.attached(lease), dict(self.keys)
        del self.leases[lease]
        touched: dict[bytes, None] = {}
        self._delete(keys, touched)
        self._end_revision(self.revision + 1, before, touched)
        return len(keys)

    def pass_ms(self, span_ms: int, renewals: tuple[int, ...]) -> list[int]:
        """Let time pass; return which renewals came too late."""
        self.now_ms += span_ms
        lost = []
        for lease in renewals:
            found = self.leases.get(lease)
            if found is None:
                lost.append(lease)
            else:
                found.deadline_ms = self.now_ms + found.ttl_ms
        due = sorted((it.deadline_ms, lease) for lease, it in self.leases.items())
        for deadline_ms, lease in due:
            if deadline_ms <= self.now_ms:
                self.revoke(lease)
        return lost

    # --- compares ----------------------------------------------------------------

    def holds(self, compare: Compare) -> bool:
        """Judge a condition."""
        item = self.keys.get(compare.key)
        match compare.target:
            case CompareTarget.LEASE_ALIVE:
                return compare.number in self.leases
            case CompareTarget.VALUE if item is None:
                return compare.op is CompareOp.NOT_EQUAL
            case CompareTarget.VALUE:
                assert item is not None
                return _relates(
                    compare.op,
                    (item.value > compare.value) - (item.value < compare.value),
                )
            case CompareTarget.EXISTS:
                actual = 1 if item else 0
            case CompareTarget.VERSION:
                actual = item.version if item else 0
            case CompareTarget.CREATE_REV:
                actual = item.create_rev if item else 0
            case CompareTarget.MOD_REV:
                actual = item.mod_rev if item else 0
            case CompareTarget.LEASE:
                actual = item.lease if item else 0
            case _:
                raise AssertionError(compare)
        return _relates(compare.op, actual - compare.number)


def _relates(op: CompareOp, difference: int) -> bool:
    return {
        CompareOp.EQUAL: difference == 0,
        CompareOp.NOT_EQUAL: difference != 0,
        CompareOp.LESS: difference < 0,
        CompareOp.GREATER: difference > 0,
    }[op]


def _number(text: bytes) -> int:
    """Read an int64 of decimal digits and perhaps one minus."""
    digits = text[1:] if text.startswith(b"-") else text
    if not digits or any(digit not in b"0123456789" for digit in digits):
        raise No(Reason.PRECONDITION)
    number = int(text)
    if len(text) > 20 or not -(1 << 63) <= number < 1 << 63:
        raise No(Reason.PRECONDITION)
    return number
