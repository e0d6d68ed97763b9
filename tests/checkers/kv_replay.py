"""Keys worked out a second time, from the log's requests alone.

A dict of keys, the versions each had, and the leases they hang on. What a request
answered is compared with what it must answer; the revisions of changes are taken from
the log's answers, and must rise.

Source: SEMANTICS.md sections 2 and 3; RELIABILITY.md section 4 (KV).
"""

from __future__ import annotations

import operator
from bisect import bisect_left, bisect_right
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tests.checkers.history import as_bytes
from tests.checkers.lease_replay import LeaseReplay, Timer
from tests.checkers.verdict import Illegal

if TYPE_CHECKING:
    from tests.checkers.parts import Applied, Fields
    from tests.checkers.places import Places
    from tests.checkers.records import Entry

__all__ = ["Key", "KvReplay"]

_INT64: Final = range(-(1 << 63), 1 << 63)
_COMPARE: Final = {
    "EQUAL": operator.eq,
    "NOT_EQUAL": operator.ne,
    "LESS": operator.lt,
    "GREATER": operator.gt,
}
_OF_KEYS: Final = frozenset(
    {"VALUE", "VERSION", "CREATE_REV", "MOD_REV", "LEASE", "EXISTS"}
)
_WRITES: Final = frozenset({"put", "cas", "delete", "delete_range", "incr", "get"})


class Key(msgspec.Struct, frozen=True):
    """A key at one revision."""

    key: str
    value: str
    create_rev: int
    mod_rev: int
    version: int
    lease: int

    def differs(self, told: Fields | None) -> bool:
        """Tell whether an answer shows this key otherwise."""
        return told is None or any(
            getattr(self, field) != told[field]
            for field in self.__struct_fields__
            if field in told
        )


class _Refused(Exception):
    """The model refuses an operation."""


class KvReplay(LeaseReplay):
    """All keys, after the entries so far.

    Args:
        places: Names operations in sentences.
    """

    def __init__(self, places: Places) -> None:
        super().__init__(places)
        self.keys: Final[dict[str, Key]] = {}
        self._revisions: Final[defaultdict[str, list[int]]] = defaultdict(list)
        self._versions: Final[defaultdict[str, list[Key | None]]] = defaultdict(list)
        self._in_order: list[tuple[bytes, str]] = []
        self._rev = 0
        self._undo: list[tuple[str, Key | None]] = []

    # --- what a reader may see -----------------------------------------------------

    def at(self, key: str, revision: int) -> Key | None:
        """Return a key as it was after all changes up to a revision."""
        place = bisect_right(self._revisions[key], revision)
        return self._versions[key][place - 1] if place else None

    def versions(self, key: str, low: int, high: int) -> list[Key | None]:
        """Return what a key was at any revision from ``low`` to ``high``."""
        first = bisect_right(self._revisions[key], low)
        last = bisect_right(self._revisions[key], high)
        return [self.at(key, low), *self._versions[key][first:last]]

    def known(self, start: bytes = b"", end: bytes = b"") -> list[str]:
        """Return every key there ever was in a range, in order; no end = to the last.

        Only when all entries were taken in.
        """
        if len(self._in_order) != len(self._versions):
            self._in_order = sorted((as_bytes(key), key) for key in self._versions)
        first = bisect_left(self._in_order, (start, ""))
        last = bisect_left(self._in_order, (end, "")) if end else None
        return [key for _, key in self._in_order[first:last]]

    # --- steps -----------------------------------------------------------------------

    def lease_ended(self, entry: Entry, lease: int, *, is_loss: bool) -> None:
        """Delete the keys of a lease; the log's events say at which revision."""
        gone = [each.key for each in self.keys.values() if each.lease == lease]
        told: dict[str, int] = {}
        for event in entry.events:
            known = self._revisions[event.key][-1:] if event.key else []
            if event.what == "delete" and [event.revision] > known:
                told.setdefault(event.key, event.revision)
        for key in gone:
            if key not in told:
                raise Illegal(
                    f"lease {lease} ended in entry {entry.index}, but its key {key}"
                    " was not deleted"
                )
            self._change(key, None, told[key])
        self._undo.clear()

    def fire(self, entry: Entry, timer: Timer) -> None:
        """Keys have no timers of their own."""
        raise AssertionError(timer)

    def request(self, entry: Entry, applied: Applied) -> None:
        """Take in a request about keys."""
        if applied.name == "txn":
            self._txn(entry, applied)
        elif applied.name in _WRITES:
            self._single(entry, applied)
        self._undo.clear()

    def _single(self, entry: Entry, applied: Applied) -> None:
        name = self.places.name(entry, applied)
        op = self.places.op_of(applied)
        self._rev = _revision_of(applied.answer, entry, applied)
        try:
            answer = self._run(applied.name, applied.args)
        except _Refused as refused:
            if applied.outcome == "ok":
                raise Illegal(f"{name} was done, but {refused}", op) from None
            return
        if applied.outcome != "ok":
            if applied.error == "PRECONDITION":
                raise Illegal(f"{name} was refused, but its condition holds", op)
            self._take_back()
            return
        self._compare(name, op, answer, applied.answer)

    def _txn(self, entry: Entry, applied: Applied) -> None:
        if applied.outcome != "ok":
            return
        name = self.places.name(entry, applied)
        op = self.places.op_of(applied)
        args, answer = applied.args, applied.answer
        has_succeeded = bool(answer["has_succeeded"])
        self._check_compares(name, op, args["compares"], has_succeeded)
        ops = args["then"] if has_succeeded else args.get("orelse", [])
        if len(ops) != len(answer["results"]):
            raise Illegal(f"{name} has {len(ops)} ops and {answer['results']}", op)
        self._rev = _revision_of_txn(answer["results"], entry, applied)
        for each, result in zip(ops, answer["results"], strict=True):
            if each["op"] not in _WRITES:
                continue
            try:
                found = self._run(each["op"], each)
            except _Refused as refused:
                raise Illegal(f"{name} was done, but {refused}", op) from None
            self._compare(f"{name}, its {each['op']}", op, found, result)

    def _check_compares(
        self, name: str, op: int, compares: list[Fields], has_succeeded: bool
    ) -> None:
        held = [self._holds(each) for each in compares if each["target"] in _OF_KEYS]
        if has_succeeded and not all(held):
            false = compares[held.index(False)]
            raise Illegal(f"{name} went on although {false} does not hold", op)
        if not has_succeeded and len(held) == len(compares) and all(held):
            raise Illegal(f"{name} took the other branch although all holds", op)

    def _holds(self, compare: Fields) -> bool:
        found = self.keys.get(compare.get("key", ""))
        how = _COMPARE[compare.get("op", "EQUAL")]
        wanted = compare.get("number", 0)
        match compare["target"]:
            case "VALUE":
                if found is None:
                    return compare.get("op") == "NOT_EQUAL"
                value = as_bytes(compare.get("value", ""))
                return bool(how(as_bytes(found.value), value))
            case "EXISTS":
                return bool(how(int(found is not None), wanted))
            case target:
                actual = getattr(found, target.lower()) if found is not None else 0
                return bool(how(actual, wanted))

    def _compare(self, name: str, op: int, wanted: Fields, told: Fields) -> None:
        for field, value in wanted.items():
            said = told.get(field, False if isinstance(value, bool) else None)
            is_other = value.differs(said) if isinstance(value, Key) else value != said
            if is_other:
                raise Illegal(
                    f"{name} answered {field} {said}, not {_shown(value)}", op
                )

    # --- one operation -------------------------------------------------------------

    def _run(self, name: str, args: Fields) -> dict[str, Any]:
        if name == "delete_range":
            return self._delete_range(args)
        key = args["key"]
        before = self.keys.get(key)
        expected = args.get("if_mod_rev")
        actual = before.mod_rev if before is not None else 0
        if expected is not None and expected != actual:
            raise _Refused(f"key {key} was last changed at {actual}, not {expected}")
        match name:
            case "put" | "cas":
                self._put(key, args["value"], args.get("lease", 0), before)
                answer: dict[str, Any] = {"mod_rev": self._rev}
                if args.get("want_previous"):
                    answer["previous"] = before
                return answer
            case "incr":
                return self._increment(key, args, before)
            case "delete":
                if before is not None:
                    self._change(key, None, self._rev)
                answer = {"deleted": int(before is not None)}
                if args.get("want_previous"):
                    answer["previous"] = before
                return answer
            case _:
                return {"found": before}

    def _put(self, key: str, value: str, lease: int, before: Key | None) -> None:
        if lease and lease not in self.leases:
            raise _Refused(f"lease {lease} is not alive")
        if before is None:
            after = Key(key, value, self._rev, self._rev, 1, lease)
        else:
            after = Key(
                key, value, before.create_rev, self._rev, before.version + 1, lease
            )
        self._change(key, after, self._rev)

    def _increment(self, key: str, args: Fields, before: Key | None) -> Fields:
        try:
            number = int(before.value) if before is not None else 0
        except ValueError:
            raise _Refused(f"key {key} holds no number") from None
        number += args["by"]
        if number not in _INT64:
            raise _Refused(f"key {key} would be no int64")
        self._put(key, str(number), args.get("lease", 0), before)
        return {"value": number, "mod_rev": self._rev}

    def _delete_range(self, args: Fields) -> Fields:
        start, end = as_bytes(args["start"]), as_bytes(args["end"])
        gone = [
            key
            for key in self.keys
            if start <= as_bytes(key) and (not end or as_bytes(key) < end)
        ]
        for key in gone:
            self._change(key, None, self._rev)
        return {"deleted": len(gone)}

    def _change(self, key: str, after: Key | None, revision: int) -> None:
        revisions, versions = self._revisions[key], self._versions[key]
        if revisions and revisions[-1] > revision:
            raise Illegal(
                f"key {key} changed at revision {revision}, after {revisions[-1]}"
            )
        self._undo.append((key, self.keys.get(key)))
        revisions.append(revision)
        versions.append(after)
        if after is None:
            self.keys.pop(key, None)
        else:
            self.keys[key] = after

    def _take_back(self) -> None:
        for key, before in reversed(self._undo):
            self._revisions[key].pop()
            self._versions[key].pop()
            if before is None:
                self.keys.pop(key, None)
            else:
                self.keys[key] = before


def _revision_of(answer: Fields, entry: Entry, applied: Applied) -> int:
    """Return at which revision a request changed keys."""
    if "mod_rev" in answer:
        return int(answer["mod_rev"])
    return applied.revision


def _revision_of_txn(results: list[Fields], entry: Entry, applied: Applied) -> int:
    """Return the one revision of a transaction; ids are drawn after it."""
    for result in results:
        if "mod_rev" in result:
            return int(result["mod_rev"])
    told = [
        event.revision
        for event in entry.events
        if event.what == "delete" and event.revision <= applied.revision
    ]
    return max(told, default=applied.revision)


def _shown(value: Any) -> Any:
    return msgspec.structs.asdict(value) if isinstance(value, Key) else value
