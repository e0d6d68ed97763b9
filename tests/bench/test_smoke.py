"""The benchmark runs, proves what it wrote, and fails when that is not there."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pytest

from raftclient import aio
from raftctl.bench_workloads import Increments, Puts, WorkloadFailed
from tests.bench.__main__ import main
from tests.bench.measure import measure
from tests.bench.ours import cluster
from tests.bench.peers.base import HOLD_S
from tests.bench.results import OURS
from tests.bench.rounds import Outcome, Plan, run_plan
from tests.bench.workloads import WORKLOADS, HandOvers, Spec

pytestmark = pytest.mark.e2e


async def test_every_workload_runs_and_finds_its_writes_again() -> None:
    specs = [dataclasses.replace(s, tasks=min(s.tasks, 8)) for s in WORKLOADS]
    said: list[str] = []

    outcome = await _run(specs, said)

    assert [turn.measure for turn in outcome.turns] == [spec.name for spec in WORKLOADS]
    assert [text for text in said if "round" in text] == said[1:]
    assert outcome.left_out == []
    assert list(outcome.versions) == [OURS]
    for turn in outcome.turns:
        assert turn.operations > 0
        assert 0 < turn.p50_us <= turn.p99_us
        assert set(turn.cpu_us) == {"client", "leader", "follower 1", "follower 2"}


async def _run(specs: Sequence[Spec], said: list[str]) -> Outcome:
    """Measure for moments; for longer ones if nothing ended in one of them."""
    for measured_s in (0.2, 2.0):
        said.clear()
        try:
            return await run_plan(Plan(specs, 1, 0.05, measured_s), said.append)
        except WorkloadFailed as error:
            if "no operation ended" not in str(error):
                raise
    said.clear()
    return await run_plan(Plan(specs, 1, 0.05, 20.0), said.append)


async def test_what_counts_of_a_hand_over_is_less_than_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The time for which the lock was held is not in it."""
    counted_us: list[float] = []
    step = HandOvers.step

    async def timed(hand_overs: HandOvers, task: int) -> float:
        began_s = time.perf_counter()
        took_s = await step(hand_overs, task)
        assert took_s < time.perf_counter() - began_s - 0.9 * HOLD_S
        counted_us.append(took_s * 1e6)
        return took_s

    monkeypatch.setattr(HandOvers, "step", timed)
    specs = [spec for spec in WORKLOADS if spec.name == "handover"]

    (turn,) = (await _run(specs, [])).turns

    assert turn.p50_us in counted_us


async def test_a_count_that_is_off_by_one_is_told() -> None:
    async with (
        cluster() as processes,
        aio.connect(processes.endpoints, timeout_s=30) as client,
    ):
        for make in (Puts, Increments):
            workload = make([client], f"off/{make.__name__}", 2)
            await measure(workload, {}, warm_up_s=0.0, measured_s=0.1)
            await workload.verify(client)
            workload.done[0] += 1
            with pytest.raises(WorkloadFailed, match=f"off/{make.__name__}"):
                await workload.verify(client)


def test_the_program_prints_a_table_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bench.json"

    code = main(["--smoke", "--seconds", "1", "--only", "put-64", "--json", str(file)])

    assert code == 0
    assert "put-64" in capsys.readouterr().out
    told = json.loads(file.read_bytes())
    (turn,) = told["turns"]
    assert (turn["system"], turn["measure"], turn["round"]) == (OURS, "put-64", 0)
    assert told["rounds"] == 1
    assert told["environment"]["versions"] == {OURS: version("raftd")}
