"""Measures a cluster that holds much: ``make bench-scale``.

A cluster of three is filled by clients with keys of 256 bytes; then, while puts go on:
a checkpoint of all of it, a new empty member until it votes, and a follower that is
stopped and started again. Ratios are against the quiet cluster of the same run. Nothing
about time is asserted: it fails only if something does not work, or if a promise that
is no matter of speed is broken (an election while a member joined, a key lost).

The keys come from clients and not from ``fill_files``: a checkpoint writes what has
changed since the last one, and here that must be everything.

Source: PERFORMANCE.md, the goals for checkpoints, snapshots and starts.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import uvloop

from cluster.processes import Processes
from raftclient import aio, txn
from raftclient.cluster import MemberStatus
from raftclient.members import MemberKind
from raftctl.bench_workloads import VALUE, WorkloadFailed
from tests.bench.arguments import Parser, count_up_to, file_to_write
from tests.bench.fill import key_of
from tests.bench.fill_cluster import leader_of, resident_bytes
from tests.bench.measure import quantile
from tests.bench.programs import run_program
from tests.bench.sections import Keep, Say, SectionRow, forget

__all__ = ["Plan", "main", "run"]

_SECTION: Final = "scale"
_KEYS_MAX: Final = 10_000_000
_MIB: Final = 1 << 20
_P99_MAX: Final = 3.0
_START_S_MAX: Final = 15.0
_OPS_PER_TXN: Final = 100
_FILLERS: Final = 24
_WRITERS: Final = 8
_DEADLINE_S: Final = 300.0
_LOOK_S: Final = 0.05
#: No checkpoint comes by itself: each is asked for, when it is measured.
_FLAGS: Final = (
    *("--checkpoint-interval-ms", "86400000"),
    *("--checkpoint-log-bytes", str(16 << 30)),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How much.

    Attributes:
        keys: In the cluster.
        quiet_s: How long writes are measured with nothing else going on.
    """

    keys: int = 1_000_000
    quiet_s: float = 10.0


@dataclasses.dataclass(slots=True)
class _Writers:
    """Puts that go on all the time, each with the moment it ended and how long."""

    client: aio.Client
    done: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    counts: list[int] = dataclasses.field(default_factory=lambda: [0] * _WRITERS)

    async def run(self, task: int) -> None:
        key = f"writer/{task}"
        while True:
            began_s = time.perf_counter()
            await self.client.put(key, VALUE)
            ended_s = time.perf_counter()
            self.counts[task] += 1
            self.done.append((ended_s, ended_s - began_s))

    def between(self, begin_s: float, end_s: float) -> list[float]:
        """Return the latencies of what ended in this time, smallest first."""
        return sorted(took for ended, took in self.done if begin_s <= ended < end_s)

    async def verify(self) -> None:
        """See that each writer's key was put exactly as often as was acknowledged."""
        for task, count in enumerate(self.counts):
            key = await self.client.get(f"writer/{task}")
            # One more may have been under way when the writers were stopped.
            if key is None or key.version not in (count, count + 1):
                raise WorkloadFailed(f"writer {task}: {count} puts, found {key}")


class _Scale:
    """One run over one cluster."""

    def __init__(
        self, nodes: Processes, client: aio.Client, plan: Plan, say: Say, keep: Keep
    ) -> None:
        self._nodes = nodes
        self._client = client
        self._keys = plan.keys
        self._quiet_s = plan.quiet_s
        self._say = say
        self._keep = keep
        self.rows: list[SectionRow] = []
        self._writers = _Writers(client)
        self._quiet: list[float] = []

    async def run(self) -> None:
        await self._fill()
        tasks = [asyncio.create_task(self._writers.run(n)) for n in range(_WRITERS)]
        try:
            await self._measure_quiet()
            await self._measure_checkpoint("checkpoint of all keys")
            await self._measure_join()
            await self._measure_restart()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._writers.verify()
        found = await self._client.count(prefix="k/")
        if found != self._keys:
            raise WorkloadFailed(f"{self._keys} keys were put, {found} are there")
        self._say(f"all {self._keys} keys are there, every put was applied once")

    async def _fill(self) -> None:
        begin_s = time.perf_counter()
        starts = iter(range(0, self._keys, _OPS_PER_TXN))

        async def fill() -> None:
            for start in starts:
                end = min(start + _OPS_PER_TXN, self._keys)
                ops = [txn.put(key_of(n), VALUE) for n in range(start, end)]
                await self._client.txn().then(*ops).commit(timeout_s=_DEADLINE_S)

        async with asyncio.TaskGroup() as group:
            for _ in range(_FILLERS):
                group.create_task(fill())
        took_s = time.perf_counter() - begin_s
        memory_mib = self._memory_mib(await leader_of(self._client))
        self._tell("filled by clients", {"s": took_s, "leader MiB": memory_mib})

    async def _measure_quiet(self) -> None:
        begin_s = time.perf_counter()
        await asyncio.sleep(self._quiet_s)
        self._quiet = self._writers.between(begin_s, time.perf_counter())
        self._tell("quiet", _figures(self._quiet))

    async def _measure_checkpoint(self, what: str) -> None:
        begin_s = time.perf_counter()
        before = (await leader_of(self._client)).checkpoint_index
        with tempfile.TemporaryDirectory() as folder:
            # A process of its own, as it takes in the whole state at the end.
            backup = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "raftctl.main", "backup", "save"),
                *("--endpoints", self._nodes.endpoints, f"{folder}/backup"),
                stdout=asyncio.subprocess.DEVNULL,
            )
            while True:
                if await self._all_checkpointed(before):
                    break
                await asyncio.sleep(_LOOK_S)
            self._compare(what, begin_s)
            if await backup.wait():
                raise WorkloadFailed("the backup came to nothing")

    async def _all_checkpointed(self, before: int) -> bool:
        status = await self._client.status()
        return all(member.checkpoint_index > before for member in status.members)

    async def _measure_join(self) -> None:
        leader = await leader_of(self._client)
        base_mib, most_mib = self._memory_mib(leader), 0.0
        begin_s = time.perf_counter()
        number = self._nodes.add()
        added = await self._client.cluster.add(
            f"n{number}", self._nodes.peer_address(number)
        )
        joining = added.node_id
        self._nodes.start_joining(number, joining)
        while True:
            await asyncio.sleep(_LOOK_S)
            most_mib = max(most_mib, self._memory_mib(leader))
            states = {m.node_id: m for m in await self._client.cluster.members()}
            if states[joining].kind == MemberKind.VOTER:
                break
            if time.perf_counter() - begin_s > _DEADLINE_S:
                raise WorkloadFailed("the new member never came to vote")
        took_s = time.perf_counter() - begin_s
        grown_mib = {"s": took_s, "leader MiB more": most_mib - base_mib}
        self._compare("an empty member joins until it votes", begin_s, grown_mib)
        now = await leader_of(self._client)
        if now.term != leader.term:
            raise WorkloadFailed(f"an election: term {leader.term} became {now.term}")

    async def _measure_restart(self) -> None:
        leader = await leader_of(self._client)
        node = next(n for n in (1, 2, 3) if n != leader.node_id)
        self._nodes.stop(node)
        begin_s = time.perf_counter()
        self._nodes.start(node)
        async with aio.connect(self._nodes.endpoint(node)) as alone:
            await alone.get("k/000000000", timeout_s=_DEADLINE_S)
        took_s = time.perf_counter() - begin_s
        is_met = took_s <= _START_S_MAX
        goal = f"<= {_START_S_MAX:g} s"
        self._tell("restart to serving", {"s": took_s}, goal, is_met=is_met)

    # --- helpers --------------------------------------------------------------

    def _compare(
        self, what: str, begin_s: float, more: dict[str, float] | None = None
    ) -> None:
        busy = self._writers.between(begin_s, time.perf_counter())
        ratio = quantile(busy, 0.99) / max(quantile(self._quiet, 0.99), 1e-9)
        figures = _figures(busy) | {"p99 / quiet": ratio} | (more or {})
        self._tell(what, figures, f"<= {_P99_MAX:g}x", is_met=ratio <= _P99_MAX)

    def _tell(
        self,
        name: str,
        figures: dict[str, float],
        goal: str = "",
        *,
        is_met: bool | None = None,
    ) -> None:
        row = SectionRow(_SECTION, name, figures, goal=goal, is_met=is_met)
        self.rows.append(row)
        self._keep(self.rows)
        told = ", ".join(f"{figure} {value:,.2f}" for figure, value in figures.items())
        self._say(f"{name}: {told}")

    def _memory_mib(self, member: MemberStatus) -> float:
        return resident_bytes(self._nodes.pid(member.node_id)) / _MIB


def _figures(ordered: list[float]) -> dict[str, float]:
    p50, p99, most = (quantile(ordered, share) * 1000 for share in (0.5, 0.99, 1.0))
    return {"puts": len(ordered), "p50 ms": p50, "p99 ms": p99, "max ms": most}


async def run(plan: Plan, say: Say, keep: Keep = forget) -> list[SectionRow]:
    """Measure; returns a row for each thing that went on.

    Raises:
        WorkloadFailed: Something did not work, or a promise was broken.
    """
    with (
        tempfile.TemporaryDirectory(prefix="raftd-scale-") as folder,
        Processes(Path(folder), 3, _FLAGS) as nodes,
    ):
        async with aio.connect(nodes.endpoints) as client:
            scale = _Scale(nodes, client, plan, say, keep)
            await scale.run()
            return scale.rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; returns the exit code."""
    parser = Parser("scale", "Measures a cluster that holds much.")
    add = parser.add_argument
    add("--keys", type=count_up_to(_KEYS_MAX), default=Plan().keys, metavar="N")
    add("--json", type=file_to_write, metavar="FILE", help="write every row there, too")
    options = parser.parse_args(arguments)
    plan = Plan(options.keys)
    return run_program(lambda say, keep: uvloop.run(run(plan, say, keep)), options.json)


if __name__ == "__main__":
    sys.exit(main())
