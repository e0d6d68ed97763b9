"""Measures a cluster that holds much: ``make bench-scale``.

A cluster of three is filled with keys of 256 bytes; then, while puts go on: a
checkpoint of all of it, a new empty member until it votes, and a follower that is
stopped and started again. Ratios are against the quiet cluster of the same run. Nothing
about time is asserted: it fails only if something does not work, or if a promise that
is no matter of speed is broken (an election while a member joined, a key lost).

Source: PERFORMANCE.md, the goals for checkpoints, snapshots and starts.
"""

from __future__ import annotations

import argparse
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
from raftclient.cluster import MemberRole, MemberStatus
from raftclient.members import MemberKind
from tests.bench.measure import quantile

_VALUE: Final = b"v" * 256
_OPS_PER_TXN: Final = 100
_FILLERS: Final = 24
_WRITERS: Final = 8
_QUIET_S: Final = 10.0
_DEADLINE_S: Final = 300.0
_LOOK_S: Final = 0.05
#: No checkpoint comes by itself: each is asked for, when it is measured.
_FLAGS: Final = (
    *("--checkpoint-interval-ms", "86400000"),
    *("--checkpoint-log-bytes", str(16 << 30)),
)


class ScaleFailed(Exception):
    """Something did not work, or a promise was broken."""


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
            await self.client.put(key, _VALUE)
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
                raise ScaleFailed(f"writer {task}: {count} puts, found {key}")


class _Scale:
    """One run over one cluster."""

    def __init__(self, nodes: Processes, client: aio.Client, keys: int) -> None:
        self._nodes = nodes
        self._client = client
        self._keys = keys
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
            raise ScaleFailed(f"{self._keys} keys were put, {found} are there")
        _say(f"all {self._keys} keys are there, every put was applied once")

    async def _fill(self) -> None:
        begin_s = time.perf_counter()
        starts = iter(range(0, self._keys, _OPS_PER_TXN))

        async def fill() -> None:
            for start in starts:
                end = min(start + _OPS_PER_TXN, self._keys)
                ops = [txn.put(f"k/{n:09}", _VALUE) for n in range(start, end)]
                await self._client.txn().then(*ops).commit(timeout_s=_DEADLINE_S)

        async with asyncio.TaskGroup() as group:
            for _ in range(_FILLERS):
                group.create_task(fill())
        _say(f"filled in {time.perf_counter() - begin_s:.1f} s")
        leader = await self._leader()
        _say(f"leader's memory {_rss_mib(self._pid(leader)):.0f} MiB")

    async def _measure_quiet(self) -> None:
        begin_s = time.perf_counter()
        await asyncio.sleep(_QUIET_S)
        self._quiet = self._writers.between(begin_s, time.perf_counter())
        _say(f"quiet: {_figures(self._quiet)}")

    async def _measure_checkpoint(self, what: str) -> None:
        begin_s = time.perf_counter()
        before = (await self._leader()).checkpoint_index
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
                raise ScaleFailed("the backup came to nothing")

    async def _all_checkpointed(self, before: int) -> bool:
        status = await self._client.status()
        return all(member.checkpoint_index > before for member in status.members)

    async def _measure_join(self) -> None:
        leader = await self._leader()
        base_mib, most_mib = _rss_mib(self._pid(leader)), 0.0
        begin_s = time.perf_counter()
        number = self._nodes.add()
        added = await self._client.cluster.add(
            f"n{number}", self._nodes.peer_address(number)
        )
        joining = added.node_id
        self._nodes.start_joining(number, joining)
        while True:
            await asyncio.sleep(_LOOK_S)
            most_mib = max(most_mib, _rss_mib(self._pid(leader)))
            states = {m.node_id: m for m in await self._client.cluster.members()}
            if states[joining].kind == MemberKind.VOTER:
                break
            if time.perf_counter() - begin_s > _DEADLINE_S:
                raise ScaleFailed("the new member never came to vote")
        took_s = time.perf_counter() - begin_s
        _say(
            f"empty member votes after {took_s:.1f} s; leader's memory"
            f" {base_mib:.0f} MiB, at most {most_mib - base_mib:+.0f} MiB"
        )
        self._compare("while it joined", begin_s)
        now = await self._leader()
        if now.term != leader.term:
            raise ScaleFailed(f"an election: term {leader.term} became {now.term}")

    async def _measure_restart(self) -> None:
        leader = await self._leader()
        node = next(n for n in (1, 2, 3) if n != leader.node_id)
        self._nodes.stop(node)
        begin_s = time.perf_counter()
        self._nodes.start(node)
        async with aio.connect(self._nodes.endpoint(node)) as alone:
            await alone.get("k/000000000", timeout_s=_DEADLINE_S)
        _say(f"restarted to serving in {time.perf_counter() - begin_s:.1f} s")

    # --- helpers --------------------------------------------------------------

    def _compare(self, what: str, begin_s: float) -> None:
        busy = self._writers.between(begin_s, time.perf_counter())
        ratio = quantile(busy, 0.99) / max(quantile(self._quiet, 0.99), 1e-9)
        _say(f"{what}: {_figures(busy)}, p99 {ratio:.2f} x quiet")

    def _pid(self, member: MemberStatus) -> int:
        return self._nodes.pid(member.node_id)

    async def _leader(self) -> MemberStatus:
        while True:
            status = await self._client.status()
            for member in status.members:
                if member.role is MemberRole.LEADER:
                    return member
            await asyncio.sleep(_LOOK_S)


def _figures(ordered: list[float]) -> str:
    p50, p99, most = (quantile(ordered, share) * 1000 for share in (0.5, 0.99, 1.0))
    return f"{len(ordered)} puts, p50 {p50:.2f}, p99 {p99:.2f}, max {most:.0f} ms"


def _rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ScaleFailed(f"process {pid} tells no memory")


def _say(what: str) -> None:
    print(what, flush=True)


async def _measure(keys: int) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="raftd-scale-") as folder,
        Processes(Path(folder), 3, _FLAGS) as nodes,
    ):
        async with aio.connect(nodes.endpoints) as client:
            await _Scale(nodes, client, keys).run()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.scale")
    parser.add_argument("--keys", type=int, default=1_000_000, metavar="N")
    options = parser.parse_args(arguments)
    try:
        uvloop.run(_measure(max(options.keys, 1)))
    except ScaleFailed as failed:
        print(f"error: {failed}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
