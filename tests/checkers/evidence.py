"""The log against the clients, before the log is used as evidence.

* The log is whole, and its terms, stamps and revisions never fall.
* An acknowledged write is in the log, once, as it was asked for, with that answer.
* What a complete did beside ending its job is what was asked, with those answers.
* What was refused never has an effect.
* Nothing is in the log that nobody asked for (`unasked`).
* A number that comes again changes nothing and gets its first answer.
* All members are the same in the end.

Then `settle` uses it: an unknown outcome that is not in the log is dropped, one that is
becomes what it was.

Source: RELIABILITY.md section 4 (remove unknowns with evidence), codes DUR, XO, DET.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from tests.checkers.likeness import OLD_STATE, agrees, is_asked, results_of
from tests.checkers.places import UNLOGGED, Place, Places, describe
from tests.checkers.unasked import check_complete, check_unasked
from tests.checkers.verdict import Illegal, Undecided, Verdict, judged

if TYPE_CHECKING:
    from tests.checkers.history import History
    from tests.checkers.parts import Applied, Fields
    from tests.checkers.records import Entry, Op

__all__ = ["check_evidence", "settle"]

_NOT_APPLIED: Final = frozenset(
    {"SESSION_EXPIRED", "SESSION_UNKNOWN", "STALE_NUMBER", "NUMBER_REUSED"}
)


def check_evidence(history: History) -> Verdict:
    """Judge whether the log can be evidence, and agrees with the clients."""
    return judged("evidence", "entries and answers", _check, history)


def _check(history: History) -> int:
    if not history.entries and history.ops:
        raise Undecided("there is no evidence: the log was not read after the run")
    _check_entries(history)
    places = Places(history)
    _check_repeats(history, places)
    for op in history.ops:
        _check_op(op, places)
    for final in history.finals:
        if len(set(final.digests.values())) > 1:
            told = ", ".join(
                f"{name} {digest[:12]}"
                for name, digest in sorted(final.digests.items())
            )
            raise Illegal(f"members differ in the end: {told}")
    newest = history.entries[-1].revision if history.entries else 0
    latest = max(
        max((op.revision for op in history.ops), default=0),
        max((final.revision for final in history.finals), default=0),
    )
    if latest > newest:
        raise Undecided(
            f"the log was read up to revision {newest} only, and there are answers of"
            f" revision {latest}"
        )
    check_unasked(history, places)
    check_complete(history)
    return len(history.entries) + len(history.ops)


# --- the log by itself -------------------------------------------------------------


def _check_entries(history: History) -> None:
    before: Entry | None = None
    now_ms = wall_ms = 0
    for place, entry in enumerate(history.entries, 1):
        if entry.index != place:
            raise Illegal(f"the log has entry {entry.index} where {place} must be")
        if before is not None:
            _check_rise(before, entry)
        if entry.now_ms:
            if entry.now_ms < now_ms or entry.wall_ms < wall_ms:
                raise Illegal(
                    f"entry {entry.index} is stamped {entry.now_ms} ms and wall"
                    f" {entry.wall_ms} ms, after {now_ms} ms and wall {wall_ms} ms"
                )
            now_ms, wall_ms = entry.now_ms, entry.wall_ms
        before = entry


def _check_rise(before: Entry, entry: Entry) -> None:
    if entry.term < before.term:
        raise Illegal(
            f"entry {entry.index} is of term {entry.term}, after one of term"
            f" {before.term}"
        )
    revision = before.revision
    for applied in entry.requests:
        if applied.revision < revision:
            raise Illegal(
                f"entry {entry.index} goes back from revision {revision} to"
                f" {applied.revision}"
            )
        revision = applied.revision
    if entry.revision < revision:
        raise Illegal(
            f"entry {entry.index} goes back from revision {revision} to"
            f" {entry.revision}"
        )


def _check_repeats(history: History, places: Places) -> None:
    decided: dict[int, tuple[str, str, Fields]] = {}
    for entry in history.entries:
        now = {
            each.ticket: (each.outcome, each.error, each.answer)
            for each in entry.decided
        }
        revision: int | None = None
        for applied in entry.requests:
            if applied.outcome == "repeat":
                name = places.name(entry, applied)
                if revision is not None and applied.revision != revision:
                    raise Illegal(
                        f"{name} came again and changed the state again",
                        places.op_of(applied),
                    )
                _check_repeat(name, applied, places, {**decided, **now})
            revision = applied.revision
        decided.update(now)


def _check_repeat(
    name: str,
    applied: Applied,
    places: Places,
    decided: dict[int, tuple[str, str, Fields]],
) -> None:
    first = places.by_number.get((applied.session, applied.number))
    if first is None:
        raise Illegal(f"{name} came again, but never a first time")
    if applied.error in _NOT_APPLIED or applied.ticket:
        return
    told = (applied.error, _without_payloads(applied.answer))
    if told != (first.error, _without_payloads(first.answer)):
        raise Illegal(
            f"{name} came again and was answered"
            f" {applied.error or applied.answer}, first {first.error or first.answer}",
            places.op_of(applied),
        )


def _without_payloads(answer: Any) -> Any:
    """Return what a reply window keeps for certain: ids and tokens."""
    match answer:
        case {"jobs": [*jobs]}:
            return [(job["id"], job["token"]) for job in jobs]
        case dict():
            return {
                name: _without_payloads(each)
                for name, each in answer.items()
                if name not in OLD_STATE
            }
        case list():
            return [_without_payloads(each) for each in answer]
        case _:
            return answer


# --- against the clients -----------------------------------------------------------


def _check_op(op: Op, places: Places) -> None:
    if op.name in UNLOGGED:
        return
    match op.outcome:
        case "ok":
            _check_acknowledged(op, places)
        case "refused":
            place = places.of(op)
            if place is not None and place.is_done(op):
                raise Illegal(
                    f"{describe(op)} was refused with {op.error} and took effect in"
                    f" entry {place.index}",
                    op.id,
                )
        case "unknown":
            place = places.of(op)
            if place is not None:
                _check_asked(op, place)


def _check_acknowledged(op: Op, places: Places) -> None:
    if _leaves_no_trace(op):
        return
    place = places.of(op)
    if not op.number:
        if not any(
            each.is_ok and is_asked(op, each) and agrees(op, each)
            for each in places.unnumbered.get(op.name, ())
        ):
            raise Illegal(
                f"{describe(op)} was acknowledged and is nowhere in the log", op.id
            )
        return
    if place is None:
        raise Illegal(
            f"{describe(op)} was acknowledged as number {op.number} of session"
            f" {op.session}, which is nowhere in the log",
            op.id,
        )
    _check_asked(op, place)
    if not place.is_done(op):
        raise Illegal(
            f"{describe(op)} was acknowledged, but entry {place.index} has it"
            f" {place.outcome} {place.error}".rstrip(),
            op.id,
        )
    if not agrees(op, place):
        raise Illegal(
            f"{describe(op)} was answered {op.answer}, but entry {place.index} says"
            f" {place.answer}",
            op.id,
        )
    if op.revision and op.revision < _least_revision(op, place):
        raise Illegal(
            f"{describe(op)} was answered at revision {op.revision}, before its own"
            f" change at {_least_revision(op, place)}",
            op.id,
        )


def _leaves_no_trace(op: Op) -> bool:
    return op.name == "reserve" and not op.answer.get("jobs")


def _least_revision(op: Op, place: Place) -> int:
    for answer in (place.answer, *results_of(op, place)):
        for field in ("mod_rev", "token", "epoch"):
            if field in answer:
                return int(answer[field])
    return 0


def _check_asked(op: Op, place: Place) -> None:
    if not is_asked(op, place):
        raise Illegal(
            f"{describe(op)} asked for {op.args}, but entry {place.index} has under its"
            f" number {place.applied.name} {place.applied.args}",
            op.id,
        )


# --- what it is good for -----------------------------------------------------------


def settle(history: History) -> list[Op]:
    """Return the operations with what the log says of those that are unknown.

    Gone are those that are refused by the log or not in it. One that took effect gets
    the log's answer, and returned at the latest when any later request of the log was
    acknowledged. What has no number stays as it is.
    """
    places = Places(history)
    bounds = _bounds(history, places)
    settled: list[Op] = []
    for op in history.ops:
        if op.outcome != "unknown" or not op.number or op.name in UNLOGGED:
            settled.append(op)
            continue
        place = places.of(op)
        if place is None or not place.is_done(op):
            continue
        is_at_once = place.applied.outcome == "ok"
        settled.append(
            msgspec.structs.replace(
                op,
                outcome="ok",
                answer=place.answer,
                return_us=bounds.get(place.order) if is_at_once else None,
            )
        )
    return settled


def _bounds(history: History, places: Places) -> dict[int, int]:
    """Return, by order in the log, until when a request had been applied."""
    returned: dict[int, int] = {}
    for op in history.ops:
        place = places.of(op)
        if op.return_us is not None and op.outcome == "ok" and place is not None:
            returned[place.order] = op.return_us
    bounds: dict[int, int] = {}
    earliest: int | None = None
    for place in sorted(places.by_number.values(), key=lambda each: -each.order):
        if earliest is not None:
            bounds[place.order] = earliest
        own = returned.get(place.order)
        if own is not None and place.applied.outcome == "ok":
            earliest = own if earliest is None else min(earliest, own)
    return bounds
