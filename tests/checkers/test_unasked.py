"""What is in the log was asked for, and what a run must leave behind is there.

Source: RELIABILITY.md section 4 (unexpected = seen - attempted).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.checkers.evidence import check_evidence
from tests.checkers.history import History
from tests.checkers.likeness import agrees
from tests.checkers.parts import Applied
from tests.checkers.places import Place
from tests.checkers.records import Op
from tests.checkers.synthetic import synthesize
from tests.checkers.unasked import claimant_of
from tests.checkers.watches import check_watches

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.checkers.parts import Fields

_WRITES = ("put", "incr", "enqueue", "acquire", "complete", "txn")


@functools.cache
def whole() -> History:
    return synthesize(3, seconds=4.0)


def changed(ops: list[Op], made_by: str = "synthetic") -> History:
    meta = msgspec.structs.replace(whole().meta, made_by=made_by)
    return msgspec.structs.replace(whole(), meta=meta, ops=ops)


def acknowledged(name: str) -> Op:
    return next(op for op in whole().ops if op.name == name and op.outcome == "ok")


@pytest.mark.parametrize("made_by", ["synthetic", "chaos", "by hand"])
@pytest.mark.parametrize("name", _WRITES)
def test_a_write_that_nobody_asked_for_is_illegal(name: str, made_by: str) -> None:
    gone = acknowledged(name)
    verdict = check_evidence(changed([op for op in whole().ops if op != gone], made_by))
    assert verdict.outcome == "illegal"
    assert "was asked for by nobody" in verdict.sentence
    assert f"number {gone.number} of session {gone.session}" in verdict.sentence


def test_not_even_all_writes_of_a_kind_can_be_left_out() -> None:
    gone = {"put", "incr", "enqueue"}
    ops = [op for op in whole().ops if op.name not in gone]
    assert check_evidence(changed(ops)).outcome == "illegal"


def cut_off(op: Op) -> Op:
    return msgspec.structs.replace(
        op, outcome="unknown", return_us=None, answer={}, session=0, number=0
    )


def posted(op: Op) -> Op:
    client = f"{claimant_of(op.client)}/posted7"
    return msgspec.structs.replace(cut_off(op), client=client)


@pytest.mark.parametrize("blur", [cut_off, posted])
def test_a_call_whose_number_nobody_noted_counts_for_one_request(
    blur: Callable[[Op], Op],
) -> None:
    first = acknowledged("put")
    ops = [blur(op) if op == first else op for op in whole().ops]
    assert check_evidence(changed(ops)).outcome == "legal"
    other = next(
        op
        for op in whole().ops
        if op.name == "put"
        and op.outcome == "ok"
        and claimant_of(op.client) == claimant_of(first.client)
        and op.args != first.args
    )
    ops = [blur(op) if op == first else op for op in whole().ops if op != other]
    assert check_evidence(changed(ops)).outcome == "illegal"


def test_other_programs_may_write_where_a_run_has_some() -> None:
    (stranger, *_) = {claimant_of(op.client) for op in whole().ops if op.number}
    ops = [op for op in whole().ops if claimant_of(op.client) != stranger]
    assert check_evidence(changed(ops, "chaos")).outcome == "legal"
    assert check_evidence(changed(ops)).outcome == "illegal"


@pytest.mark.parametrize(
    ("made_by", "outcome"),
    [("service", "illegal"), ("chaos", "illegal"), ("by hand", "legal")],
)
def test_a_run_that_must_read_its_end_is_incomplete_without(
    made_by: str, outcome: str
) -> None:
    ended = changed(whole().ops, made_by)
    assert check_evidence(ended).outcome == "legal"
    endless = msgspec.structs.replace(ended, finals=[])
    assert check_evidence(endless).outcome == outcome


@pytest.mark.parametrize(
    ("made_by", "outcome"),
    [("service", "illegal"), ("chaos", "illegal"), ("by hand", "legal")],
)
def test_watchers_that_heard_nothing_are_no_proof(made_by: str, outcome: str) -> None:
    heard = changed(whole().ops, made_by)
    assert check_watches(heard).outcome == "legal"
    began = [seen for seen in heard.seen if seen.what == "began"]
    for seen in ([], began):
        deaf = msgspec.structs.replace(heard, seen=seen)
        assert check_watches(deaf).outcome == outcome


# --- what was there before ---------------------------------------------------------

_FOUND = {"key": "k", "value": "v", "mod_rev": 3, "version": 1}


@pytest.mark.parametrize(
    ("told", "is_legal"),
    [
        (_FOUND, True),
        (None, True),
        ({**_FOUND, "value": ""}, True),
        ({**_FOUND, "value": "w"}, False),
        ({**_FOUND, "value": "", "mod_rev": 2}, False),
    ],
)
def test_an_answer_that_is_told_again_may_leave_out_what_was_there(
    told: Fields | None, *, is_legal: bool
) -> None:
    asked = {"compares": [], "then": [{"op": "get", "key": "k"}]}
    logged = {"has_succeeded": True, "results": [{"found": _FOUND}]}
    applied = Applied(name="txn", args=asked, session=1, number=1, answer=logged)
    place = Place(1, 1, applied, 3, "ok", "", logged)
    answer = {"has_succeeded": True, "results": [{"found": told}]}
    op = Op(id=1, client="a", name="txn", call_us=0, args=asked, answer=answer)
    assert agrees(op, place) == is_legal
