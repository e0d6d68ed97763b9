"""Runs one workload for a while: rate, latencies, processor time per process.

Rules: a task starts its next operation when the last one has ended (a closed loop);
operations that end before the warm-up is over are proved but not measured. Processor
time is what the kernel booked for a process, so it holds on a busy machine where
rates do not.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.bench.peers.base import Run
from tests.bench.workloads import Workload, WorkloadFailed

__all__ = ["measure", "quantile", "read_cpu_s"]

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


def read_cpu_s(pid: int) -> float:
    """Return the processor time that a process has used, all threads together."""
    # The name in parentheses may hold blanks; utime and stime are fields 14 and 15.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


async def measure(
    workload: Workload, pids: Mapping[str, int], *, warm_up_s: float, measured_s: float
) -> Run:
    """Run a prepared workload with all its tasks.

    Args:
        workload: Its ``done`` is counted here.
        pids: The processes whose time is taken, by what to call them.
        warm_up_s: Before the measurement begins.
        measured_s: How long it lasts.

    Raises:
        WorkloadFailed: An operation did something else than it should.
    """
    clock = time.perf_counter  # a loop's own clock may tick in milliseconds
    loop = asyncio.get_running_loop()
    begin_s = clock() + warm_up_s
    end_s = begin_s + measured_s
    latencies_s: list[float] = []
    cpu_s: list[dict[str, float]] = []

    def sample() -> None:
        cpu_s.append({role: read_cpu_s(pid) for role, pid in pids.items()})

    async def run(task: int) -> None:
        done = workload.done
        now_s = clock()
        while now_s < end_s:
            began_s = now_s
            took_s = await workload.step(task)
            done[task] += 1
            now_s = clock()
            # However slow the machine: one operation that ended counts.
            if begin_s <= now_s and (now_s < end_s or not latencies_s):
                latencies_s.append(now_s - began_s if took_s is None else took_s)

    timers = [
        loop.call_later(warm_up_s, sample),
        loop.call_later(warm_up_s + measured_s, sample),
    ]
    try:
        async with asyncio.TaskGroup() as group:
            for task in range(workload.tasks):
                group.create_task(run(task))
    except ExceptionGroup as failed:
        wrong = failed.subgroup(WorkloadFailed)
        raise (wrong or failed).exceptions[0] from None
    finally:
        for timer in timers:
            timer.cancel()
    while len(cpu_s) < 2:  # all tasks ended before the loop came to its timers
        sample()
    latencies_s.sort()
    operations = len(latencies_s)
    return Run(
        operations,
        operations / measured_s,
        quantile(latencies_s, 0.50) * 1e6,
        quantile(latencies_s, 0.99) * 1e6,
        {
            role: (cpu_s[1][role] - cpu_s[0][role]) * 1e6 / max(operations, 1)
            for role in pids
        },
    )


def quantile(ordered: list[float], share: float) -> float:
    """Return the value below which a share of them lies; 0 if there are none."""
    if not ordered:
        return 0.0
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
