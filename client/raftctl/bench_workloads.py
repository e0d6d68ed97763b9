"""What can be measured: each workload loads a cluster, counts, and proves its count.

Rules: every operation goes through ``raftclient.aio`` as an application's would;
``step`` is one operation, begun only when the task's last one has ended, so "64 in
flight" means 64 tasks. Names are few and used again and again, so that a long run
fills nothing. Afterwards ``verify`` compares what the cluster holds with what was
acknowledged: a number that is fast and wrong is no number. A write that was not
answered may have been applied, once at most; the proof allows for just that.

Source: PERFORMANCE.md, the table of goals; SEMANTICS.md section 1 (numbers).
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from raftclient import RaftError, Unavailable
from raftclient.aio import Client

__all__ = [
    "KEYS_PER_TASK",
    "VALUE",
    "WORKLOADS",
    "Gets",
    "Increments",
    "JobCycles",
    "LockCycles",
    "Puts",
    "Workload",
    "WorkloadFailed",
]

VALUE: Final = b"v" * 256
KEYS_PER_TASK: Final = 16
_RESERVE_WAIT_S: Final = 5.0
_LOOK_S: Final = 30.0
"""How long each question of a proof is tried: longer than an election takes."""


class WorkloadFailed(Exception):
    """The cluster does not hold what it acknowledged."""


class Workload(ABC):
    """One kind of operation, run by many tasks."""

    def __init__(
        self, clients: Sequence[Client], prefix: str, tasks: int, value: bytes = VALUE
    ) -> None:
        """Choose names of its own; ``prepare`` comes before the first ``step``.

        Args:
            clients: The tasks are dealt out to them in turn.
            prefix: Of every name it uses; no other run has the same.
            tasks: How many tasks there will be.
            value: What is written, where something is.
        """
        self.prefix: Final = prefix
        self.tasks: Final = tasks
        self.value: Final = value
        self.clients: Final = [clients[task % len(clients)] for task in range(tasks)]
        """The client of each task."""
        self.done: Final = [0] * tasks
        """Operations that ended well, by task; counted by the caller of ``step``."""
        self.unsure: Final = [0] * tasks
        """Those that may have been applied, and were not answered."""

    async def prepare(self) -> None:  # noqa: B027  # most need no preparation
        """Make what the operations need."""

    @abstractmethod
    async def step(self, task: int) -> float | None:
        """Do one operation.

        Returns:
            The seconds that count, where they are not all of them.
        """

    def failed(self, task: int, error: RaftError) -> None:
        """Take note that a step ended with an error; told by the caller of ``step``."""
        if error.applied != "no":
            self.unsure[task] += 1

    @abstractmethod
    async def verify(self, client: Client) -> None:
        """Compare the cluster with what was acknowledged, as one client sees it.

        Raises:
            WorkloadFailed: They differ.
        """

    def check(self, what: str, found: object, expected: object) -> None:
        """Fail unless two values are equal."""
        if found != expected:
            raise WorkloadFailed(
                f"{self.prefix}: {what}: found {found!r}, expected {expected!r}"
            )

    def check_count(self, what: str, found: int, acknowledged: int) -> None:
        """Fail unless a count is what was acknowledged, or more by what is unsure."""
        most = acknowledged + sum(self.unsure)
        if not acknowledged <= found <= most:
            expected = f"{acknowledged}" + (f" to {most}" if sum(self.unsure) else "")
            raise WorkloadFailed(
                f"{self.prefix}: {what}: found {found}, expected {expected}"
            )


class Puts(Workload):
    """Puts; each task writes a few keys of its own in turn."""

    def _key(self, task: int, number: int) -> str:
        return f"{self.prefix}/{task}/{number}"

    async def step(self, task: int) -> None:
        """Write the task's next key."""
        number = self.done[task] % KEYS_PER_TASK
        await self.clients[task].put(self._key(task, number), self.value)

    async def verify(self, client: Client) -> None:
        """A key's version counts its puts: each was applied exactly once."""
        found: Counter[bytes] = Counter()
        keys = client.range(prefix=f"{self.prefix}/", timeout_s=_LOOK_S)
        async for key in keys:
            found[key.key] = key.version
            self.check(f"the value of {key.key!r}", key.value, self.value)
        for task in range(self.tasks):
            self._verify_task(task, found)
        self.check("keys that nobody wrote", sorted(found), [])

    def _verify_task(self, task: int, found: Counter[bytes]) -> None:
        """Compare a task's keys, and take them out of what was found."""
        rounds, rest = divmod(self.done[task], KEYS_PER_TASK)
        surplus = 0
        for number in range(KEYS_PER_TASK):
            key = self._key(task, number).encode()
            acknowledged = rounds + (number < rest)
            puts = found.pop(key, 0)
            surplus += puts - acknowledged
            if puts < acknowledged or surplus > self.unsure[task]:
                raise WorkloadFailed(
                    f"{self.prefix}: puts of {key!r}: found {puts},"
                    f" acknowledged {acknowledged}"
                )


class Gets(Workload):
    """Linearizable gets; each task reads a key of its own."""

    async def prepare(self) -> None:
        """Write a key for each task."""
        async with asyncio.TaskGroup() as group:
            for task in range(self.tasks):
                group.create_task(self._write(task))

    async def _write(self, task: int) -> None:
        await self.clients[task].put(
            f"{self.prefix}/{task}", self.value, timeout_s=_LOOK_S
        )

    async def step(self, task: int) -> None:
        """Read the task's key, and look at its value."""
        found = await self.clients[task].get(f"{self.prefix}/{task}")
        if found is None or found.value != self.value:
            raise WorkloadFailed(f"{self.prefix}/{task} was not read as written")

    async def verify(self, client: Client) -> None:
        """Every answer was checked; reading changed nothing."""
        keys = client.range(prefix=f"{self.prefix}/", timeout_s=_LOOK_S)
        versions = [key.version async for key in keys]
        self.check("versions", versions, [1] * self.tasks)


class Increments(Workload):
    """Increments of one key by all tasks."""

    async def step(self, task: int) -> None:
        """Add one."""
        await self.clients[task].incr(f"{self.prefix}/sum")

    async def verify(self, client: Client) -> None:
        """The key's value is the number of increments."""
        sum_now = await client.incr(f"{self.prefix}/sum", 0, timeout_s=_LOOK_S)
        self.check_count("the sum", sum_now, sum(self.done))


class LockCycles(Workload):
    """Acquire and release; each task has a lock of its own."""

    async def prepare(self) -> None:
        """Make a lock for each task."""
        self._locks = [
            client.lock(f"{self.prefix}/{task}")
            for task, client in enumerate(self.clients)
        ]
        self._tokens = [0] * self.tasks

    async def step(self, task: int) -> None:
        """Take the task's lock, look at its token, and give it back."""
        async with self._locks[task] as grant:
            if grant.token <= self._tokens[task]:
                raise WorkloadFailed(f"{self.prefix}/{task}: the token did not grow")
            self._tokens[task] = grant.token

    def failed(self, task: int, error: RaftError) -> None:
        """Whatever went wrong may have left the lock held, until its session ends."""
        self.unsure[task] += 1

    async def verify(self, client: Client) -> None:
        """Tokens grew with each cycle; what was released nobody holds."""
        locks = client.locks(f"{self.prefix}/", timeout_s=_LOOK_S)
        held = [lock async for lock in locks if lock.holders or lock.waiters]
        self.check_count("locks still held", len(held), 0)


class JobCycles(Workload):
    """Enqueue, reserve and complete, one job per call, all tasks on one queue."""

    async def prepare(self) -> None:
        """Begin to count jobs; the queue comes with the first one."""
        self._queues = [client.queue(self.prefix) for client in self.clients]
        self._open: set[int] = set()
        self._enqueued = 0
        self._completed = 0
        self._strangers = 0

    async def step(self, task: int) -> None:
        """Enqueue a job, take one, anybody's, and complete it."""
        queue = self._queues[task]
        job = await queue.enqueue(self.value)
        self._open.add(job.job_id)
        self._enqueued += 1
        taken = await queue.reserve(wait_s=_RESERVE_WAIT_S)
        if not taken:  # those of calls that failed come back when their time is over
            raise Unavailable("no job was there to be taken", reason="NO_JOB")
        await taken[0].complete()
        self._completed += 1
        if taken[0].job_id in self._open:
            self._open.remove(taken[0].job_id)
        else:
            self._strangers += 1

    async def verify(self, client: Client) -> None:
        """Every job was completed once, and the queue has seen no other."""
        self.check_count("jobs completed twice or by nobody's wish", self._strangers, 0)
        stats = await client.queue(self.prefix).stats(timeout_s=_LOOK_S)
        self.check_count("enqueued", stats.enqueued_total, self._enqueued)
        self.check_count("completed", stats.completed_total, self._completed)
        left = stats.ready + stats.reserved + stats.scheduled
        self.check("left", left, stats.enqueued_total - stats.completed_total)
        self.check("dead", stats.dead, 0)


WORKLOADS: Final[Mapping[str, type[Workload]]] = {
    "put": Puts,
    "get": Gets,
    "incr": Increments,
    "lock": LockCycles,
    "job": JobCycles,
}
