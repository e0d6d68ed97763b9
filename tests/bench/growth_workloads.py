"""Operations of clients on a cluster that holds much, each proved afterwards.

Rules: as in ``workloads``; the operations go to what the cluster began with, spread
over all of it, and leave as many things as they found.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Final

from raftclient.aio import Client
from raftctl.bench_workloads import VALUE, Workload, WorkloadFailed
from tests.bench.fill import QUEUE, key_of, scattered

__all__ = ["Done", "FilledGets", "FilledJobCycles", "FilledPuts"]


@dataclasses.dataclass(slots=True)
class Done:
    """What was done to one cluster since it was filled, by all runs together.

    Attributes:
        size: How many things it began with.
        puts: By number of the key.
        jobs: That were enqueued and completed.
    """

    size: int
    puts: Counter[int] = dataclasses.field(default_factory=Counter)
    jobs: int = 0


class _OnFilled(Workload):
    def __init__(self, client: Client, prefix: str, tasks: int, so_far: Done) -> None:
        super().__init__([client], prefix, tasks)
        self.client: Final = client
        self.so_far: Final = so_far

    def number(self, task: int, turn: int | None = None) -> int:
        """Return the number of the thing of a task's turn; None = the next."""
        at = self.done[task] if turn is None else turn
        return scattered(at * self.tasks + task, self.so_far.size)


class FilledPuts(_OnFilled):
    """Puts of keys that are there."""

    async def step(self, task: int) -> None:
        number = self.number(task)
        await self.client.put(key_of(number), VALUE)
        self.so_far.puts[number] += 1

    async def verify(self, client: Client) -> None:
        """Versions count the puts, on each task's first key; no key came or went."""
        for number in [self.number(task, 0) for task in range(self.tasks)]:
            key = await client.get(key_of(number))
            found = None if key is None else key.version
            expected = 1 + self.so_far.puts[number]
            self.check(f"version of {number}", found, expected)
        self.check("keys", await client.count(prefix="k/"), self.so_far.size)


class FilledGets(_OnFilled):
    """Linearizable gets of keys that are there."""

    async def step(self, task: int) -> None:
        found = await self.client.get(key_of(self.number(task)))
        if found is None or found.value != VALUE:
            raise WorkloadFailed(f"{key_of(self.number(task))!r} was not read")

    async def verify(self, client: Client) -> None:
        """Every answer was checked; reading changed nothing."""
        self.check("keys", await client.count(prefix="k/"), self.so_far.size)


class FilledJobCycles(_OnFilled):
    """Enqueue one, reserve the oldest, complete it; as many wait as before."""

    async def prepare(self) -> None:
        self._queue = self.client.queue(QUEUE)

    async def step(self, task: int) -> None:
        await self._queue.enqueue(VALUE)
        (job,) = await self._queue.reserve()
        if job.payload != VALUE:
            raise WorkloadFailed(f"job {job.job_id} is not as it was enqueued")
        await job.complete()
        self.so_far.jobs += 1

    async def verify(self, client: Client) -> None:
        """Every job of this run was completed; those of the fill still wait."""
        stats = await self._queue.stats()
        so_far = self.so_far
        self.check("ready", stats.ready, so_far.size)
        self.check("completed", stats.completed_total, so_far.jobs)
        self.check("enqueued", stats.enqueued_total, so_far.size + so_far.jobs)
        self.check("left", (stats.reserved, stats.dead), (0, 0))
