"""The stamps of a leader: capped, never back, within the voters' reason."""

from __future__ import annotations

import pytest

from raftd.node.lease_clock import LeaseClock, median_ms


def test_a_tick_counts_two_heartbeats_at_most() -> None:
    clock = LeaseClock(heartbeat_ms=100)
    clock.start(now_ms=500, wall_ms=0, monotonic_ms=1000)
    clock.tick(1050)
    assert clock.now_ms == 550
    clock.tick(61_050)  # stopped for a minute
    assert clock.now_ms == 750
    clock.tick(61_000)  # a clock that goes back
    assert clock.now_ms == 750
    clock.tick(61_050)
    assert clock.now_ms == 800


def test_a_new_leadership_goes_on_from_the_log_and_counts_no_time_between() -> None:
    clock = LeaseClock(heartbeat_ms=100)
    clock.start(now_ms=500, wall_ms=9, monotonic_ms=1000)
    clock.tick(1100)
    clock.start(now_ms=550, wall_ms=5, monotonic_ms=9000)
    assert (clock.now_ms, clock.wall_ms) == (600, 9)
    clock.tick(9010)
    assert clock.now_ms == 610


def test_the_wall_stamp_is_held_to_the_median_and_never_goes_back() -> None:
    clock = LeaseClock(heartbeat_ms=100)
    clock.tick_wall(90_000, [10_000, 10_010])
    assert clock.wall_ms == 11_010
    clock.tick_wall(10_500, [10_500, 10_500])
    assert clock.wall_ms == 11_010
    clock.tick_wall(12_000, [12_000, 90_000])
    assert clock.wall_ms == 12_000


@pytest.mark.parametrize(
    ("own_ms", "others_ms", "expected"),
    [(7, [], 7), (7, [0, 0], 7), (7, [3], 3), (7, [3, 9], 7), (1, [3, 9, 0, 5], 3)],
)
def test_the_median_ignores_clocks_not_heard_of(
    own_ms: int, others_ms: list[int], expected: int
) -> None:
    assert median_ms(own_ms, others_ms) == expected
