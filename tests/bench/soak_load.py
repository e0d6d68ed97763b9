"""A mixed load at a given rate, or as fast as it goes, that proves what it did.

Of a hundred operations fifty are puts, thirty linearizable gets, ten a lock taken and
given back, ten a job enqueued, reserved and completed. Keys and locks are a fixed
number, jobs are forgotten soon after they are done: what the cluster holds is bounded.

Rules: at a given rate operations begin at their times, whatever becomes of those
before, and their latency counts from those times, so a stall is told by every operation
that it held up. More under way than begin in five seconds end the run: the rate is
too high.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from raftclient.aio import Client, Lock
from raftclient.errors import RaftError
from raftctl.bench_loop import worst
from raftctl.bench_workloads import VALUE, WorkloadFailed
from tests.bench.fill import scattered

__all__ = ["Load"]

_KEYS: Final = 10_000
_STEP_S: Final = 0.002
_BEHIND_S_MAX: Final = 5.0
"""Much more than an election takes; a shorter stall is told by the latencies."""
_DONE_RETENTION_S: Final = 10.0
_QUEUE: Final = "soak"
#: What each of ten operations in turn is.
_TURNS: Final = "pgpgpgppjl"


class Load:
    """Operations by one client; count, latencies and proof of all of them."""

    def __init__(self, client: Client) -> None:
        """Begin with nothing done; ``prepare`` comes first."""
        self.client: Final = client
        self.latencies_s: list[float] = []
        """Of operations that ended since this was last emptied."""
        self._puts: Final[Counter[int]] = Counter()
        self._jobs = 0
        self._number = 0
        self._under_way = 0
        self._queue: Final = client.queue(_QUEUE)
        self._locks: Final[deque[Lock]] = deque()
        self._lock_count = 0

    async def prepare(self) -> None:
        """Write every key once, and have jobs forgotten soon."""
        await self._queue.configure(done_retention_s=_DONE_RETENTION_S)
        for first in range(0, _KEYS, 500):
            async with asyncio.TaskGroup() as group:
                for number in range(first, first + 500):
                    group.create_task(self._put(number))

    async def run_closed(self, tasks: int, seconds: float) -> float:
        """Run as fast as so many tasks go; returns operations per second."""
        end_s = time.perf_counter() + seconds
        done = 0

        async def run() -> None:
            nonlocal done
            while time.perf_counter() < end_s:
                await self._one(time.perf_counter())
                done += 1

        async with _one_failure(), asyncio.TaskGroup() as group:
            for _ in range(tasks):
                group.create_task(run())
        return done / seconds

    async def run_paced(self, rate: float, seconds: float) -> None:
        """Begin so many operations a second; returns when all have ended.

        Raises:
            WorkloadFailed: The cluster cannot keep up with the rate.
        """
        begin_s = time.perf_counter()
        begun, count = 0, int(rate * seconds)
        async with _one_failure(), asyncio.TaskGroup() as group:
            while begun < count:
                due = min(int((time.perf_counter() - begin_s) * rate), count)
                for number in range(begun, due):
                    group.create_task(self._one(begin_s + number / rate))
                begun = max(begun, due)
                if self._under_way > rate * _BEHIND_S_MAX:
                    raise WorkloadFailed(
                        f"{rate:.0f} operations/s are too many:"
                        f" {self._under_way} are under way"
                    )
                await asyncio.sleep(_STEP_S)

    async def _one(self, due_s: float) -> None:
        self._number = number = self._number + 1
        self._under_way += 1
        try:
            match _TURNS[number % len(_TURNS)]:
                case "p":
                    await self._put(scattered(number, _KEYS))
                case "g":
                    await self._get(scattered(number, _KEYS))
                case "l":
                    await self._cycle_lock()
                case _:
                    await self._cycle_job()
        except RaftError as error:
            raise WorkloadFailed(f"soak: {error}") from error
        finally:
            self._under_way -= 1
        self.latencies_s.append(time.perf_counter() - due_s)

    async def _put(self, number: int) -> None:
        await self.client.put(f"soak/{number}", VALUE)
        self._puts[number] += 1

    async def _get(self, number: int) -> None:
        found = await self.client.get(f"soak/{number}")
        if found is None or found.value != VALUE:
            raise WorkloadFailed(f"soak/{number} was not read as written")

    async def _cycle_lock(self) -> None:
        if self._locks:
            lock = self._locks.popleft()
        else:
            self._lock_count += 1
            lock = self.client.lock(f"soak/{self._lock_count}")
        async with lock:
            pass
        self._locks.append(lock)

    async def _cycle_job(self) -> None:
        await self._queue.enqueue(VALUE)
        (job,) = await self._queue.reserve()
        await job.complete()
        self._jobs += 1

    async def verify(self) -> None:
        """Compare the cluster with what was acknowledged.

        Raises:
            WorkloadFailed: They differ.
        """
        versions = {
            int(key.key.rpartition(b"/")[2]): key.version
            async for key in self.client.range(prefix="soak/")
        }
        if versions != dict(self._puts):
            raise WorkloadFailed("soak: versions of keys do not count the puts")
        stats = await self._queue.stats()
        if (stats.completed_total, stats.ready, stats.reserved) != (self._jobs, 0, 0):
            raise WorkloadFailed(f"soak: {self._jobs} jobs were completed, not {stats}")


@asynccontextmanager
async def _one_failure() -> AsyncIterator[None]:
    """Raise the first thing that went wrong in a group of tasks, by itself."""
    try:
        yield
    except ExceptionGroup as failed:
        raise worst(failed) from None
