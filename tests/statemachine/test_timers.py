"""Timers: however they were armed, they fire in the order (deadline, rank, id)."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from raftd.statemachine.timers import TimerHeap, TimerId

_Timer = tuple[int, TimerId]


class _World:
    """Timers with true deadlines, and a heap that was told of them."""

    def __init__(self) -> None:
        self.deadlines: dict[_Timer, int] = {}
        self.heap = TimerHeap({1: self._deadline_of(1), 2: self._deadline_of(2)})

    def _deadline_of(self, rank: int) -> Callable[[TimerId], int | None]:
        return lambda timer: self.deadlines.get((rank, timer))

    def arm(
        self, deadline_ms: int, rank: int, number: int | str, *, rising: bool
    ) -> None:
        timer: TimerId = (0, number)
        self.deadlines[rank, timer] = deadline_ms
        arm = self.heap.arm_rising if rising else self.heap.arm
        arm(deadline_ms, rank, timer)

    def fire_until(self, now_ms: int) -> list[_Timer]:
        fired = []
        while (due := self.heap.due(now_ms)) is not None:
            fired.append(due)
            del self.deadlines[due]
        return fired

    def expected(self, now_ms: int) -> list[_Timer]:
        due = [
            (deadline_ms, *timer)
            for timer, deadline_ms in self.deadlines.items()
            if deadline_ms <= now_ms
        ]
        return [(rank, timer) for _, rank, timer in sorted(due)]


@pytest.mark.parametrize("seed", range(10))
def test_timers_fire_in_order_however_they_were_armed(seed: int) -> None:
    """Deadlines come in order or not, are put off, put forward and dropped."""
    draw = random.Random(seed)
    world, now_ms, fired = _World(), 0, 0
    for number in range(3000):
        rising = draw.random() < 0.7
        span_ms = 50 if rising and draw.random() < 0.9 else draw.randrange(200)
        rank = draw.choice((1, 2))
        world.arm(now_ms + span_ms, rank, number, rising=rising)
        if draw.random() < 0.3:
            timer = draw.choice(list(world.deadlines))
            match draw.randrange(3):
                case 0:
                    del world.deadlines[timer]
                case 1:  # later: nobody tells the heap
                    world.deadlines[timer] += draw.randrange(100)
                case _:
                    world.arm(now_ms, timer[0], timer[1][1], rising=False)
        now_ms += draw.randrange(4)
        expected = world.expected(now_ms)
        assert world.fire_until(now_ms) == expected
        fired += len(expected)
    assert fired > 1000


def test_the_earliest_true_deadline_is_seen_from_both_parts() -> None:
    """A line of rising deadlines hides nothing of the heap, and the other way round."""
    world = _World()
    world.arm(10, 1, 1, rising=True)
    world.arm(20, 1, 2, rising=True)
    world.arm(15, 2, 3, rising=False)
    world.arm(5, 2, 4, rising=True)
    assert world.heap.peek() == (5, 2, (0, 4))
    assert world.fire_until(15) == [(2, (0, 4)), (1, (0, 1)), (2, (0, 3))]
    assert world.heap.peek() == (20, 1, (0, 2))
    assert world.fire_until(100) == [(1, (0, 2))]
    assert world.heap.peek() is None
