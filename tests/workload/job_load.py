"""Producers and workers of a few queues.

A job that is completed adds to a key in the same entry, so that the key tells how often
it was. Some jobs wait, for a time or for another; some are cancelled; some workers
fail, put off, give back, save, extend, or just go away.

Source: RELIABILITY.md section 4 (models: queue); SEMANTICS.md section 6.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Unpack

from raftclient import txn
from raftclient.specs import JobOptions, JobSpec

if TYPE_CHECKING:
    from raftclient.aio import ReservedJob
    from tests.workload.caller import Caller
    from tests.workload.setting import Setting

__all__ = ["JobLoad"]

_OPEN_MAX: Final = 60
_ENDS: Final = {
    "complete": 70,
    "fail": 7,
    "release": 6,
    "snooze": 5,
    "extend": 6,
    "savepoint": 3,
    "forget": 2,
    "late": 1,
}
_ENQUEUED_KEPT: Final = 32


class JobLoad:
    """See the module."""

    def __init__(self, setting: Setting) -> None:
        self._setting: Final = setting
        name = setting.name
        self.queues: Final = [
            f"q/{name}/{kind}" for kind in ("plain", "groups", "late")
        ]
        self._open = 0
        self._enqueued: Final[deque[int]] = deque(maxlen=_ENQUEUED_KEPT)

    # --- producers ---------------------------------------------------------------

    async def produce(self, caller: Caller, pause_s: float) -> None:
        """Enqueue until the end, while not too much is open."""
        setting = self._setting
        while not setting.is_over:
            if self._open < _OPEN_MAX:
                await self._enqueue(caller)
            if self._enqueued and setting.rng.random() < 0.05:
                await caller.cancel(setting.rng.choice(self._enqueued))
            await setting.pause(pause_s)

    async def _enqueue(self, caller: Caller) -> None:
        rng = self._setting.rng
        place = rng.randrange(3)
        payload = caller.fresh()
        options: JobOptions = {"priority": rng.randrange(10), "max_attempts": 4}
        match place:
            case 1:
                options = {"group": f"g{rng.randrange(4)}", "max_attempts": 4}
            case 2:
                options["delay_s"] = rng.uniform(0.05, 1.5)
            case _ if self._enqueued and rng.random() < 0.1:
                options["after"] = [rng.choice(self._enqueued)]
                options["runs_anyway"] = rng.random() < 0.5
            case _:
                pass
        if rng.random() < 0.5:
            options["job_id"] = payload
        await self._insist(caller, self.queues[place], payload, options)

    async def _insist(
        self, caller: Caller, queue: str, payload: str, options: JobOptions
    ) -> None:
        """Enqueue; under an id of its own it is safe to try again, and is."""
        for _ in range(3):
            ended = await caller.enqueue(queue, _spec(payload, **options))
            if ended.value is not None:
                self._enqueued.append(ended.value.job_id)
                self._open += not ended.value.existed
                return
            if ended.outcome != "unknown" or "job_id" not in options:
                return

    # --- workers -----------------------------------------------------------------

    async def work(self, caller: Caller, pause_s: float) -> None:
        """Reserve and work until the end."""
        setting = self._setting
        rng = setting.rng
        while not setting.is_over:
            ended = await caller.reserve(
                rng.choice(self.queues),
                rng.randint(1, 3),
                wait_s=rng.choice((0.0, 0.3, 1.0)),
                reservation_s=rng.uniform(1.0, 4.0),
            )
            for job in ended.value or ():
                await setting.pause(0.01)
                await self._handle(caller, job)
            await setting.pause(pause_s)

    async def _handle(self, caller: Caller, job: ReservedJob) -> None:
        setting = self._setting
        rng = setting.rng
        (end,) = rng.choices(list(_ENDS), weights=list(_ENDS.values()), k=1)
        match end:
            case "fail":
                fatal = rng.random() < 0.2
                await caller.fail(job, retry_in_s=rng.uniform(0, 0.5), fatal=fatal)
                self._open -= fatal
                return
            case "release":
                await caller.release_job(job)
                return
            case "snooze":
                await caller.snooze(job, rng.uniform(0.05, 0.5))
                return
            case "extend":
                await caller.extend(job, rng.uniform(1.0, 4.0))
            case "savepoint":
                await caller.savepoint(job, caller.fresh())
            case "forget":
                return
            case "late":
                await setting.rest(job.reservation_ms / 1000)
            case _:
                pass
        await self.complete(caller, job)

    async def complete(self, caller: Caller, job: ReservedJob) -> None:
        """End a job, and count it in the same entry."""
        setting = self._setting
        setting.guard.write(f"job/{job.job_id}", caller.who, job.token)
        counting = [txn.increment(f"done/{job.job_id}", 1)]
        if setting.rng.random() < 0.2:
            counting.append(txn.put(f"last/{job.queue}", caller.fresh()))
        ended = await caller.complete(job, caller.fresh(), counting)
        self._open -= ended.is_ok

    async def drain(self, caller: Caller) -> None:
        """Work off whatever is ready in any queue, without waiting."""
        for queue in self.queues:
            while True:
                ended = await caller.reserve(queue, 20, wait_s=0.0, reservation_s=30.0)
                if not ended.value:
                    break
                for job in ended.value:
                    await self.complete(caller, job)


def _spec(payload: str, **options: Unpack[JobOptions]) -> JobSpec:
    return JobSpec(payload, **options)
