"""A cluster of real processes that holds much from its first moment on.

Source: PERFORMANCE.md (start with 1 M rows to serving; memory per thing).
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from cluster.processes import Processes
from raftclient import aio
from raftclient.cluster import MemberStatus
from raftctl.bench_workloads import WorkloadFailed
from tests.bench.fill import Kind
from tests.bench.fill_files import Filled, fill_directories
from tests.bench.measure import by_role

__all__ = [
    "FilledCluster",
    "await_in_sync",
    "filled_cluster",
    "leader_of",
    "pids_of",
    "resident_bytes",
]

START_S: Final = 120.0
_LOOK_S: Final = 0.05


@dataclasses.dataclass(frozen=True, slots=True)
class FilledCluster:
    """A cluster that serves.

    Attributes:
        filled: What it began with.
        start_s: From the start of its processes until every member has answered a
            linearizable read.
    """

    nodes: Processes
    filled: Filled
    start_s: float


@asynccontextmanager
async def filled_cluster(
    counts: Mapping[Kind, int], flags: Sequence[str] = ()
) -> AsyncIterator[FilledCluster]:
    """Three nodes that hold so much; gone with their data afterwards."""
    with tempfile.TemporaryDirectory(prefix="raftd-bench-") as folder:
        nodes = Processes(Path(folder), flags=flags)
        filled = await fill_directories(nodes, dict(counts))
        try:
            began_s = time.perf_counter()
            nodes.start()
            await asyncio.gather(*(_served(nodes, n) for n in nodes.ids))
            took_s = time.perf_counter() - began_s
            yield FilledCluster(nodes, filled, took_s)
        except Exception as error:
            for node_id in nodes.ids:
                log = nodes.log(node_id)[-2000:]
                error.add_note(f"node {node_id} of those with {_told(counts)}:\n{log}")
            raise
        finally:
            await asyncio.to_thread(nodes.stop)


def _told(counts: Mapping[Kind, int]) -> str:
    found = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    return found or "nothing"


async def _served(nodes: Processes, node_id: int) -> None:
    async with aio.connect(nodes.endpoint(node_id)) as client:
        await client.count(prefix="k/", timeout_s=START_S)


async def leader_of(client: aio.Client) -> MemberStatus:
    """Wait until somebody leads; returns who."""
    while True:
        status = await client.status(timeout_s=START_S)
        for member in status.members:
            if member.is_reachable and member.node_id == status.leader:
                return member
        await asyncio.sleep(_LOOK_S)


async def await_in_sync(client: aio.Client, size: int = 3) -> None:
    """Wait until all members answer, follow one leader and have applied its log.

    Raises:
        WorkloadFailed: They do not come to it.
    """
    end_s = time.perf_counter() + START_S
    while time.perf_counter() < end_s:
        status = await client.status(timeout_s=START_S)
        found = [member for member in status.members if member.is_reachable]
        terms = {member.term for member in found}
        leader = next((m for m in found if m.node_id == status.leader), None)
        if len(found) == size and len(terms) == 1 and leader is not None:
            behind = leader.commit_index - min(member.applied_index for member in found)
            if behind <= 0:
                return
        await asyncio.sleep(_LOOK_S)
    raise WorkloadFailed(f"the members were not in sync within {START_S:g} s")


def pids_of(nodes: Processes, leader: int) -> dict[str, int]:
    """Name the processes, and this one, by what they do."""
    pids = {node_id: nodes.pid(node_id) for node_id in nodes.ids}
    return {"client": os.getpid(), **by_role(pids, leader)}


def resident_bytes(pid: int) -> int:
    """Return what a process has in memory, its share of what is shared (PSS)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} tells no memory")
