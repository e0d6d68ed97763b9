"""Who should lead, judged by measures alone: no clock, no disk.

Source: RELIABILITY.md rule 14.
"""

from __future__ import annotations

import pytest

from raftd.node.fitness import Advice, Fitness, Pace

T_MS = 1000


class Judge:
    """A fitness with a clock that the test moves."""

    def __init__(self) -> None:
        self.fitness = Fitness(T_MS)
        self.now_ms = 0

    def tick(
        self,
        *,
        write_age_ms: int = 0,
        lag_ms: int = 0,
        is_full: bool = False,
        after_ms: int = 50,
    ) -> Advice:
        self.now_ms += after_ms
        return self.fitness.judge(
            self.now_ms, write_age_ms=write_age_ms, lag_ms=lag_ms, is_full=is_full
        )


@pytest.mark.parametrize(
    ("age_ms", "advice", "is_fit"),
    [
        (0, Advice.STAY, True),
        (T_MS // 2, Advice.STAY, True),
        (T_MS // 2 + 1, Advice.HAND_OVER, False),
        (T_MS, Advice.HAND_OVER, False),
        (T_MS + 1, Advice.STEP_DOWN, False),
        (60 * T_MS, Advice.STEP_DOWN, False),
    ],
)
def test_a_write_under_way_decides_by_its_age(
    age_ms: int, advice: Advice, is_fit: bool
) -> None:
    judge = Judge()
    assert judge.tick(write_age_ms=age_ms) is advice
    assert judge.fitness.is_fit is is_fit
    assert bool(judge.fitness.reason) is not is_fit


def test_unfit_lasts_until_all_was_well_for_one_timeout() -> None:
    judge = Judge()
    judge.tick(write_age_ms=T_MS + 1)
    judge.tick(after_ms=T_MS - 1)
    assert not judge.fitness.is_fit
    judge.tick(write_age_ms=T_MS, after_ms=0)
    judge.tick(after_ms=T_MS - 1)
    assert not judge.fitness.is_fit, "the second trouble counts from its own end"
    judge.tick(after_ms=1)
    assert judge.fitness.is_fit
    assert not judge.fitness.reason


def test_one_short_stall_of_the_loop_is_forgiven_and_a_second_is_not() -> None:
    judge = Judge()
    assert judge.tick(lag_ms=T_MS // 2 + 1) is Advice.STAY
    assert judge.fitness.is_fit
    assert judge.tick(after_ms=5 * T_MS) is Advice.STAY
    assert judge.tick(lag_ms=T_MS // 2 + 1) is Advice.HAND_OVER


def test_stalls_far_apart_are_single_stalls() -> None:
    judge = Judge()
    for _ in range(5):
        assert judge.tick(lag_ms=T_MS, after_ms=10 * T_MS + 1) is Advice.STAY


def test_a_loop_that_stood_still_for_a_timeout_leads_no_more() -> None:
    judge = Judge()
    assert judge.tick(lag_ms=T_MS + 1) is Advice.STEP_DOWN
    assert not judge.fitness.is_fit


def test_what_the_loop_was_late_to_see_is_not_blamed_on_the_disk() -> None:
    judge = Judge()
    assert judge.tick(write_age_ms=T_MS - 1, lag_ms=T_MS - 10) is Advice.STAY


def test_a_full_disk_hands_over_and_is_unfit_while_it_lasts() -> None:
    judge = Judge()
    for _ in range(10):
        assert judge.tick(is_full=True, after_ms=T_MS) is Advice.HAND_OVER
        assert not judge.fitness.is_fit
    assert judge.tick() is Advice.STAY
    assert not judge.fitness.is_fit
    judge.tick(after_ms=T_MS)
    assert judge.fitness.is_fit


# --- the pace ---------------------------------------------------------------------


def write(pace: Pace, index: int, own_s: float, others_s: float | None) -> None:
    """Let one write take so long here, and so long at the quickest follower."""
    begin_s = index * 10.0
    pace.begin(index, begin_s)
    pace.follower_at(index - 1, begin_s)
    if others_s is not None:
        pace.follower_at(index, begin_s + others_s)
        pace.follower_at(index, begin_s + others_s + 5.0)  # only the first counts
    pace.end(begin_s + own_s, is_leader=True)


def pace_after(own_s: float, others_s: float | None, count: int = 32) -> Pace:
    pace = Pace()
    for index in range(1, count + 1):
        write(pace, index, own_s, others_s)
    return pace


@pytest.mark.parametrize(
    ("own_s", "others_s", "is_slow"),
    [
        (0.15, 0.01, True),
        (0.15, 0.05, False),  # slower, not by far
        (0.05, 0.001, False),  # by far, yet it hurts nobody
        (0.4, None, False),  # no follower was any quicker
        (0.4, 0.8, False),
    ],
)
def test_a_disk_is_slow_if_it_hurts_and_another_would_not(
    own_s: float, others_s: float | None, is_slow: bool
) -> None:
    assert pace_after(own_s, others_s).is_slow(T_MS) is is_slow


def test_few_writes_prove_nothing() -> None:
    assert not pace_after(0.4, 0.001, count=31).is_slow(T_MS)


def test_writes_as_a_follower_are_not_compared() -> None:
    pace = Pace()
    for index in range(1, 100):
        pace.begin(index, 0.0)
        pace.follower_at(index, 0.001)
        pace.end(0.4, is_leader=False)
    assert not pace.is_slow(T_MS)


def test_a_slow_disk_hands_over_and_may_still_lead_if_nobody_else_does() -> None:
    judge = Judge()
    for index in range(1, 33):
        write(judge.fitness.pace, index, 0.15, 0.01)
    assert judge.tick() is Advice.HAND_OVER
    assert judge.fitness.is_fit
    judge.fitness.pace.forget()
    assert judge.tick() is Advice.STAY


def test_the_followers_are_asked_only_while_a_write_wants_to_know() -> None:
    pace = Pace()
    assert not pace.is_asking
    pace.begin(5, 0.0)
    assert pace.is_asking
    pace.follower_at(5, 0.1)
    assert not pace.is_asking
    pace.end(0.2, is_leader=True)
    assert not pace.is_asking
