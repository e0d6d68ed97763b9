"""What an operation costs a cluster that holds a thousand or a million of something.

Two clusters run side by side: one holds the least, one holds more. The same operations
run on each in turn, several times; a ratio is taken between the two runs of one turn,
which met the machine in the same mood. Processor time of the leader per operation, and
the median latency, both with 64 in flight.

Rules: neither cluster is idle for lack of a client, both are stopped by a signal while
the other is measured, and say in their logs that they stood still. Every run proves
what it did.

Source: PERFORMANCE.md (a million against a thousand <= 1.2x).
"""

from __future__ import annotations

import dataclasses
import signal
import statistics
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from raftclient import aio
from raftclient.aio import Client
from raftctl.bench_workloads import LockCycles, Puts, Workload
from tests.bench.fill import Kind
from tests.bench.fill_clients import idle_clients
from tests.bench.fill_cluster import (
    FilledCluster,
    await_in_sync,
    filled_cluster,
    leader_of,
    pids_of,
)
from tests.bench.growth_machine import name_of_size
from tests.bench.growth_workloads import (
    Done,
    FilledGets,
    FilledJobCycles,
    FilledPuts,
)
from tests.bench.measure import measure
from tests.bench.peers.base import Run
from tests.bench.sections import Say, SectionRow

__all__ = ["IN_CLUSTER", "WATCHES", "Pace", "measure_growth"]

IN_CLUSTER: Final = "growth, cluster"
_TASKS: Final = 64
WATCHES: Final = "watches"
_WATCHES_PER_CLIENT: Final = 500
_TIMEOUT_S: Final = 30.0
_RATIO_MAX: Final = 1.2
_GOAL_SIZE: Final = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Pace:
    """How long and how often.

    Attributes:
        turns: How often each operation runs on each cluster.
        warm_up_s: Before each measurement.
        measured_s: Of each measurement.
    """

    turns: int = 3
    warm_up_s: float = 0.5
    measured_s: float = 1.5


Make = Callable[[Client, str, int, Done], Workload]
_WITH_GOAL: Final = {(Kind.KEYS, "put"), (Kind.JOBS, "enqueue, reserve, complete")}


def _puts(client: Client, prefix: str, tasks: int, _so_far: Done) -> Workload:
    return Puts([client], prefix, tasks)


def _locks(client: Client, prefix: str, tasks: int, _so_far: Done) -> Workload:
    return LockCycles([client], prefix, tasks)


_OPERATIONS: Final[dict[str, tuple[tuple[str, Make], ...]]] = {
    Kind.KEYS: (("put", FilledPuts), ("get", FilledGets)),
    Kind.JOBS: (("enqueue, reserve, complete", FilledJobCycles),),
    Kind.SCHEDULED: (("put", _puts),),
    Kind.SESSIONS: (("put", _puts), ("lock and unlock", _locks)),
    Kind.WAITERS: (("put", _puts), ("lock and unlock", _locks)),
    Kind.LINE: (("lock and unlock", _locks),),
    WATCHES: (("put", _puts),),
}


class _Side:
    """One of the two clusters."""

    def __init__(self, cluster: FilledCluster, client: Client, size: int) -> None:
        self.nodes: Final = cluster.nodes
        self.client: Final = client
        self.so_far: Final = Done(size)
        self.runs = 0

    def signal(self, number: signal.Signals) -> None:
        for node_id in self.nodes.running:
            self.nodes.signal(node_id, number)

    async def run(self, make: Make, tasks: int, pace: Pace) -> Run:
        self.signal(signal.SIGCONT)
        await self.client.put("woken", b"", timeout_s=_TIMEOUT_S)
        await await_in_sync(self.client)
        leader = await leader_of(self.client)
        self.runs += 1
        prefix = f"growth/{self.runs}"
        workload = make(self.client, prefix, tasks, self.so_far)
        await workload.prepare()
        run = await measure(
            workload,
            pids_of(self.nodes, leader.node_id),
            warm_up_s=pace.warm_up_s,
            measured_s=pace.measured_s,
        )
        await workload.verify(self.client)
        self.signal(signal.SIGSTOP)
        return run


@asynccontextmanager
async def _side(kind: str, size: int) -> AsyncIterator[_Side]:
    counts = {} if kind == WATCHES else {Kind(kind): size}
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(filled_cluster(counts))
        endpoints = cluster.nodes.endpoints
        if kind == WATCHES:
            clients = -(-size // _WATCHES_PER_CLIENT)
            watchers = idle_clients(endpoints, clients, size // clients)
            await stack.enter_async_context(watchers)
        client = aio.connect(endpoints, ttl_s=600, timeout_s=_TIMEOUT_S)
        side = _Side(cluster, await stack.enter_async_context(client), size)
        try:
            yield side
        except Exception as error:
            error.add_note(
                f"The nodes with {size} {kind} stood still, and elected anew, whenever"
                " they were stopped by a signal: while others were measured."
            )
            raise
        finally:
            side.signal(signal.SIGCONT)


async def measure_growth(
    kind: str, sizes: Sequence[int], pace: Pace, say: Say
) -> list[SectionRow]:
    """Compare each size with the first, side by side.

    Returns:
        A row for each operation and size above the first.
    """
    rows = []
    async with _side(kind, sizes[0]) as least:
        least.signal(signal.SIGSTOP)
        for size in sizes[1:]:
            say(f"cluster: {name_of_size(size)} {kind}")
            least.signal(signal.SIGCONT)
            async with _side(kind, size) as more:
                more.signal(signal.SIGSTOP)
                rows += await _compare(kind, (least, more), pace)
    return rows


async def _compare(
    kind: str, sides: tuple[_Side, _Side], pace: Pace
) -> list[SectionRow]:
    rows = []
    for name, make in _OPERATIONS[kind]:
        pairs = []
        for _ in range(pace.turns):
            first, second = [await side.run(make, _TASKS, pace) for side in sides]
            pairs.append((first, second))
        rows.append(_row(kind, name, sides, pairs))
    return rows


def _row(
    kind: str, name: str, sides: tuple[_Side, _Side], pairs: list[tuple[Run, Run]]
) -> SectionRow:
    ratios = [_leader_us(more) / _leader_us(least) for least, more in pairs]
    slower = [more.p50_us / least.p50_us for least, more in pairs]
    size = sides[1].so_far.size
    ratio = statistics.median(ratios)
    has_goal = size >= _GOAL_SIZE and (kind, name) in _WITH_GOAL
    return SectionRow(
        IN_CLUSTER,
        f"{name_of_size(size)} {kind}: {name}",
        {
            f"{name_of_size(sides[0].so_far.size)} us": statistics.median(
                _leader_us(least) for least, _ in pairs
            ),
            "us": statistics.median(_leader_us(more) for _, more in pairs),
            "ratio": ratio,
            "min": min(ratios),
            "max": max(ratios),
            "p50 ms": statistics.median(more.p50_us for _, more in pairs) / 1000,
            "p50 ratio": statistics.median(slower),
        },
        goal=f"<= {_RATIO_MAX}x" if has_goal else "",
        is_met=ratio <= _RATIO_MAX if has_goal else None,
        samples={"ratio": ratios, "p50 ratio": slower},
    )


def _leader_us(run: Run) -> float:
    return run.cpu_us["leader"]
