"""Lines of numbers: the same as a sorted list, wherever numbers come and go."""

from __future__ import annotations

import random
from bisect import bisect_right, insort

import pytest

from raftd.statemachine.queues.line import Line


def assert_same(line: Line, numbers: list[int]) -> None:
    """Compare all that a line says with a sorted list."""
    assert list(line) == numbers
    assert len(line) == len(numbers)
    assert bool(line) == bool(numbers)
    assert line.first() == (numbers[0] if numbers else None)
    assert line.last() == (numbers[-1] if numbers else None)


@pytest.mark.parametrize("seed", range(8))
def test_a_line_is_a_sorted_list(seed: int) -> None:
    """Numbers that come in any order, and go from anywhere."""
    draw = random.Random(seed)
    line, numbers = Line(), list[int]()
    for turn in range(6000):
        may_shrink = turn > 3000 or draw.random() < 0.3
        if numbers and may_shrink and draw.random() < 0.6:
            gone = numbers.pop(draw.randrange(len(numbers)))
            line.remove(gone)
        else:
            number = draw.randrange(1 << 60)
            line.add(number)
            insort(numbers, number)
        if turn % 500 == 0:
            assert_same(line, numbers)
            after = draw.randrange(1 << 60)
            assert list(line.above(after)) == numbers[bisect_right(numbers, after) :]
    assert_same(line, numbers)


def test_numbers_that_come_last_and_go_first() -> None:
    """The order of jobs: many blocks are begun at the end and emptied at the front."""
    line = Line()
    for number in range(5000):
        line.add(number)
        if number >= 1300:
            line.remove(number - 1300)
    assert_same(line, list(range(3700, 5000)))
    for number in range(3700, 5000):
        line.remove(number)
    assert_same(line, [])
    line.add(7)
    assert_same(line, [7])


def test_blocks_are_split_where_numbers_come_within() -> None:
    """Falling numbers all come at the front of one block, until it is split."""
    line = Line()
    for number in range(5000, 0, -1):
        line.add(number)
    assert_same(line, list(range(1, 5001)))
    assert list(line.above(0)) == list(line)
    assert list(line.above(4999)) == [5000]
    assert list(line.above(5000)) == []


def test_a_number_that_is_not_there_is_not_removed() -> None:
    """It would be a bug of an index: better loud than wrong."""
    line = Line()
    for number in (1, 3, 5):
        line.add(number)
    with pytest.raises(AssertionError, match="4 is not in the line"):
        line.remove(4)
    assert_same(line, [1, 3, 5])
