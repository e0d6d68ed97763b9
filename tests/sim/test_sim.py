"""Fixed seeds of the simulator hold, and equal seeds are equal runs.

Every seed that ever failed joins the list. What a seed means changes with the draws of
the simulator; the bugs themselves stay, planted again, in ``tests.mutants``.
"""

from __future__ import annotations

import pytest

from tests.proof.runs import differences
from tests.sim.__main__ import main
from tests.sim.run import Simulation
from tests.sim.soak import Case, failed_cases, pairs, run_case, soak

_STEPS = 10_000


@pytest.mark.parametrize("seed", range(1, 16))
def test_every_promise_holds_and_the_cluster_recovers(seed: int) -> None:
    outcome = Simulation(seed).run(_STEPS)
    assert outcome.entries > 0


@pytest.mark.parametrize("case", failed_cases(), ids=str)
def test_what_ever_failed_holds(case: Case) -> None:
    assert run_case(case).failure == ""


def test_the_seeds_reach_what_they_are_for() -> None:
    outcomes = [Simulation(seed).run(_STEPS) for seed in range(1, 21)]
    assert sum(outcome.answered for outcome in outcomes) > 300
    assert sum(outcome.terms for outcome in outcomes) > 30
    assert sum(outcome.sessions for outcome in outcomes) > 20
    assert sum(outcome.installs for outcome in outcomes) > 3
    assert sum(outcome.changes for outcome in outcomes) > 10


@pytest.mark.parametrize("seed", [3, 7])
def test_the_same_seed_is_the_same_run(seed: int) -> None:
    first, second = (Simulation(seed).run(_STEPS) for _ in range(2))
    assert first == second
    assert first.trace_hash != Simulation(seed + 1).run(_STEPS).trace_hash


def test_the_order_of_hashes_changes_nothing() -> None:
    assert pairs([5, 6, 7, 8], 5000) == []


def test_a_run_that_hashes_otherwise_is_told() -> None:
    told = differences([5, 6], ["a", "b"], ["a", "c"])
    assert told == ["seed 6 is two runs: b c"]
    assert differences([5, 6], ["a"], ["a"]) == ["a run of [5, 6] ended early"]


def test_a_soak_counts_what_fails_and_says_how_to_repeat_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: Simulation, __: object) -> None:
        raise AssertionError("planted")

    lines: list[str] = []
    assert soak([1, 2], steps=300, say=lines.append).failures == []
    monkeypatch.setattr(Simulation, "_check_end", fail)
    found = soak([1, 2], steps=300, say=lines.append)
    assert (found.runs, len(found.failures)) == (2, 2)
    assert found.events > 0
    assert lines == [
        f"FAIL python -m tests.sim --seed {seed} --steps 300: AssertionError: planted"
        for seed in (1, 2)
    ]


def test_a_failure_says_how_to_repeat_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Simulation, __: object) -> None:
        raise AssertionError("planted")

    monkeypatch.setattr(Simulation, "_check_end", fail)
    assert main(["--seed", "6", "--steps", "500"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "repeat: python -m tests.sim --seed 6 --steps 500 --trace"
    assert lines[-2].startswith("FAIL seed=6 ")
    assert sum(" ms  " in line for line in lines) == 200
