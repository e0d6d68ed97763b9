"""Transactions as JSON: the reader that ``raftctl txn`` uses.

The reader is strict: a field that is not understood is an error, never left out. What
the fields are is in ``DOCUMENTATION``, which is also the command's help.

Source: CLI.md; SEMANTICS.md section 3.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from raftclient import JobSpec, aio, txn
from raftctl.durations import SPAN_S_MAX

__all__ = ["DOCUMENTATION", "TxnError", "compare_of", "fill", "op_of"]

Item = Mapping[str, Any]

DOCUMENTATION: Final = """\b
FILE (or - for standard input) holds
    {"when": [compares], "then": [operations], "else": [operations]}
Each part may be left out. If all compares hold, "then" runs, otherwise "else": one
revision, all or nothing. Values are texts, or {"b64": "..."} for other bytes.

\b
Compares; "op" is "==" (if left out), "!=", "<" or ">":
    {"key": K, "value": V, "op": "=="}    {"key": K, "exists": true}
    {"key": K, "version": N}   likewise create_rev, mod_rev, lease
    {"lease_alive": ID}                   {"lock": NAME, "token": N}
    {"election": NAME, "epoch": N}        {"job": ID, "token": N}
    {"queue": NAME, "depth": N, "op": "<"}

\b
Operations:
    {"put": K, "value": V, "lease": ID, "if_rev": N, "previous": true}
    {"get": K}                            {"incr": K, "by": N, "lease": ID}
    {"delete": K, "if_rev": N, "previous": true}
    {"delete_prefix": P}                  {"release_lock": NAME, "token": N}
    {"proclaim": NAME, "epoch": N, "value": V}
    {"resign": NAME, "epoch": N}
    {"enqueue": QUEUE, "payload": V, "type": T, "priority": 0-9, "delay_s": S,
     "id": TEXT, "group": TEXT}
    {"complete": ID, "token": N, "result": V}
    {"fail": ID, "token": N, "error": TEXT, "retry_in_s": S, "fatal": true}

\b
Prints {"succeeded": ..., "revision": ..., "results": [...]}, one result for each
operation that ran. Exit code 4: the compares did not hold, and there was no "else".
"""


class TxnError(Exception):
    """The text is no transaction, and why."""


def fill(transaction: aio.Transaction, text: str) -> bool:
    """Read a transaction into one; returns whether it has an "else".

    Raises:
        TxnError: The text is no transaction.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TxnError(f"the transaction is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise TxnError('a transaction is an object: {"when": ..., "then": ...}')
    _only(found, {"when", "then", "else"})
    transaction.when(*(compare_of(each) for each in _items(found, "when")))
    transaction.then(*(op_of(each) for each in _items(found, "then")))
    transaction.otherwise(*(op_of(each) for each in _items(found, "else")))
    return bool(found.get("else"))


def compare_of(item: Item) -> txn.Compare:
    """Read one compare."""
    name, (make, required, optional) = _form_of(item, _COMPARES, "compare")
    _check(item, name, required, optional)
    compare: txn.Compare = _make(make, item, name)
    return compare


def op_of(item: Item) -> txn.Op:
    """Read one operation."""
    name, (make, required, optional) = _form_of(item, _OPS, "operation")
    _check(item, name, required, optional)
    op: txn.Op = _make(make, item, name)
    return op


def _make(make: Callable[[Item], Any], item: Item, name: str) -> Any:
    """Make what an item says; a number that the API cannot carry is told as such."""
    try:
        return make(item)
    except ValueError as error:
        raise TxnError(f'"{name.rsplit(maxsplit=1)[-1]}" cannot be: {error}') from error


# --- fields ----------------------------------------------------------------------


def _items(found: Item, name: str) -> list[Item]:
    items = found.get(name, [])
    if not isinstance(items, list) or not all(isinstance(i, dict) for i in items):
        raise TxnError(f'"{name}" must be a list of objects')
    return items


def _bytes(item: Item, name: str, default: str | None = None) -> bytes:
    match item.get(name, default):
        case str():
            return _text(item, name, default).encode()
        case {"b64": str() as text, **rest} if not rest:
            try:
                return base64.b64decode(text, validate=True)
            except binascii.Error as error:
                raise TxnError(f'"{name}" is not base64: {error}') from error
        case _:
            raise TxnError(f'"{name}" must be a text or {{"b64": ...}}')


def _int(item: Item, name: str, default: int | None = None) -> int:
    value = item.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value >= 2**64:
        raise TxnError(f'"{name}" must be a whole number')
    return value


def _id(item: Item, name: str) -> int:
    value = _int(item, name)
    if value < 0:
        raise TxnError(f'"{name}" must not be negative')
    return value


def _optional_id(item: Item, name: str) -> int | None:
    return _id(item, name) if name in item else None


def _seconds(item: Item, name: str) -> float | None:
    value = item.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TxnError(f'"{name}" must be seconds')
    if not 0 <= value <= SPAN_S_MAX:
        raise TxnError(f'"{name}" must be from 0 to {SPAN_S_MAX} seconds')
    return float(value)


def _text(item: Item, name: str, default: str | None = None) -> str:
    value = item.get(name, default)
    if not isinstance(value, str):
        raise TxnError(f'"{name}" must be a text')
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise TxnError(f'"{name}" holds half a character')
    return value


def _flag(item: Item, name: str) -> bool:
    value = item.get(name, False)
    if not isinstance(value, bool):
        raise TxnError(f'"{name}" must be true or false')
    return value


def _operator(item: Item) -> txn.Operator:
    try:
        return txn.Operator(item.get("op", "=="))
    except ValueError as error:
        raise TxnError('"op" must be "==", "!=", "<" or ">"') from error


# --- compares and operations -----------------------------------------------------


def _key_number(
    name: str, make: Callable[[bytes, int, txn.Operator], txn.Compare]
) -> Callable[[Item], txn.Compare]:
    return lambda i: make(_bytes(i, "key"), _id(i, name), _operator(i))


def _exists(item: Item) -> txn.Compare:
    key = _bytes(item, "key")
    return txn.exists(key) if _flag(item, "exists") else txn.missing(key)


def _put(item: Item) -> txn.Op:
    return txn.put(
        _bytes(item, "put"),
        _bytes(item, "value"),
        lease=_optional_id(item, "lease"),
        if_mod_rev=_optional_id(item, "if_rev"),
        want_previous=_flag(item, "previous"),
    )


def _delete(item: Item) -> txn.Op:
    return txn.delete(
        _bytes(item, "delete"),
        if_mod_rev=_optional_id(item, "if_rev"),
        want_previous=_flag(item, "previous"),
    )


def _incr(item: Item) -> txn.Op:
    key, by = _bytes(item, "incr"), _int(item, "by", 1)
    if not -(2**63) <= by < 2**63:
        raise TxnError('"by" must fit 64 bits')
    return txn.increment(key, by, lease=_optional_id(item, "lease"))


def _enqueue(item: Item) -> txn.Op:
    options: Any = {
        name: _text(item, name) for name in ("type", "group") if name in item
    }
    if "id" in item:
        options["job_id"] = _text(item, "id")
    if "priority" in item:
        options["priority"] = _id(item, "priority")
    delay_s = _seconds(item, "delay_s")
    if delay_s is not None:
        options["delay_s"] = delay_s
    spec = JobSpec(_bytes(item, "payload", ""), **options)
    return txn.enqueue(_text(item, "enqueue"), spec)


def _fail(item: Item) -> txn.Op:
    return txn.fail(
        _id(item, "fail"),
        _id(item, "token"),
        _text(item, "error", ""),
        retry_in_s=_seconds(item, "retry_in_s"),
        fatal=_flag(item, "fatal"),
    )


_Form = tuple[Callable[[Item], Any], frozenset[str], frozenset[str]]


def _form(make: Callable[[Item], Any], required: str = "", optional: str = "") -> _Form:
    return make, frozenset(required.split()), frozenset(optional.split())


# A compare or operation is known by the fields named here; the longest name wins.
_COMPARES: Final[Mapping[str, _Form]] = {
    "key value": _form(
        lambda i: txn.value(_bytes(i, "key"), _bytes(i, "value"), _operator(i)),
        optional="op",
    ),
    "key exists": _form(_exists),
    "key version": _form(_key_number("version", txn.version), optional="op"),
    "key create_rev": _form(_key_number("create_rev", txn.create_rev), optional="op"),
    "key mod_rev": _form(_key_number("mod_rev", txn.mod_rev), optional="op"),
    "key lease": _form(_key_number("lease", txn.lease), optional="op"),
    "lease_alive": _form(lambda i: txn.lease_alive(_id(i, "lease_alive"))),
    "lock": _form(lambda i: txn.lock_held(_text(i, "lock"), _id(i, "token")), "token"),
    "election": _form(
        lambda i: txn.leadership_held(_text(i, "election"), _id(i, "epoch")), "epoch"
    ),
    "job": _form(
        lambda i: txn.reservation_held(_id(i, "job"), _id(i, "token")), "token"
    ),
    "queue": _form(
        lambda i: txn.queue_depth(_text(i, "queue"), _id(i, "depth"), _operator(i)),
        "depth",
        "op",
    ),
}
_OPS: Final[Mapping[str, _Form]] = {
    "put": _form(_put, "value", "lease if_rev previous"),
    "get": _form(lambda i: txn.get(_bytes(i, "get"))),
    "delete": _form(_delete, optional="if_rev previous"),
    "delete_prefix": _form(
        lambda i: txn.delete_range(prefix=_bytes(i, "delete_prefix"))
    ),
    "incr": _form(_incr, optional="by lease"),
    "release_lock": _form(
        lambda i: txn.release_lock(_text(i, "release_lock"), _id(i, "token")), "token"
    ),
    "proclaim": _form(
        lambda i: txn.proclaim(
            _text(i, "proclaim"), _id(i, "epoch"), _bytes(i, "value")
        ),
        "epoch value",
    ),
    "resign": _form(lambda i: txn.resign(_text(i, "resign"), _id(i, "epoch")), "epoch"),
    "enqueue": _form(_enqueue, optional="payload type priority delay_s id group"),
    "complete": _form(
        lambda i: txn.complete(
            _id(i, "complete"), _id(i, "token"), _bytes(i, "result", "")
        ),
        "token",
        "result",
    ),
    "fail": _form(_fail, "token", "error retry_in_s fatal"),
}


def _form_of(item: Item, forms: Mapping[str, _Form], what: str) -> tuple[str, _Form]:
    shown = json.dumps(item, ensure_ascii=False)[:80]
    found = [name for name in forms if set(name.split()) <= set(item)]
    if not found:
        raise TxnError(f"{shown} is no {what}; raftctl txn -h lists them")
    if len(found) > 1:
        raise TxnError(f"{shown} is more than one {what}: {' and '.join(found)}")
    return found[0], forms[found[0]]


def _check(
    item: Item, name: str, required: frozenset[str], optional: frozenset[str]
) -> None:
    missing = sorted(required - set(item))
    if missing:
        raise TxnError(f'"{name}" needs "{missing[0]}"')
    _only(item, set(name.split()) | required | optional)


def _only(item: Item, known: set[str]) -> None:
    unknown = sorted(set(item) - known)
    if unknown:
        raise TxnError(f'"{unknown[0]}" is not understood; raftctl txn -h says what is')
