"""Much at once: the linear judges stay quick, the search says what it cannot judge."""

from __future__ import annotations

import time

import pytest

from tests.checkers.evidence import check_evidence, settle
from tests.checkers.history import History
from tests.checkers.linear import check_linear
from tests.checkers.parts import Applied, Event, Fields
from tests.checkers.records import Entry, Meta, Op
from tests.checkers.wgl import OPS_MAX, UNKNOWN_MAX
from tests.checkers.witness import check_witness

OPS = 50_000


def put(number: int, key: str) -> Applied:
    args = {"key": key, "value": str(number)}
    answer = {"mod_rev": number}
    return Applied(
        name="put",
        args=args,
        session=1,
        number=number,
        answer=answer,
        revision=number,
    )


def log_of(puts: list[Applied]) -> list[Entry]:
    return [
        Entry(
            index=each.revision,
            term=1,
            now_ms=each.revision,
            revision=each.revision,
            requests=[each],
            events=[
                Event(
                    what="put",
                    revision=each.revision,
                    key=each.args["key"],
                    value=each.args["value"],
                    create_rev=1,
                    mod_rev=each.revision,
                    version=1,
                )
            ],
        )
        for each in puts
    ]


def done(number: int, applied: Applied) -> Op:
    """Return a put that was acknowledged."""
    return Op(
        id=number,
        client="a",
        name="put",
        call_us=number * 10,
        return_us=number * 10 + 5,
        args=applied.args,
        outcome="ok",
        revision=applied.revision,
        answer=applied.answer,
        session=1,
        number=applied.number,
    )


def read(number: int, applied: Applied) -> Op:
    """Return a read that saw a put."""
    found = {**applied.args, **applied.answer}
    return Op(
        id=OPS + number,
        client="b",
        name="get",
        call_us=number * 10 + 6,
        return_us=number * 10 + 9,
        args={"key": applied.args["key"]},
        outcome="ok",
        revision=applied.revision,
        answer={"found": found},
    )


def history_of(puts: list[Applied], ops: list[Op]) -> History:
    return History(meta=Meta(made_by="test"), ops=ops, entries=log_of(puts))


def test_fifty_thousand_operations_are_judged_in_seconds() -> None:
    puts = [put(n, f"k{n % 1000}") for n in range(1, OPS // 2 + 1)]
    ops = []
    for number, applied in enumerate(puts, 1):
        ops += [done(number, applied), read(number, applied)]
    history = history_of(puts, ops)
    begin_s = time.process_time()
    for check in (check_evidence, check_witness, check_linear):
        verdict = check(history)
        assert verdict.outcome == "legal", verdict
        assert verdict.count >= OPS
    assert time.process_time() - begin_s < 20


def test_a_part_with_too_many_operations_is_undecided_and_named() -> None:
    puts = [put(n, "busy") for n in range(1, OPS_MAX + 2)]
    ops = [done(each.number, each) for each in puts]
    verdict = check_linear(history_of(puts, ops))
    assert verdict.outcome == "unknown"
    assert verdict.sentence.startswith(f"key busy has {OPS_MAX + 1} operations")


def test_a_part_with_too_many_unknowns_is_undecided_and_named() -> None:
    ops = [
        Op(
            id=n,
            client=f"c{n}",
            name="put",
            call_us=n,
            args={"key": "dark", "value": str(n)},
        )
        for n in range(1, UNKNOWN_MAX + 2)
    ]
    verdict = check_linear(history_of([], ops))
    assert verdict.outcome == "unknown"
    assert f"{UNKNOWN_MAX + 1} of them unknown" in verdict.sentence


def test_the_log_settles_what_is_unknown() -> None:
    puts = [put(1, "a"), put(2, "a"), put(3, "a")]
    unknown = Op(
        id=9, client="u", name="put", call_us=1, args=puts[0].args, session=1, number=1
    )
    never = Op(
        id=10,
        client="v",
        name="put",
        call_us=2,
        args={"key": "a", "value": "never"},
        session=1,
        number=77,
    )
    ops = [unknown, never, done(2, puts[1]), done(3, puts[2])]
    settled = {op.id: op for op in settle(history_of(puts, ops))}
    assert set(settled) == {9, 2, 3}
    assert settled[9].outcome == "ok"
    assert settled[9].answer == {"mod_rev": 1}
    assert settled[9].return_us == ops[2].return_us, "a later request had returned"


def test_what_has_no_number_stays_unknown() -> None:
    op = Op(id=1, client="a", name="put", call_us=1, args={"key": "k", "value": "v"})
    assert settle(history_of([], [op])) == [op]


@pytest.mark.parametrize(
    ("ttl_ms", "at_ms", "outcome"),
    [
        (2000, 1805, "legal"),
        (2000, 1795, "illegal"),
        (500, 405, "legal"),
        (500, 395, "illegal"),
    ],
)
def test_a_lease_may_end_by_the_margin_that_clients_count_with(
    ttl_ms: int, at_ms: int, outcome: str
) -> None:
    """Clocks are off by 5 %, and the lease clock moves by ticks."""
    granted = {"lease": 7, "ttl_ms": ttl_ms}
    mine = {"name": "l", "lease": 7, "claimant": "a"}
    theirs = {"name": "l", "lease": 8, "claimant": "b"}
    ops = [
        _done(1, "grant", 0, 5, {"ttl_ms": ttl_ms}, granted),
        _done(2, "acquire", 5, 10, mine, {"token": 1}),
        _done(3, "acquire", 20, at_ms, theirs, {"token": 2}),
    ]
    history = History(meta=Meta(made_by="by hand"), ops=ops)
    assert check_linear(history).outcome == outcome


def _done(
    number: int, name: str, begin_ms: int, end_ms: int, args: Fields, answer: Fields
) -> Op:
    return Op(
        id=number,
        client=f"c{number}",
        name=name,
        call_us=begin_ms * 1000,
        return_us=end_ms * 1000,
        args=args,
        outcome="ok",
        answer=answer,
    )
