"""Runs one workload for a while: rate, latencies, processor time per process.

Rules: the loop is raftctl's own (``raftctl.bench_loop``), but here an error ends it.
Processor time is what the kernel booked for a process, so it holds on a busy machine
where rates do not.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from raftclient.errors import RaftError
from raftctl.bench_loop import drive
from raftctl.bench_workloads import Workload, WorkloadFailed
from tests.bench.peers.base import Run

__all__ = ["by_role", "measure", "quantile", "read_cpu_s"]

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


def read_cpu_s(pid: int) -> float:
    """Return the processor time that a process has used, all threads together."""
    # The name in parentheses may hold blanks; utime and stime are fields 14 and 15.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def by_role(pids: Mapping[int, int], leader: int) -> dict[str, int]:
    """Name the processes of a cluster by what they do.

    Args:
        pids: By member.
        leader: One of the members.
    """
    followers = [pid for member, pid in pids.items() if member != leader]
    named = {f"follower {number}": pid for number, pid in enumerate(followers, 1)}
    return {"leader": pids[leader], **named}


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
        WorkloadFailed: An operation was refused, or did something else than it should.
    """
    loop = asyncio.get_running_loop()
    latencies_s: list[float] = []
    cpu_s: list[dict[str, float]] = []

    def sample() -> None:
        cpu_s.append({role: read_cpu_s(pid) for role, pid in pids.items()})

    timers = [
        loop.call_later(warm_up_s, sample),
        loop.call_later(warm_up_s + measured_s, sample),
    ]
    try:
        load = await drive(
            workload,
            warm_up_s=warm_up_s,
            measured_s=measured_s,
            record=latencies_s.append,
        )
    except RaftError as error:
        raise WorkloadFailed(f"{workload.prefix}: {error}") from error
    finally:
        for timer in timers:
            timer.cancel()
    if load.errors:
        raise WorkloadFailed(f"{workload.prefix}: {load.told_errors()}")
    while len(cpu_s) < 2:  # all tasks ended before the loop came to its timers
        sample()
    latencies_s.sort()
    return Run(
        load.operations,
        load.operations / measured_s,
        quantile(latencies_s, 0.50) * 1e6,
        quantile(latencies_s, 0.99) * 1e6,
        {
            role: (cpu_s[1][role] - cpu_s[0][role]) * 1e6 / max(load.operations, 1)
            for role in pids
        },
    )


def quantile(ordered: list[float], share: float) -> float:
    """Return the value below which a share of them lies; 0 if there are none."""
    if not ordered:
        return 0.0
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
