"""Whether a request of the log is what a client asked, and its answer what it was told.

Clients, the library and the log leave out different defaults, so values are compared
where both sides have them; of operations inside a request, and of their results, what
only the client has must be a default. A complete with more to do stands in the log as
a transaction on the condition that the reservation holds, whose first operation is the
completion.

Source: RELIABILITY.md section 4; DESIGN.md on Complete.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tests.checkers.parts import Fields
    from tests.checkers.places import Place
    from tests.checkers.records import Op

__all__ = ["OLD_STATE", "agrees", "is_asked", "results_of"]

OLD_STATE: Final = frozenset({"previous", "found"})
"""Fields of answers that a number which comes again is not told again."""
_NOT_ASKED: Final = frozenset({"ops", "fences", "wait_ms", "worker", "key_hash"})
"""Args that need not stand in the log as they were asked; ops are compared apart."""
_BY_NUMBER: Final = frozenset({"target", "op"})
"""Fields of compares that clients know by number and the log by name."""


def is_asked(op: Op, place: Place) -> bool:
    """Tell whether a request of the log is what an operation asked for."""
    asked, applied = op.args, place.applied
    name, args = applied.name, applied.args
    ops: list[Fields] = []
    if op.name == "complete" and name == "txn":
        if not _is_completion(args):
            return False
        args, *ops = args["then"]
        name = "complete"
    if op.name != name or not _are_like(asked.get("ops", []), ops):
        return False
    return all(
        field not in args or _is_like(asked[field], args[field])
        for field in asked
        if field not in _NOT_ASKED
    )


def _is_completion(txn: Fields) -> bool:
    """Tell whether a transaction is what a complete with operations becomes."""
    first = txn["then"][0] if txn["then"] else {}
    held = {
        "target": "RESERVATION_HELD",
        "job": first.get("job"),
        "number": first.get("token"),
    }
    return (
        first.get("op") == "complete"
        and not txn.get("orelse")
        and len(txn["compares"]) == 1
        and held.items() <= txn["compares"][0].items()
    )


def agrees(op: Op, place: Place) -> bool:
    """Tell whether all that a client noted of an answer is in the log's answer.

    A client library leaves out of a reserve's answer a job whose reservation was over
    when the answer came.
    """
    told, logged = op.answer, place.answer
    if op.name != "txn" == place.applied.name:
        return _are_like(told.get("results", []), results_of(op, place))
    if isinstance(logged.get("jobs"), list):
        live = [each["token"] for each in told["jobs"]]
        jobs = [each for each in logged["jobs"] if each["token"] in live]
        return _is_like(told["jobs"], jobs)
    return _is_like(told, logged)


def results_of(op: Op, place: Place) -> list[Fields]:
    """Return what the operations of a transaction, or of a complete, came to."""
    results: list[Fields] = place.answer.get("results", [])
    return results if op.name == "txn" else results[1:]


def _are_like(told: list[Fields], logged: list[Fields]) -> bool:
    """Compare operations, or results: what only the client has must be a default."""
    return len(told) == len(logged) and all(
        _is_like(mine, theirs)
        and not any(each for field, each in mine.items() if field not in theirs)
        for mine, theirs in zip(told, logged, strict=True)
    )


def _is_like(told: Any, logged: Any) -> bool:
    """Compare values; of fields that only one side has nothing is said."""
    if isinstance(told, dict) and isinstance(logged, dict):
        return all(
            _is_like_old(each, logged.get(field))
            if field in OLD_STATE
            else field not in logged
            or (field in _BY_NUMBER and isinstance(each, int))
            or _is_like(each, logged[field])
            for field, each in told.items()
        )
    if isinstance(told, list) and isinstance(logged, list):
        return len(told) == len(logged) and all(map(_is_like, told, logged))
    return bool(told == logged)


def _is_like_old(told: Any, logged: Any) -> bool:
    """Compare what was before: an answer that is told again leaves it out.

    Of a transaction's keys a window keeps all but the values.
    """
    if isinstance(told, dict) and not told.get("value"):
        told = {field: each for field, each in told.items() if field != "value"}
    return not told or _is_like(told, logged)
