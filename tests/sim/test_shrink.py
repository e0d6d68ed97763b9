"""A run that fails is made clearly smaller, and fails in the same way, each time.

Source: RELIABILITY.md section 6 (replay and shrinking).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.catalogue import options_for, planted_named
from tests.sim.__main__ import main
from tests.sim.actions import load_script, save_script
from tests.sim.run import Simulation
from tests.sim.shrink import Failure, attempt, shrink

_BUG = "joint-half"
_SEED = 3
_STEPS = 10_000


def _replay(path: Path) -> tuple[Failure | None, str]:
    script = load_script(path)
    with planted_named(script.planted):
        simulation = Simulation(script.seed, script.options, script)
        return attempt(simulation, 0), simulation.world.trace_hash


def test_a_failing_run_becomes_small_and_still_fails_the_same_way(
    tmp_path: Path,
) -> None:
    options = options_for(_BUG, _SEED)
    with planted_named(_BUG):
        first = Simulation(_SEED, options)
        failure = attempt(first, _STEPS)
        found = shrink(_SEED, options, _STEPS, _BUG)
    assert failure is not None
    assert found is not None
    assert found.failure == failure
    assert len(found.script.actions) * 4 < len(first.actions)
    assert found.failure.steps * 3 < failure.steps
    path = tmp_path / "script.json"
    save_script(path, found.script)
    again = _replay(path)
    assert again == _replay(path)
    assert again[0] == found.failure
    assert again[0].text == found.failure.text
    script = found.script
    without = Simulation(script.seed, script.options, script)
    assert attempt(without, 0) is None, "only the bug makes it fail"


def test_a_run_that_is_right_is_not_made_smaller() -> None:
    options = options_for(_BUG, _SEED)
    assert shrink(_SEED, options, 2000) is None


def test_a_run_on_files_is_refused_in_a_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--shrink", "--files", "real", "--seed", "4"])
    assert ended.value.code == 2
    assert "runs on files are not made smaller" in capsys.readouterr().err
