"""The search against a judge that tries every order, and against well-known shapes."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.checkers.brute_force import is_linearizable
from tests.checkers.models import KeyModel, KeyOp, LockModel, LockOp
from tests.checkers.verdict import Undecided
from tests.checkers.wgl import Call, find_conflict

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.checkers.wgl import Model

KEYS = KeyModel(frozenset(range(1, 50)))


def call(number: int, begin: int, end: int | None, what: object) -> Call:
    return Call(number, begin, end, what)


def put(name: int, expected: int | None = None) -> KeyOp:
    return KeyOp("put", str(name), name, expected)


def got(name: int) -> KeyOp:
    return KeyOp("get", str(name), name) if name else KeyOp("get")


# --- shapes ------------------------------------------------------------------------


def test_reads_during_a_write_may_see_either_value_but_not_go_back() -> None:
    write = call(1, 0, 100, put(1))
    forth = [write, call(2, 10, 20, got(0)), call(3, 30, 40, got(1))]
    back = [write, call(2, 10, 20, got(1)), call(3, 30, 40, got(0))]
    assert find_conflict(KEYS, forth) is None
    assert find_conflict(KEYS, back) is not None


def test_a_stale_read_is_refused_and_named() -> None:
    calls = [
        call(1, 0, 10, put(1)),
        call(2, 20, 30, put(2)),
        call(3, 40, 50, got(1)),
    ]
    assert find_conflict(KEYS, calls) == (3, 2)


def test_a_lost_update_is_refused() -> None:
    """Two increments were acknowledged, and one of them is not in the sum."""
    calls = [
        call(1, 0, 10, KeyOp("incr", "1", 1, by=1)),
        call(2, 5, 15, KeyOp("incr", "1", 2, by=1)),
    ]
    assert find_conflict(KEYS, calls) is not None


def test_two_winners_of_one_compare_and_set_are_refused() -> None:
    calls = [
        call(1, 0, 10, put(1)),
        call(2, 20, 40, put(2, 1)),
        call(3, 20, 40, put(3, 1)),
    ]
    assert find_conflict(KEYS, calls) is not None
    assert find_conflict(KEYS, calls[:2]) is None


def test_a_refused_compare_and_set_saw_another_version() -> None:
    calls = [call(1, 0, 10, put(1)), call(2, 20, 30, KeyOp("missed", expected=1))]
    assert find_conflict(KEYS, calls) == (2, 1)


def test_a_write_that_was_dropped_must_not_be_read() -> None:
    """An aborted read: the value of a definite error shows up."""
    calls = [call(1, 0, 10, put(1)), call(2, 20, 30, got(2))]
    assert find_conflict(KEYS, calls) is not None


def test_an_unknown_write_may_take_effect_late_or_never_but_only_once() -> None:
    unknown = call(1, 0, None, put(1))
    never = [unknown, call(2, 10, 20, got(0)), call(3, 30, 40, got(0))]
    late = [unknown, call(2, 10, 20, got(0)), call(3, 30, 40, got(1))]
    assert find_conflict(KEYS, never) is None
    assert find_conflict(KEYS, late) is None
    twice = [*late, call(4, 50, 60, put(2)), call(5, 70, 80, got(1))]
    assert find_conflict(KEYS, twice) is not None


def test_a_read_may_not_see_what_begins_after_it() -> None:
    calls = [call(1, 0, 10, got(1)), call(2, 20, 30, put(1))]
    assert find_conflict(KEYS, calls) is not None


def test_at_equal_times_begins_come_before_ends() -> None:
    calls = [call(1, 0, 10, put(1)), call(2, 10, 20, got(0))]
    assert find_conflict(KEYS, calls) is None


def test_a_deleted_key_is_gone() -> None:
    gone = KeyOp("delete", was_there=True)
    calls = [call(1, 0, 1, put(1)), call(2, 2, 3, gone), call(3, 4, 5, got(1))]
    assert find_conflict(KEYS, calls[:2]) is None
    assert find_conflict(KEYS, calls) is not None
    assert find_conflict(KEYS, [call(2, 2, 3, gone)]) is not None


def test_a_lock_has_one_holder_until_it_is_released_or_its_lease_may_have_ended() -> (
    None
):
    first = call(1, 0, 10, LockOp("acquire", 1, 1, "a"))
    second = call(2, 20, 30, LockOp("acquire", 2, 2, "b"))
    assert find_conflict(LockModel(), [first, second]) is not None
    release = call(3, 12, 14, LockOp("release", 1))
    assert find_conflict(LockModel(), [first, second, release]) is None
    too_late = call(0, 31, None, LockOp("end", 1))
    in_time = call(0, 25, None, LockOp("end", 1))
    assert find_conflict(LockModel(), [first, second, too_late]) is not None
    assert find_conflict(LockModel(), [first, second, in_time]) is None


def test_a_lock_is_released_by_its_token_only() -> None:
    first = call(1, 0, 10, LockOp("acquire", 1, 1, "a"))
    wrong = call(2, 20, 30, LockOp("release", 7))
    assert find_conflict(LockModel(), [first, wrong]) is not None


def test_a_search_that_takes_too_long_is_undecided() -> None:
    calls = [call(n, 0, None, put(n)) for n in range(1, 30)]
    calls += [call(30 + n, 10 + n, 10 + n, got(n % 30)) for n in range(9)]
    calls.append(call(60, 40, 50, got(49)))
    with pytest.raises(Undecided, match="no answer after 1000 tries"):
        find_conflict(KEYS, calls, steps_max=1000)


# --- every order -------------------------------------------------------------------


def key_op(rng: random.Random, number: int) -> KeyOp:
    name = rng.randrange(4)
    match rng.randrange(7):
        case 0 | 1:
            return put(number, rng.choice([None, None, name]))
        case 2 | 3:
            return got(name)
        case 4:
            return KeyOp("missed", expected=name)
        case 5:
            return KeyOp("delete", was_there=rng.choice([None, True, False]))
        case _:
            value = rng.choice([None, "1", "2", "3"])
            return KeyOp("incr", value, number, by=rng.randrange(1, 3))


def lock_op(rng: random.Random, number: int) -> LockOp:
    token = rng.randrange(1, 5)
    match rng.randrange(6):
        case 0 | 1:
            return LockOp("acquire", number, number % 2, "ab"[number % 2])
        case 2:
            return LockOp("release", token)
        case 3:
            return LockOp("end", token)
        case 4:
            return LockOp("cancel", lease=number % 2, claimant="ab"[number % 2])
        case _:
            return LockOp("break")


@pytest.mark.parametrize(
    ("model", "draw"),
    [(KeyModel(frozenset(range(1, 6))), key_op), (LockModel(), lock_op)],
)
def test_the_search_agrees_with_trying_every_order(
    model: Model, draw: Callable[[random.Random, int], object]
) -> None:
    rng = random.Random(7)
    legal = 0
    count = 2500
    for _ in range(count):
        calls = []
        for number in range(1, rng.randrange(3, 6)):
            begin = rng.randrange(12)
            end = None if rng.random() < 0.15 else begin + rng.randrange(8)
            calls.append(Call(number, begin, end, draw(rng, number)))
        expected = is_linearizable(model, calls)
        assert (find_conflict(model, calls) is None) == expected, calls
        legal += expected
    assert count // 10 < legal < count - count // 10
