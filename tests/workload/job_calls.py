"""Recorded calls about jobs, for producers and workers.

Source: SEMANTICS.md section 6; `tests.checkers.records` for the fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftclient import txn
from raftclient._clock import to_ms
from tests.workload.kv_calls import result_of
from tests.workload.recorded import Recorded
from tests.workload.wire import fields_of, jobs_of, ops_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftclient.aio import ReservedJob
    from raftclient.jobs import JobState
    from raftclient.queues import EnqueuedJob
    from raftclient.results import OpResult
    from raftclient.specs import JobSpec
    from tests.checkers.parts import Fields
    from tests.workload.recorded import Ended
    from tests.workload.tap import Note

__all__ = ["JobCalls"]


class JobCalls(Recorded):
    """The calls about jobs of one caller."""

    async def enqueue(self, queue: str, spec: JobSpec) -> Ended[EnqueuedJob]:
        """Enqueue a job."""

        async def work() -> EnqueuedJob:
            (job,) = await self.client.queue(queue).enqueue_many([spec])
            return job

        return await self.call(
            "enqueue",
            {"jobs": jobs_of([spec.to_wire(queue)])},
            work,
            lambda job: {
                "ids": [job.job_id],
                "states": [str(job.state)],
                "existed": [job.existed],
            },
        )

    async def reserve(
        self, queue: str, jobs_max: int, *, wait_s: float, reservation_s: float
    ) -> Ended[list[ReservedJob]]:
        """Take jobs, or wait for some."""
        asked: Fields = {
            "queues": [[queue, 1]],
            "worker": self.fresh(),
            "jobs_max": jobs_max,
            "reservation_ms": to_ms(reservation_s),
            "wait_ms": to_ms(wait_s),
        }
        return await self.call(
            "reserve",
            asked,
            lambda: self.client.queue(queue).reserve(
                jobs_max,
                wait_s=wait_s,
                reservation_s=reservation_s,
                worker=asked["worker"],
            ),
            lambda jobs: {"jobs": [_job(each) for each in jobs]},
            more=_lease,
        )

    async def extend(self, job: ReservedJob, for_s: float) -> Ended[float]:
        """Prolong a reservation."""
        return await self.call(
            "extend",
            {"job": job.job_id, "token": job.token, "for_ms": to_ms(for_s)},
            lambda: job.extend(for_s),
            _remaining,
        )

    async def savepoint(self, job: ReservedJob, data: str) -> Ended[float]:
        """Store progress."""
        return await self.call(
            "savepoint",
            {"job": job.job_id, "token": job.token, "savepoint": data},
            lambda: job.savepoint(data),
            _remaining,
        )

    async def complete(
        self, job: ReservedJob, result: str, ops: Sequence[txn.Op] = ()
    ) -> Ended[tuple[OpResult, ...]]:
        """End a job as DONE, together with operations."""
        args: Fields = {"job": job.job_id, "token": job.token, "result": result}
        if ops:
            args["ops"] = ops_of(ops)

        def answer(results: tuple[OpResult, ...]) -> Fields:
            if not ops:
                return {}
            return {"results": [result_of(each) for each in results]}

        return await self.call(
            "complete", args, lambda: job.complete(result, ops=ops), answer
        )

    async def fail(
        self, job: ReservedJob, *, retry_in_s: float, fatal: bool
    ) -> Ended[JobState]:
        """Count a failed attempt."""
        return await self.call(
            "fail",
            {
                "job": job.job_id,
                "token": job.token,
                "error": "drawn",
                "retry_in_ms": to_ms(retry_in_s),
                "is_fatal": fatal,
            },
            lambda: job.fail("drawn", retry_in_s=retry_in_s, fatal=fatal),
            lambda state: {"state": str(state)},
        )

    async def snooze(self, job: ReservedJob, for_s: float) -> Ended[None]:
        """Put a job off."""
        return await self.call(
            "snooze",
            {"job": job.job_id, "token": job.token, "for_ms": to_ms(for_s)},
            lambda: job.snooze(for_s),
            lambda _: {},
        )

    async def release_job(self, job: ReservedJob) -> Ended[None]:
        """Give a job back."""
        return await self.call(
            "release_job",
            {"job": job.job_id, "token": job.token},
            job.release,
            lambda _: {},
        )

    async def cancel(self, job_id: int) -> Ended[JobState]:
        """Cancel a job, or ask its worker to stop."""
        return await self.call(
            "cancel_job",
            {"job": job_id},
            lambda: self.client.cancel_job(job_id),
            lambda state: {"state": str(state)},
        )


def _job(job: ReservedJob) -> Fields:
    return {
        "id": job.job_id,
        "token": job.token,
        "queue": job.queue,
        "payload": job.payload.decode(),
        "client_id": job.client_id,
        "attempt": job.attempt,
        "delivery": job.delivery,
        "savepoint": job.saved.decode(),
        "reservation_ms": job.reservation_ms,
    }


def _remaining(remaining_s: float) -> Fields:
    return {"remaining_ms": round(remaining_s * 1000)}


def _lease(note: Note) -> Fields:
    if note.request is None:
        return {}
    lease = fields_of(note.request.reserve_jobs).get("lease")
    return {} if lease is None else {"lease": lease}
