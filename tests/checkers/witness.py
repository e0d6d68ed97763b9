"""The revision-witness check: every answer must be the one its revision says.

1. The log's requests, replayed in its order through a model of keys, give the answers
   that the log's state machine gave (`kv_replay`); the clients' answers are compared
   with those in `evidence`.
2. A read shows exactly the keys of its revision. A read without one must fit somewhere
   between what had been acknowledged before it and what was there when it returned.
3. Real time: what returned before an operation was called lies at or before its
   revision, and strictly before its change.
4. What is there in the end is what the log says.

Linear but for a sort; stricter than linearizability, whose only order it takes is that
of the revisions.

Source: RELIABILITY.md section 4 (revision-witness check), codes LIN, DUR.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from tests.checkers.evidence import settle
from tests.checkers.history import as_bytes
from tests.checkers.kv_replay import Key, KvReplay
from tests.checkers.places import READS, UNLOGGED, Places, describe
from tests.checkers.verdict import Illegal, Undecided, Verdict, judged

if TYPE_CHECKING:
    from tests.checkers.history import History
    from tests.checkers.parts import Fields
    from tests.checkers.places import Place
    from tests.checkers.records import Op

__all__ = ["check_witness"]

_KEY_READS: Final = frozenset({"get", "range"})


class _Witness(msgspec.Struct):
    """An operation on the line of revisions.

    Attributes:
        op: Which.
        shows: The revision whose state the answer shows; 0 = not known.
        change: The revision of its own change; 0 = it changed nothing.
        proves: The newest revision that existed when it returned.
    """

    op: Op
    shows: int = 0
    change: int = 0
    proves: int = 0


def check_witness(history: History) -> Verdict:
    """Judge every operation by its revision."""
    return judged("witness", "operations", _check, history)


def _check(history: History) -> int:
    if not history.entries and history.ops:
        raise Undecided("there is no evidence: the log was not read after the run")
    places = Places(history)
    keys = KvReplay(places)
    for entry in history.entries:
        keys.entry(entry)
    witnesses = [_witness(op, places) for op in settle(history)]
    newest = history.entries[-1].revision if history.entries else 0
    bounds = _check_real_time(witnesses, newest)
    for witness, (low, high) in zip(witnesses, bounds, strict=True):
        op = witness.op
        if op.outcome == "ok" and op.name in _KEY_READS and not op.args.get("stale"):
            _check_read(witness, keys, low, high)
        elif op.outcome == "ok" and op.name in _KEY_READS and witness.shows:
            _check_read(witness, keys, witness.shows, witness.shows)
    for final in history.finals:
        if final.keys is not None and final.revision <= newest:
            _check_final(final.keys, keys, final.revision or newest)
    return len(witnesses)


def _witness(op: Op, places: Places) -> _Witness:
    witness = _Witness(op, proves=op.revision)
    if op.name in READS:
        witness.shows = op.revision if op.outcome == "ok" else 0
        return witness
    place = None if op.name in UNLOGGED else places.of(op)
    if place is not None and place.is_ok and place.applied.outcome == "ok":
        witness.change = _change_of(place)
        if place.answer.get("deleted"):
            witness.change = place.revision
        witness.shows = place.revision
        witness.proves = max(op.revision, witness.change)
    return witness


def _change_of(place: Place) -> int:
    """Return the revision of a request's own change; a transaction has one."""
    for answer in (place.answer, *place.answer.get("results", [])):
        if "mod_rev" in answer:
            return int(answer["mod_rev"])
    return 0


# --- real time ---------------------------------------------------------------------


def _check_real_time(witnesses: list[_Witness], newest: int) -> list[tuple[int, int]]:
    """Compare revisions with times.

    Returns:
        For each operation, between which revisions its answer was made: what had been
        proven when it was called, and what existed for certain only after it returned.
    """
    calls: list[tuple[int, int, int]] = []
    for place, witness in enumerate(witnesses):
        calls.append((witness.op.call_us, 0, place))
        if witness.op.return_us is not None:
            # At equal times the calls come first: the spans are closed.
            calls.append((witness.op.return_us, 1, place))
    calls.sort()
    proven, prover = 0, None
    lows = [0] * len(witnesses)
    for _, is_return, place in calls:
        witness = witnesses[place]
        if is_return:
            if witness.proves > proven:
                proven, prover = witness.proves, witness.op
            continue
        lows[place] = proven
        if prover is not None and not witness.op.args.get("stale"):
            _check_after(witness, prover, proven)
    return list(zip(lows, _highs(witnesses, calls, newest), strict=True))


def _check_after(witness: _Witness, prover: Op, proven: int) -> None:
    op = witness.op
    if witness.change and witness.change <= proven:
        raise Illegal(
            f"{describe(op)} changed revision {witness.change}, but was called after"
            f" {describe(prover)} had returned with revision {proven}",
            prover.id,
            op.id,
        )
    if witness.shows and witness.shows < proven:
        raise Illegal(
            f"{describe(op)} shows revision {witness.shows}, but was called after"
            f" {describe(prover)} had returned with revision {proven}",
            prover.id,
            op.id,
        )


def _highs(
    witnesses: list[_Witness], calls: list[tuple[int, int, int]], newest: int
) -> list[int]:
    """Return what each answer cannot be beyond: changes called after it returned."""
    highs = [newest] * len(witnesses)
    not_yet = newest + 1
    for _, is_return, place in reversed(calls):
        if is_return:
            highs[place] = min(newest, not_yet - 1)
        elif witnesses[place].change:
            not_yet = min(not_yet, witnesses[place].change)
    return highs


# --- reads -------------------------------------------------------------------------


def _check_read(witness: _Witness, keys: KvReplay, low: int, high: int) -> None:
    op = witness.op
    at = op.args.get("at_revision") or witness.shows
    if op.name == "range":
        shown = op.answer.get("at_revision") or at
        if shown:
            _check_range(op, keys, int(shown))
        return
    told = op.answer.get("found")
    if at:
        found = keys.at(op.args["key"], at)
        if _is_other(found, told):
            raise Illegal(
                f"{describe(op)} shows {_shown(told)} at revision {at}, where the log"
                f" has {_shown(found)}",
                op.id,
            )
        return
    versions = keys.versions(op.args["key"], low, high)
    if all(_is_other(version, told) for version in versions):
        raise Illegal(
            f"{describe(op)} shows {_shown(told)}, which the log has at no revision"
            f" from {low} to {high}",
            op.id,
        )


def _check_range(op: Op, keys: KvReplay, at: int) -> None:
    start, end = as_bytes(op.args.get("start", "")), as_bytes(op.args.get("end", ""))
    inside = keys.known(start, end)
    wanted = [found for key in inside if (found := keys.at(key, at)) is not None]
    told = op.answer.get("found") or []
    limit = op.args.get("limit") or len(wanted)
    wanted = wanted[:limit]
    if len(told) != len(wanted):
        raise Illegal(
            f"{describe(op)} lists {len(told)} keys at revision {at}, where the log has"
            f" {len(wanted)}",
            op.id,
        )
    for found, each in zip(wanted, told, strict=True):
        if found.differs(each):
            raise Illegal(
                f"{describe(op)} lists {each} at revision {at}, where the log has"
                f" {_shown(found)}",
                op.id,
            )


def _check_final(told: list[Fields], keys: KvReplay, revision: int) -> None:
    listed = {each["key"]: each for each in told}
    for key in sorted({*listed, *keys.known()}):
        found = keys.at(key, revision)
        if _is_other(found, listed.get(key)):
            raise Illegal(
                f"in the end key {key} is {_shown(listed.get(key))}, where the log has"
                f" {_shown(found)}"
            )


def _is_other(found: Key | None, told: Fields | None) -> bool:
    return told is not None if found is None else found.differs(told)


def _shown(found: Key | Fields | None) -> Any:
    match found:
        case None:
            return "nothing"
        case Key():
            return f"{found.value!r} of revision {found.mod_rev}"
        case _:
            return f"{found.get('value')!r} of revision {found.get('mod_rev')}"
