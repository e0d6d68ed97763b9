"""All callers of a run, from their first call to what is there in the end.

    load = Load(endpoints, random.Random(seed), recorder, now_us)
    running = asyncio.create_task(load.run())
    ...                               # faults
    load.stop()                       # when all is healed
    await running                     # drained, read, closed; see load.troubles

Rules: 60 % of the calls are about keys, 20 % about locks and elections, 20 % about
jobs. The end is orderly: callers finish the call they are in; every job comes to its
end; claims are given back; what is left is read when nothing changes any more; watches
are told all of it. What does not come about in ample time is a trouble, in a sentence.

Source: RELIABILITY.md section 5 (load; every run ends with ...).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from raftclient.errors import NotFound, RaftError
from tests.workload.claim_load import ClaimLoad
from tests.workload.final import FinalReader
from tests.workload.job_load import JobLoad
from tests.workload.kv_load import KvLoad
from tests.workload.recorded import Tally
from tests.workload.setting import Options, Setting, for_a_while
from tests.workload.watchers import Watchers

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Coroutine
    from typing import Any

    from tests.checkers.recorder import Recorder
    from tests.workload.caller import Caller
    from tests.workload.tap import TappedClient

__all__ = ["Load"]

_SHARES: Final = {"keys": 0.6, "claims": 0.2, "jobs": 0.2}
_CALLS_PER_LOCK: Final = 3.0
_CALLS_PER_TERM: Final = 2.5
_CALLS_PER_ENQUEUE: Final = 1.1
_CALLS_PER_RESERVE: Final = 2.0
_HOLDS_S: Final = 0.25
_LEADS_S: Final = 0.1
_PAUSE_S_MIN: Final = 0.01
STUCK_S: Final = 60.0
"""Beyond this, what should come about by itself counts as stuck."""


class Load:
    """See the module.

    Args:
        endpoints: Of the cluster.
        rng: All chance of the load; not of the client library, which has its own.
        recorder: Of the run.
        now_us: The recorder's clock.
        options: How much of what.
        name: Apart from other loads on the same cluster.
    """

    def __init__(
        self,
        endpoints: str,
        rng: random.Random,
        recorder: Recorder,
        now_us: Callable[[], int],
        options: Options | None = None,
        name: str = "a",
    ) -> None:
        self.tally: Final = Tally(now_us)
        self.troubles: Final[list[str]] = []
        """What did not come about; empty = all is well."""
        self._options: Final = options or Options()
        self._setting: Final = Setting(
            endpoints, rng, recorder, self.tally, self._options, name
        )
        self._watchers: Final = Watchers(self._setting)
        self._watching: Final[list[asyncio.Task[None]]] = []
        self._keys: Final = KvLoad(self._setting)
        self._observed: Final[list[str]] = []
        self._observer: TappedClient | None = None
        self._claims: Final = ClaimLoad(self._setting, self._new_election)
        self._jobs: Final = JobLoad(self._setting)
        self._name: Final = name
        self._recorder: Final = recorder

    @property
    def refused_by_guards(self) -> int:
        """How often a resource refused an old token."""
        return self._setting.guard.refused

    def stop(self) -> None:
        """Bring the callers to their end, and with it ``run``."""
        self._setting.stop.set()

    def reach(self, endpoints: str) -> None:
        """Have new clients connect there."""
        self._setting.endpoints = endpoints

    async def run(self) -> None:
        """Call until ``stop``, then bring all to its end."""
        try:
            self._begin_watching()
            async with asyncio.TaskGroup() as group:
                for work in self._callers():
                    group.create_task(work)
            await self._end()
        finally:
            await self._end_watching()
            await self._setting.close()

    # --- the callers -------------------------------------------------------------

    def _callers(self) -> list[Coroutine[Any, Any, None]]:
        options, caller = self._options, self._setting.caller
        rate = options.rate

        def pause_s(
            share: str, part: float, callers: int, calls: float, busy_s: float = 0.0
        ) -> float:
            every_s = callers * calls / (rate * _SHARES[share] * part)
            return max(every_s - busy_s, _PAUSE_S_MIN)

        kv, locks = options.kv_callers, options.lock_callers
        standing, producers = options.election_callers, options.producers
        works = [
            self._keys.run(caller(f"kv{n}"), pause_s("keys", 1, kv, 1))
            for n in range(kv)
        ]
        works += [
            self._claims.run_locks(
                caller(f"lock{n}"),
                pause_s("claims", 0.7, locks, _CALLS_PER_LOCK, _HOLDS_S),
            )
            for n in range(locks)
        ]
        works += [
            self._claims.run_elections(
                caller(f"stand{n}"),
                pause_s("claims", 0.3, standing, _CALLS_PER_TERM, _LEADS_S),
            )
            for n in range(standing)
        ]
        works += [
            self._jobs.produce(
                caller(f"put{n}"), pause_s("jobs", 0.33, producers, _CALLS_PER_ENQUEUE)
            )
            for n in range(producers)
        ]
        works += [
            self._jobs.work(
                caller(f"work{n}"),
                pause_s("jobs", 0.67, options.workers, _CALLS_PER_RESERVE),
            )
            for n in range(options.workers)
        ]
        return works

    def _begin_watching(self) -> None:
        watchers = self._watchers
        for n in range(self._options.watchers):
            client = self._setting.connect(f"watch{n}")
            self._watch(watchers.watch_keys(client, self._keys.prefix))
        self._observer = client = self._setting.connect("observe")
        for queue in self._jobs.queues:
            self._watch(watchers.watch_jobs(client, queue))
        for name in self._observed:
            self._watch(watchers.observe(client, name))

    def _new_election(self, name: str) -> None:
        self._observed.append(name)
        if self._observer is not None:
            self._watch(self._watchers.observe(self._observer, name))

    def _watch(self, work: Coroutine[Any, Any, None]) -> None:
        self._watching.append(asyncio.get_running_loop().create_task(work))

    # --- the end -----------------------------------------------------------------

    async def _end(self) -> None:
        caller = self._setting.caller("drain")
        await self._drained(caller)
        await self._setting.close_callers()
        reader = FinalReader(self._setting.connect("final"))
        try:
            async with asyncio.timeout(STUCK_S):
                final = await reader.read()
        except (TimeoutError, RaftError) as error:
            self.troubles.append(f"the end could not be read: {error!r}")
            return
        self._recorder.final(final)
        if not await self._watchers.catch_up(final.revision, STUCK_S):
            self.troubles.append(f"a watch was never told up to {final.revision}")

    async def _drained(self, caller: Caller) -> None:
        """Have every job come to its end."""
        end_us = self.tally.now_us() + int(STUCK_S * 1_000_000)
        left = ""
        while self.tally.now_us() < end_us:
            await self._jobs.drain(caller)
            left = await self._open_jobs(caller.client)
            if not left:
                return
            await for_a_while(0.3)
        self.troubles.append(f"jobs never came to their end: {left}")

    async def _open_jobs(self, client: TappedClient) -> str:
        """Say what is not final yet; empty = nothing."""
        found = []
        for queue in self._jobs.queues:
            try:
                info = await client.queue(queue).stats()
            except NotFound:
                continue
            except RaftError as error:
                return f"not known: {error.message}"
            if info.scheduled or info.ready or info.blocked or info.reserved:
                found.append(
                    f"{queue} has {info.scheduled} scheduled, {info.ready} ready,"
                    f" {info.blocked} blocked, {info.reserved} reserved"
                )
        return "; ".join(found)

    async def _end_watching(self) -> None:
        tasks, self._watching[:] = list(self._watching), []
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                self.troubles.append(f"a watch ended by itself: {result!r}")
