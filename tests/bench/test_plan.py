"""Who runs when: turns, rests, and what happens to who is missing or fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.made_up import MadeUp
from tests.bench.options import parse
from tests.bench.parts import LONGER
from tests.bench.rounds import Outcome, Plan, run_steps, started, steps_of
from tests.bench.workloads import WORKLOADS, Spec

SPECS = [spec for spec in WORKLOADS if spec.name in {"put-1", "put-64"}]


def silent(_what: str) -> None:
    pass


def plan(specs: list[Spec], rounds: int, noted: list[str] | None = None) -> Plan:
    settled = [] if noted is None else noted
    return Plan(
        specs, rounds, 0.5, 2.0, settle=lambda: settled.append("the disk settles")
    )


def test_every_other_round_goes_backwards_so_that_none_is_always_first() -> None:
    systems = [MadeUp(name, ["put-1", "put-64"], []) for name in ("a", "b", "c")]

    order = [
        (step.round, step.spec.name, step.system.name)
        for step in steps_of(SPECS, 2, systems)
    ]

    assert order == [
        *((0, measure, name) for measure in ("put-1", "put-64") for name in "abc"),
        *((1, measure, name) for measure in ("put-1", "put-64") for name in "cba"),
    ]


def test_a_system_has_no_turn_for_what_it_cannot_measure() -> None:
    systems = [MadeUp("a", ["put-1", "put-64"], []), MadeUp("b", ["put-64"], [])]

    order = [(s.spec.name, s.system.name) for s in steps_of(SPECS, 1, systems)]

    assert order == [("put-1", "a"), ("put-64", "a"), ("put-64", "b")]


async def test_who_is_done_rests_before_the_next_one_runs(tmp_path: Path) -> None:
    noted: list[str] = []
    systems = [MadeUp(name, ["put-1", "put-64"], noted) for name in ("a", "b")]
    outcome = Outcome()

    async with started(systems, tmp_path, silent, outcome) as there:
        await run_steps(plan(SPECS[:1], 2), there, silent, outcome)

    assert noted == [
        *("a starts", "a rests", "b starts", "b rests"),
        *("a runs put-1 1", "a rests", "b runs put-1 1", "b rests"),
        *("b runs put-1 1", "b rests", "a runs put-1 1", "a rests"),
        *("a stops", "b stops"),
    ]
    assert [(t.system, t.round) for t in outcome.turns] == [
        *(("a", 0), ("b", 0), ("b", 1), ("a", 1)),
    ]
    assert outcome.turns[0].rate == 0.5
    assert outcome.turns[0].p50_us == 500_000


async def test_the_disk_settles_before_each_turn(tmp_path: Path) -> None:
    noted: list[str] = []
    systems = [MadeUp(name, ["put-1"], noted) for name in ("a", "b")]
    outcome = Outcome()

    async with started(systems, tmp_path, silent, outcome) as there:
        await run_steps(plan(SPECS[:1], 1, noted), there, silent, outcome)

    before = [noted[at - 1] for at, what in enumerate(noted) if "runs" in what]
    assert before == ["the disk settles"] * 2


async def test_who_is_alone_need_not_rest(tmp_path: Path) -> None:
    noted: list[str] = []
    outcome = Outcome()

    alone = [MadeUp("a", ["put-1"], noted)]
    async with started(alone, tmp_path, silent, outcome) as there:
        await run_steps(plan(SPECS[:1], 1), there, silent, outcome)

    assert noted == ["a starts", "a runs put-1 1", "a stops"]


async def test_who_is_missing_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    noted: list[str] = []
    systems = [
        MadeUp("a", ["put-1"], noted),
        MadeUp("b", ["put-1"], noted, is_missing=True),
    ]
    outcome = Outcome()

    async with started(systems, tmp_path, silent, outcome) as there:
        await run_steps(plan(SPECS, 1), there, silent, outcome)

    assert outcome.left_out == ["b: install it"]
    assert outcome.versions == {"a": "a 1"}
    assert "b runs put-1 1" not in noted
    assert [turn.system for turn in outcome.turns] == ["a"]


async def test_who_fails_has_no_further_turn_and_keeps_what_it_did(
    tmp_path: Path,
) -> None:
    noted: list[str] = []
    names = ["put-1", "put-64"]
    systems = [
        MadeUp("a", names, noted),
        MadeUp("b", names, noted, fails_at="put-64"),
    ]
    outcome = Outcome()

    async with started(systems, tmp_path, silent, outcome) as there:
        await run_steps(plan(SPECS, 2), there, silent, outcome)

    assert outcome.left_out == ["b, from put-64 on: one write was lost"]
    ran = [(t.measure, t.round) for t in outcome.turns if t.system == "b"]
    assert ran == [("put-1", 0)]
    assert len([turn for turn in outcome.turns if turn.system == "a"]) == 4
    assert noted.count("b rests") == 3, "after its start and both of its turns"


def test_the_benchmark_is_five_rounds_against_all_unless_told() -> None:
    options = parse([])

    assert (options.rounds, options.measured_s) == (5, 3.0)
    assert options.measures == tuple(spec.name for spec in WORKLOADS)
    assert options.sections == ("rates",)
    assert {"etcd", "beanstalkd -f0"} <= {peer.name for peer in options.peers}
    assert len(options.peers) == len({peer.name for peer in options.peers})


def test_a_smoke_run_is_one_round_alone() -> None:
    options = parse(["--smoke"])

    assert (options.rounds, options.peers) == (1, ())


def test_measures_and_peers_can_be_chosen() -> None:
    options = parse(
        [
            *("--only", "put-64", "--only", "put-1"),
            *("--against", "etcd", "--rounds", "7", "--seconds", "0.5"),
            *("--sections", "rates,failover"),
        ]
    )

    assert options.measures == ("put-1", "put-64")
    assert [peer.name for peer in options.peers] == ["etcd"]
    assert (options.rounds, options.measured_s) == (7, 0.5)
    assert options.sections == ("rates", "failover")


@pytest.mark.parametrize(
    "wrong",
    [
        ["--rounds", "0"],
        ["--rounds", "many"],
        ["--seconds", "nan"],
        ["--seconds", "-1"],
        ["--only", "put-2"],
        ["--against", "postgres"],
        ["--sections", "rates,size"],
        ["--json", "/nowhere/at/all.json"],
        ["--plot", "/"],
        ["--round", "3"],
        ["--into", "performance.md"],
        ["put-64"],
    ],
)
def test_a_wrong_argument_is_one_sentence(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(wrong)

    assert ended.value.code == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1


@pytest.mark.parametrize("part", LONGER)
def test_each_longer_part_is_a_program_that_writes_its_rows(part: str) -> None:
    asked = [sys.executable, "-m", f"tests.bench.{part}", "--help"]

    told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout

    assert "--json FILE" in told
