"""Starts a cluster and runs workloads on it, round after round.

Rules: the workloads take turns within a round, so that whatever else the machine does
meets all of them alike; what is told is the median over the rounds, with its range.
The nodes keep their data from one run to the next, as a cluster in use does.

Source: PERFORMANCE.md (measure in turn, several times).
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import statistics
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from cluster.processes import Processes
from raftclient import aio
from tests.bench.measure import Measured, measure
from tests.bench.workloads import Spec, WorkloadFailed

__all__ = ["Plan", "Row", "cluster", "run_plan"]

_START_S: Final = 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How much is run.

    Attributes:
        specs: Workloads, in the order of a round.
        rounds: How many times each.
        warm_up_s: Before each measurement.
        measured_s: Of each measurement.
    """

    specs: Sequence[Spec]
    rounds: int
    warm_up_s: float
    measured_s: float


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """All runs of one workload."""

    name: str
    tasks: int
    runs: tuple[Measured, ...]

    def median(self, of: Callable[[Measured], float]) -> float:
        """Return the median of a figure over the runs."""
        return statistics.median(of(run) for run in self.runs)

    def span(self, of: Callable[[Measured], float]) -> tuple[float, float]:
        """Return the least and the greatest of a figure over the runs."""
        figures = [of(run) for run in self.runs]
        return min(figures), max(figures)


async def run_plan(plan: Plan, say: Callable[[str], None]) -> list[Row]:
    """Run all rounds on a fresh cluster of three processes.

    Args:
        plan: What to run.
        say: Told what is being done.

    Raises:
        WorkloadFailed: Something did not work; the sentence says what.
    """
    runs: dict[str, list[Measured]] = {spec.name: [] for spec in plan.specs}
    async with cluster() as processes:
        for number in range(plan.rounds):
            for spec in plan.specs:
                say(f"round {number + 1} of {plan.rounds}: {spec.name}")
                runs[spec.name].append(await _run(plan, spec, number, processes))
    return [Row(spec.name, spec.tasks, tuple(runs[spec.name])) for spec in plan.specs]


async def _run(plan: Plan, spec: Spec, number: int, processes: Processes) -> Measured:
    async with aio.connect(processes.endpoints, timeout_s=_START_S) as client:
        workload = spec.make(client, f"bench/{spec.name}/{number}", spec.tasks)
        await workload.prepare()
        leader = (await client.status()).leader
        if leader not in processes.ids:
            raise WorkloadFailed(f"{spec.name}: no member leads")
        measured = await measure(
            workload,
            _pids(processes, leader),
            warm_up_s=plan.warm_up_s,
            measured_s=plan.measured_s,
        )
        if not measured.operations:
            raise WorkloadFailed(f"{spec.name}: no operation ended in time")
        await workload.verify()
    return measured


def _pids(processes: Processes, leader: int) -> dict[str, int]:
    """Name the processes by what they do."""
    followers = [node_id for node_id in processes.ids if node_id != leader]
    named = {
        f"follower {number}": processes.pid(node_id)
        for number, node_id in enumerate(followers, 1)
    }
    return {"client": os.getpid(), "leader": processes.pid(leader), **named}


@asynccontextmanager
async def cluster() -> AsyncIterator[Processes]:
    """Three nodes with their defaults, gone with their data afterwards."""
    with tempfile.TemporaryDirectory(prefix="raftd-bench-") as folder:
        processes = Processes(Path(folder))
        try:
            processes.start()
            async with aio.connect(processes.endpoints) as client:
                await client.put("bench", "up", timeout_s=_START_S)
            yield processes
        except Exception as error:
            for node_id in processes.ids:
                error.add_note(f"node {node_id}:\n{processes.log(node_id)[-2000:]}")
            raise
        finally:
            await asyncio.to_thread(processes.stop)
