"""What is measured beside the peers: raftctl's own workloads, and hand-overs.

Rules: every operation goes through ``raftclient.aio`` as an application's would, one
client for all tasks unless the name says otherwise. What a workload is and how it is
proved: ``raftctl.bench_workloads``; here nothing may fail, so all that was begun was
acknowledged, and the proof is exact.

Source: PERFORMANCE.md, the table of goals.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Final

from raftclient.aio import Client, Grant
from raftclient.errors import NotFound
from raftctl.bench_workloads import (
    Gets,
    Increments,
    JobCycles,
    LockCycles,
    Puts,
    Workload,
    WorkloadFailed,
)
from tests.bench.peers.base import HOLD_S

__all__ = ["WORKLOADS", "HandOvers", "Spec"]

_HEIRS: Final = 2


class HandOvers(Workload):
    """One lock, two clients with sessions of their own: one releases, one waits.

    What counts is the time from the call of release to the other's acquire returning.
    The cluster has the other as a waiter before the lock is held for ``HOLD_S``.
    """

    def __init__(self, clients: Sequence[Client], prefix: str, tasks: int) -> None:
        """See ``Workload``; the two clients take turns in one task."""
        assert tasks == len(clients) == _HEIRS, "one has the lock, and one waits"
        super().__init__(clients, prefix, 1)
        self._heirs: Final = tuple(clients)

    async def prepare(self) -> None:
        """Acquire the lock for the first."""
        self._locks = [client.lock(self.prefix) for client in self._heirs]
        self._holder = 0
        self._grant: Grant = await self._locks[0].acquire()

    async def step(self, task: int) -> float:
        """Have the other wait, hold for a while, and pass the lock on."""
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
            info = await self._heirs[0].lock_info(self.prefix)
            if [waiter.claimant for waiter in info.waiters] == [
                self._locks[heir].claimant
            ]:
                return

    async def verify(self, client: Client) -> None:
        """The last to get it holds it; given back, nobody does."""
        info = await client.lock_info(self.prefix)
        tokens = [holder.token for holder in info.holders]
        self.check("holders", tokens, [self._grant.token])
        await self._grant.release()
        try:
            info = await client.lock_info(self.prefix)
        except NotFound:
            return
        self.check("left", (info.holders, info.waiters), ((), ()))


@dataclasses.dataclass(frozen=True, slots=True)
class Spec:
    """A row of the table.

    Attributes:
        name: Of the row.
        tasks: Operations in flight.
        make: Makes the workload of clients, a prefix and the tasks.
        is_apart: Whether each task has a client, a connection and a session of its
            own; else all share one.
    """

    name: str
    tasks: int
    make: Callable[[Sequence[Client], str, int], Workload]
    is_apart: bool = False


WORKLOADS: Final = (
    Spec("put-1", 1, Puts),
    Spec("put-64", 64, Puts),
    Spec("put-1000", 1000, Puts),
    Spec("get-64", 64, Gets),
    Spec("get-1000", 1000, Gets),
    Spec("incr-64", 64, Increments),
    Spec("lock-64", 64, LockCycles),
    Spec("handover", _HEIRS, HandOvers, is_apart=True),
    Spec("job-64", 64, JobCycles),
    Spec("job-64-connections", 64, JobCycles, is_apart=True),
)
