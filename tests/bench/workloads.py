"""What is measured: each workload loads a cluster, counts, and proves its count.

Rules: every operation goes through ``raftclient.aio`` as an application's would, one
client for all tasks unless the name says otherwise; ``step`` is one operation, started
only when the task's last one has ended, so "64 in flight" means 64 tasks. After the
measurement ``verify`` compares what the cluster holds with what was acknowledged: a
number that is fast and wrong is no number.

Source: PERFORMANCE.md, the table of goals.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from typing import Final

from raftclient.aio import Client, Grant, Lock, Queue
from raftclient.errors import NotFound
from tests.bench.peers.base import HOLD_S

__all__ = [
    "WORKLOADS",
    "Connect",
    "Gets",
    "HandOvers",
    "Increments",
    "JobCycles",
    "JobCyclesApart",
    "LockCycles",
    "Puts",
    "Spec",
    "Workload",
    "WorkloadFailed",
]

VALUE: Final = b"v" * 256
_KEYS_PER_TASK: Final = 16
_HEIRS: Final = 2

Connect = Callable[[], Client]
"""Makes one client more, with a connection and a session of its own."""


class WorkloadFailed(Exception):
    """The cluster does not hold what it acknowledged."""


class Workload(ABC):
    """One kind of operation, run by many tasks of one client."""

    def __init__(
        self, client: Client, prefix: str, tasks: int, connect: Connect | None = None
    ) -> None:
        """Choose names of its own; ``prepare`` comes before the first ``step``.

        Args:
            client: Shared by all tasks.
            prefix: Of every name it uses; no other run has the same.
            tasks: How many tasks there will be.
            connect: For those whose tasks have clients of their own.
        """
        self.client: Final = client
        self.prefix: Final = prefix
        self.tasks: Final = tasks
        self._connect: Final = connect
        self._others: Final[list[Client]] = []
        self.done: Final = [0] * tasks
        """Operations that ended, by task; counted by the caller of ``step``."""

    async def prepare(self) -> None:  # noqa: B027  # most need no preparation
        """Make what the operations need."""

    @abstractmethod
    async def step(self, task: int) -> float | None:
        """Do one operation.

        Returns:
            The seconds that count, where they are not all of them.
        """

    @abstractmethod
    async def verify(self) -> None:
        """Compare the cluster with what was acknowledged.

        Raises:
            WorkloadFailed: They differ.
        """

    def another_client(self) -> Client:
        """Connect a client more; ``close`` closes it."""
        assert self._connect is not None, "made with a way to connect"
        self._others.append(self._connect())
        return self._others[-1]

    async def close(self) -> None:
        """Close the clients that it made itself; may be called twice."""
        others, self._others[:] = list(self._others), []
        await asyncio.gather(*(client.close() for client in others))

    def check(self, what: str, found: object, expected: object) -> None:
        """Fail unless two values are equal."""
        if found != expected:
            raise WorkloadFailed(
                f"{self.prefix}: {what}: found {found!r}, expected {expected!r}"
            )


class Puts(Workload):
    """Puts of 256 bytes; each task writes a few keys of its own in turn."""

    async def step(self, task: int) -> None:
        number = self.done[task] % _KEYS_PER_TASK
        await self.client.put(f"{self.prefix}/{task}/{number}", VALUE)

    async def verify(self) -> None:
        """A key's version counts its puts, so each was applied exactly once."""
        expected = {
            f"{self.prefix}/{task}/{number}".encode(): count
            for task, done in enumerate(self.done)
            for number, count in Counter(
                n % _KEYS_PER_TASK for n in range(done)
            ).items()
        }
        found = {}
        async for key in self.client.range(prefix=f"{self.prefix}/"):
            found[key.key] = key.version
            self.check(f"value of {key.key!r}", key.value, VALUE)
        self.check("versions", found, expected)


class Gets(Workload):
    """Linearizable gets of keys of 256 bytes."""

    async def prepare(self) -> None:
        async with asyncio.TaskGroup() as group:
            for task in range(self.tasks):
                group.create_task(self._write(task))

    async def _write(self, task: int) -> None:
        await self.client.put(f"{self.prefix}/{task}", VALUE)

    async def step(self, task: int) -> None:
        found = await self.client.get(f"{self.prefix}/{task}")
        if found is None or found.value != VALUE:
            raise WorkloadFailed(f"{self.prefix}/{task} was not read as written")

    async def verify(self) -> None:
        """Every answer was checked; reading changed nothing."""
        keys = self.client.range(prefix=f"{self.prefix}/")
        versions = [key.version async for key in keys]
        self.check("versions", versions, [1] * self.tasks)


class Increments(Workload):
    """Increments of one key by all tasks."""

    async def step(self, task: int) -> None:
        await self.client.incr(self.prefix)

    async def verify(self) -> None:
        """The key's value is the number of increments."""
        sum_now = await self.client.incr(self.prefix, 0)
        self.check("sum", sum_now, sum(self.done))


class LockCycles(Workload):
    """Acquire and release; each task has a lock of its own."""

    async def prepare(self) -> None:
        self._locks: list[Lock] = [
            self.client.lock(f"{self.prefix}/{task}") for task in range(self.tasks)
        ]
        self._tokens = [0] * self.tasks

    async def step(self, task: int) -> None:
        async with self._locks[task] as grant:
            if grant.token <= self._tokens[task]:
                raise WorkloadFailed(f"{self.prefix}/{task}: the token did not grow")
            self._tokens[task] = grant.token

    async def verify(self) -> None:
        """Tokens grew with each cycle; no lock is left held."""
        held = [
            lock.name
            async for lock in self.client.locks(prefix=f"{self.prefix}/")
            if lock.holders or lock.waiters
        ]
        self.check("locks still held", held, [])


class HandOvers(Workload):
    """One lock, two clients with sessions of their own: one releases, one waits.

    What counts is the time from the call of release to the other's acquire returning.
    The cluster has the other as a waiter before the lock is held for ``HOLD_S``.
    """

    def __init__(
        self, client: Client, prefix: str, tasks: int, connect: Connect | None = None
    ) -> None:
        """See ``Workload``; the two clients take turns in one task."""
        assert tasks == _HEIRS, "one has the lock, and one waits"
        super().__init__(client, prefix, 1, connect)

    async def prepare(self) -> None:
        self._locks = [self.another_client().lock(self.prefix) for _ in range(_HEIRS)]
        self._holder = 0
        self._grant: Grant = await self._locks[0].acquire()

    async def step(self, task: int) -> float:
        grant, heir = self._grant, 1 - self._holder
        acquiring = asyncio.ensure_future(self._locks[heir].acquire())
        await self._see_waiting(heir)
        done, _ = await asyncio.wait([acquiring], timeout=HOLD_S)
        if done:
            raise WorkloadFailed(f"{self.prefix}: two hold the lock")
        began_s = time.perf_counter()
        releasing = asyncio.ensure_future(grant.release())
        self._grant = await acquiring
        took_s = time.perf_counter() - began_s
        await releasing
        self._holder = heir
        if self._grant.token <= grant.token:
            raise WorkloadFailed(f"{self.prefix}: the token did not grow")
        return took_s

    async def _see_waiting(self, heir: int) -> None:
        while True:
            info = await self.client.lock_info(self.prefix)
            if [waiter.claimant for waiter in info.waiters] == [
                self._locks[heir].claimant
            ]:
                return

    async def verify(self) -> None:
        """The last to get it holds it; given back, nobody does."""
        info = await self.client.lock_info(self.prefix)
        tokens = [holder.token for holder in info.holders]
        self.check("holders", tokens, [self._grant.token])
        await self._grant.release()
        try:
            info = await self.client.lock_info(self.prefix)
        except NotFound:
            return
        self.check("left", (info.holders, info.waiters), ((), ()))


class JobCycles(Workload):
    """Enqueue, reserve and complete, one job per call, all tasks on one queue."""

    async def prepare(self) -> None:
        self._queues = [self.queue_of(task) for task in range(self.tasks)]
        self._enqueued: Counter[int] = Counter()
        self._completed: Counter[int] = Counter()

    def queue_of(self, task: int) -> Queue:
        """Return the handle that a task uses."""
        assert task < self.tasks
        return self.client.queue(self._queue_name)

    @property
    def _queue_name(self) -> str:
        return self.prefix.replace("/", "-")

    async def step(self, task: int) -> None:
        queue = self._queues[task]
        job = await queue.enqueue(VALUE)
        self._enqueued[job.job_id] += 1
        (reserved,) = await queue.reserve()
        await reserved.complete()
        self._completed[reserved.job_id] += 1

    async def verify(self) -> None:
        """Every job was completed once, and the queue has seen no other."""
        self.check("completed jobs", self._completed, self._enqueued)
        stats = await self.client.queue(self._queue_name).stats()
        total = sum(self.done)
        self.check("enqueued", stats.enqueued_total, total)
        self.check("completed", stats.completed_total, total)
        self.check("left", (stats.ready, stats.reserved, stats.dead), (0, 0, 0))


class JobCyclesApart(JobCycles):
    """The same, and each task has a client, a connection and a session of its own."""

    def queue_of(self, task: int) -> Queue:
        """Return a handle of a client that no other task uses."""
        assert task < self.tasks
        return self.another_client().queue(self._queue_name)


@dataclasses.dataclass(frozen=True, slots=True)
class Spec:
    """A row of the table.

    Attributes:
        name: Of the row.
        tasks: Operations in flight.
        make: Makes the workload.
    """

    name: str
    tasks: int
    make: Callable[[Client, str, int, Connect], Workload]


WORKLOADS: Final = (
    Spec("put-1", 1, Puts),
    Spec("put-64", 64, Puts),
    Spec("put-1000", 1000, Puts),
    Spec("get-64", 64, Gets),
    Spec("get-1000", 1000, Gets),
    Spec("incr-64", 64, Increments),
    Spec("lock-64", 64, LockCycles),
    Spec("handover", _HEIRS, HandOvers),
    Spec("job-64", 64, JobCycles),
    Spec("job-64-connections", 64, JobCyclesApart),
)
