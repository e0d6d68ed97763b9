"""Fixed seeds of the simulator hold, and equal seeds are equal runs.

Every seed that ever failed joins the list. What a seed means changes with the draws of
the simulator; the bugs themselves stay, planted again, in ``test_planted``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.__main__ import main
from tests.sim.run import Simulation

_STEPS = 10_000
_SEEDS = (*range(1, 41), 172, 182, 285, 408)
_ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("seed", _SEEDS)
def test_every_promise_holds_and_the_cluster_recovers(seed: int) -> None:
    outcome = Simulation(seed).run(_STEPS)
    assert outcome.entries > 0


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
    command = [sys.executable, "-m", "tests.sim", "--seed", "5", "--seeds", "4"]
    hashes = []
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [*command, "--steps", "5000"],
            cwd=_ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        hashes.append([line.rsplit("hash=")[-1] for line in done.stdout.splitlines()])
    assert hashes[0] == hashes[1]
    assert len(hashes[0]) == 4


def test_a_failure_says_how_to_repeat_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Simulation) -> None:
        raise AssertionError("planted")

    monkeypatch.setattr(Simulation, "_check_end", fail)
    assert main(["--seed", "6", "--steps", "500"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "repeat: python -m tests.sim --seed 6 --steps 500 --trace"
    assert lines[-2].startswith("FAIL seed=6 ")
    assert sum(" ms  " in line for line in lines) == 50
