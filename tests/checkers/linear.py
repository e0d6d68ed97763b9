"""Linearizability of keys and locks, judged without revisions, part by part.

A part is one key or one exclusive lock; its operations touch nothing else, so a history
is linearizable if each part is. Keys that hang on leases, or that ranges and
transactions touch, are left to `witness`; locks that are shared or counted to `locks`.

Unknown outcomes are settled by the log first, as far as it can. A part that is too
large, or has too many unknowns left, is undecided: the load was set up wrongly.

A lease *may* end from its last renewal and its ttl on (less the margin that clients
count with: clocks may be off, and the lease clock moves by ticks), and must not before:
that is an operation of the model's own, without an end.

Source: RELIABILITY.md section 4 (P-compositionality, models of KV and lock).
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from tests.checkers.evidence import settle
from tests.checkers.history import as_bytes
from tests.checkers.models import KeyModel, KeyOp, LockModel, LockOp
from tests.checkers.places import Places, describe
from tests.checkers.verdict import Illegal, Undecided, Verdict, judged
from tests.checkers.wgl import OPS_MAX, UNKNOWN_MAX, Call, find_conflict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.checkers.history import History
    from tests.checkers.parts import Fields
    from tests.checkers.records import Op
    from tests.checkers.wgl import Model

__all__ = ["check_linear", "key_calls", "lock_calls", "sole_keys", "sole_locks"]

_KEY_OPS: Final = frozenset({"get", "put", "cas", "delete", "incr"})
_LOCK_OPS: Final = frozenset(
    {"acquire", "release_lock", "cancel_acquire", "break_lock"}
)
_US: Final = 1000
_MARGIN_MS_MIN: Final = 100
_MARGIN_PPM: Final = 100_000


def check_linear(history: History) -> Verdict:
    """Judge every key and every exclusive lock by search."""
    return judged("linear", "operations on keys and locks", _check, history)


def _check(history: History) -> int:
    ops = settle(history)
    names = {op.id: describe(op) for op in history.ops}
    count = 0
    undecided: list[str] = []
    for part, model, calls in _parts(history, ops):
        count += len(calls)
        open_count = sum(1 for call in calls if call.end_us is None and call.id)
        if len(calls) > OPS_MAX or open_count > UNKNOWN_MAX:
            undecided.append(
                f"{part} has {len(calls)} operations, {open_count} of them unknown: at"
                f" most {OPS_MAX} and {UNKNOWN_MAX} can be judged"
            )
            continue
        try:
            conflict = find_conflict(model, calls)
        except Undecided as found:
            undecided.append(f"{part}: {found}")
            continue
        if conflict is not None:
            _refuse(part, len(calls), conflict, names)
    if undecided:
        rest = f", and {len(undecided) - 1} more" if len(undecided) > 1 else ""
        raise Undecided(undecided[0] + rest)
    return count


def _refuse(
    part: str, count: int, conflict: tuple[int, ...], names: dict[int, str]
) -> None:
    told = [names[op] for op in conflict if op]
    what = f"{part}: no order of its {count} operations fits"
    if told:
        what += f": {told[0]} fits nowhere"
    if len(told) > 1:
        what += f", at the furthest after {told[1]}"
    raise Illegal(what, *conflict)


def _parts(history: History, ops: list[Op]) -> Iterator[tuple[str, Model, list[Call]]]:
    by_key: defaultdict[str, list[Op]] = defaultdict(list)
    by_lock: defaultdict[str, list[Op]] = defaultdict(list)
    for op in ops:
        if op.name in _KEY_OPS:
            by_key[op.args["key"]].append(op)
        elif op.name in _LOCK_OPS:
            by_lock[op.args["name"]].append(op)
    others = _touched_otherwise(history, list(by_key))
    for key in sorted(by_key.keys() - others):
        calls = key_calls(by_key[key])
        known = frozenset(call.what.name for call in calls if call.what.what != "get")
        yield f"key {key}", KeyModel(known), calls
    locks = _touched_locks(history)
    ends = _LeaseEnds(history, ops)
    for name in sorted(by_lock.keys() - locks):
        yield f"lock {name}", LockModel(), lock_calls(by_lock[name], ends)


# --- keys --------------------------------------------------------------------------


def key_calls(ops: Iterable[Op]) -> list[Call]:
    """Return the operations on one key as the search wants them."""
    calls: list[Call] = []
    for op in ops:
        what = _key_op(op)
        if what is not None:
            end_us = None if op.outcome == "unknown" else op.return_us
            calls.append(Call(op.id, op.call_us, end_us, what))
    return calls


def _key_op(op: Op) -> KeyOp | None:
    args, answer = op.args, op.answer
    expected = args.get("if_mod_rev")
    if op.outcome == "refused":
        if op.error == "PRECONDITION" and expected is not None:
            return KeyOp("missed", expected=expected)
        return None
    is_known = op.outcome == "ok"
    name = answer.get("mod_rev", -op.id)
    match op.name:
        case "get":
            if not is_known or args.get("stale") or args.get("at_revision"):
                return None
            found = answer.get("found")
            if found is None:
                return KeyOp("get")
            return KeyOp("get", found["value"], found.get("mod_rev", -1))
        case "put" | "cas":
            return KeyOp("put", args["value"], name, expected)
        case "delete":
            was_there = bool(answer["deleted"]) if is_known else None
            return KeyOp("delete", expected=expected, was_there=was_there)
        case "incr":
            value = str(answer["value"]) if is_known else None
            return KeyOp("incr", value, name, by=args["by"])
        case _:
            return None


def sole_keys(history: History) -> set[str]:
    """Return the keys that only operations of one key touch: those that are judged."""
    keys = {op.args["key"] for op in history.ops if op.name in _KEY_OPS}
    return keys - _touched_otherwise(history, list(keys))


def _touched_otherwise(history: History, keys: list[str]) -> set[str]:
    """Return the keys that more than operations of one key touch."""
    touched: set[str] = set()
    places = Places(history)
    asked: list[tuple[str, Fields]] = [(op.name, op.args) for op in history.ops]
    for entry in history.entries:
        for applied in entry.requests:
            if not places.op_of(applied):
                touched.update(_keys_in(applied.args))
            asked.append((applied.name, applied.args))
    for name, args in asked:
        if name == "delete_range":
            start, end = as_bytes(args["start"]), as_bytes(args.get("end", ""))
            touched.update(
                key
                for key in keys
                if start <= as_bytes(key) and (not end or as_bytes(key) < end)
            )
        elif name not in _KEY_OPS or args.get("lease"):
            touched.update(_keys_in(args))
    return touched


def _keys_in(args: Any) -> Iterator[str]:
    match args:
        case {"key": str(key)}:
            yield key
        case dict():
            for each in args.values():
                yield from _keys_in(each)
        case list():
            for each in args:
                yield from _keys_in(each)
        case _:
            return


# --- locks -------------------------------------------------------------------------


class _LeaseEnds:
    """From when on a lease may have ended."""

    def __init__(self, history: History, ops: list[Op]) -> None:
        self._alive_us: Final[defaultdict[int, int]] = defaultdict(int)
        self._given_up_us: Final[dict[int, int]] = {}
        margin_ppm = max(_MARGIN_PPM, history.meta.drift_ppm)
        for op in ops:
            if op.session and op.outcome == "ok" and op.number:
                self._note(op.session, op.call_us)
            lease, ttl_ms = _renewed(op)
            if lease and op.outcome == "ok":
                margin_ms = max(_MARGIN_MS_MIN, ttl_ms * margin_ppm // 1_000_000)
                self._note(lease, op.call_us + (ttl_ms - margin_ms) * _US)
            if op.name in {"revoke", "close_session"} and op.outcome != "refused":
                gone = op.args.get("lease") or op.args.get("session") or op.session
                self._given_up_us.setdefault(gone, op.call_us)
        for entry in history.entries:
            for applied in entry.requests:
                if applied.name in {"revoke", "close_session"}:
                    # By somebody whose calls were not noted: at any time.
                    gone = applied.args.get("lease") or applied.args.get("session", 0)
                    self._given_up_us.setdefault(gone, 0)

    def _note(self, lease: int, until_us: int) -> None:
        self._alive_us[lease] = max(self._alive_us[lease], until_us)

    def earliest_us(self, lease: int) -> int:
        """Return before when the lease cannot have ended."""
        alive_us = self._alive_us[lease]
        return min(alive_us, self._given_up_us.get(lease, alive_us))


def _renewed(op: Op) -> tuple[int, int]:
    answer = op.answer
    match op.name:
        case "grant":
            return answer.get("lease", 0), answer.get("ttl_ms", 0)
        case "open_session":
            return answer.get("session", 0), answer.get("ttl_ms", 0)
        case "keep_alive":
            return op.args.get("lease", 0), answer.get("ttl_ms", 0)
        case _:
            return 0, 0


def lock_calls(ops: Iterable[Op], ends: _LeaseEnds) -> list[Call]:
    """Return the operations on one lock as the search wants them."""
    calls: list[Call] = []
    ending: dict[int, Call] = {}
    for op in ops:
        what = _lock_op(op)
        if what is None or op.outcome == "refused":
            continue
        end_us = None if op.outcome == "unknown" else op.return_us
        calls.append(Call(op.id, op.call_us, end_us, what))
        if what.what == "acquire":
            begin_us = max(op.call_us, ends.earliest_us(what.lease))
            end = LockOp("end", what.token)
            ending.setdefault(what.token, Call(0, begin_us, None, end))
    return [*calls, *ending.values()]


def _lock_op(op: Op) -> LockOp | None:
    args = op.args
    lease, claimant = args.get("lease") or op.session, args.get("claimant", "")
    match op.name:
        case "acquire":
            return LockOp("acquire", op.answer.get("token", -op.id), lease, claimant)
        case "release_lock":
            return LockOp("release", args["token"])
        case "cancel_acquire":
            return LockOp("cancel", lease=lease, claimant=claimant)
        case "break_lock":
            return LockOp("break")
        case _:
            return None


def sole_locks(history: History) -> set[str]:
    """Return the exclusive locks that are judged."""
    names = {op.args["name"] for op in history.ops if op.name == "acquire"}
    return names - _touched_locks(history)


def _touched_locks(history: History) -> set[str]:
    """Return the locks that are not exclusive, or released by transactions."""
    touched: set[str] = set()
    places = Places(history)
    for op in history.ops:
        if op.name == "acquire" and op.args.get("mode", 1) != 1:
            touched.add(op.args["name"])
    for entry in history.entries:
        for applied in entry.requests:
            args = applied.args
            if applied.name == "txn":
                touched.update(
                    each["name"]
                    for each in [*args["then"], *args.get("orelse", [])]
                    if each["op"] == "release_lock"
                )
            elif applied.name in _LOCK_OPS and not places.op_of(applied):
                touched.add(args["name"])
    return touched
