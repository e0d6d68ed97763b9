"""The table of scenarios is whole, and everything it names is there."""

from __future__ import annotations

import ast
import dataclasses
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.mutants.catalogue import BUGS
from tests.mutants.scenarios import SCENARIOS, Scenario
from tests.sim import options

_ROOT: Final = Path(__file__).parents[2]
_CODES: Final = frozenset(
    [
        "ES",
        "LM",
        "LC",
        "SMS",
        "DUR",
        "LIN",
        "XO",
        "MEX",
        "FEN",
        "LSE",
        "QNL",
        "QSL",
        "QTR",
        "WAT",
        "CFG",
        "DET",
        "LIV",
    ]
)


@cache
def _functions(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text())
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def _is_there(name: str) -> bool:
    """Tell whether there is what a scenario says that it is reached by."""
    path, is_test, function = name.partition("::")
    if is_test:
        return (_ROOT / path).is_file() and function in _functions(_ROOT / path)
    kind, _, what = name.partition(" ")
    match kind:
        case "script":
            return (_ROOT / f"tests/consensus/scripts/{what}.txt").is_file()
        case "planted":
            return what in BUGS
        case "fault":
            return what in options._FAULTS  # noqa: SLF001  # nobody else has the list
        case "draw":
            return what in {field.name for field in dataclasses.fields(options.Options)}
        case _:
            return False


def test_none_of_them_is_missing() -> None:
    assert [each.number for each in SCENARIOS] == list(range(1, 64))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: f"{each.number}")
def test_what_is_said_to_reach_it_is_there(scenario: Scenario) -> None:
    missing = [name for name in scenario.reached_by if not _is_there(name)]
    assert not missing
    assert scenario.reached_by or scenario.note


def test_all_but_one_are_reached() -> None:
    assert [each.number for each in SCENARIOS if not each.reached_by] == [60]


def test_titles_and_codes_are_proper() -> None:
    assert len({each.title for each in SCENARIOS}) == len(SCENARIOS)
    for scenario in SCENARIOS:
        assert set(scenario.breaks.split(", ")) <= _CODES, scenario.number


@pytest.mark.parametrize(
    "name",
    [
        "script scenario_00_none",
        "planted nothing",
        "fault none",
        "draw none",
        "rumour any",
        "tests/sim/test_sim.py::test_none",
        "tests/none.py::test_none",
    ],
)
def test_what_is_not_there_is_noticed(name: str) -> None:
    assert not _is_there(name)
