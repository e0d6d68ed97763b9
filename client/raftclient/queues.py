"""The durable job queue: enqueue, reserve, and a queue's own settings.

An enqueue answers at once and never waits for a consumer; a reserve waits for jobs. A
reserve needs a session: when it ends, its jobs go to other workers.

Source: SEMANTICS.md section 6; proto/raftpb/v1/queues.proto.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Unpack

import msgspec

from raftclient._reserve import reserve, weights_of
from raftclient._values import Data, LeaseRef
from raftclient.jobs import (
    JobInfo,
    JobState,
    job_from_wire,
    state_from_wire,
    states_to_wire,
)
from raftclient.queue_info import QueueInfo, QueueOptions, options_to_wire, queue_info
from raftclient.specs import JobOptions, JobSpec, fill_job
from raftpb.v1 import queues_pb2
from raftpb.v1.sessions_pb2 import StreamRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from raftclient._core import Core
    from raftclient.fences import Fence
    from raftclient.reservations import ReservedJob

__all__ = ["EnqueuedJob", "Queue", "QueueCalls"]


class EnqueuedJob(msgspec.Struct, frozen=True):
    """What became of one job of an enqueue.

    Attributes:
        existed: The caller's id or unique key was known: this is that job.
    """

    job_id: int
    state: JobState
    existed: bool


class Queue:
    """One queue, by name; it comes into being with its first job."""

    def __init__(self, core: Core, name: str) -> None:
        self._core: Final = core
        self.name: Final = name

    async def enqueue(
        self,
        payload: Data,
        *,
        fences: Sequence[Fence] = (),
        timeout_s: float | None = None,
        **options: Unpack[JobOptions],
    ) -> EnqueuedJob:
        """Enqueue a job; ``options`` are those of ``JobOptions``.

        Raises:
            InvalidRequest: An option is out of its range.
            PreconditionFailed: Its unique key is taken.
            LimitExceeded: The queue is full: slow down.
            Unavailable: Not enqueued, and never will be: try again.
            OutcomeUnknown: Sent, and not answered in time; with a ``job_id`` of your
                own it is safe to try again.
        """
        request = StreamRequest()
        wire = request.enqueue_jobs.jobs.add()
        wire.queue = self.name
        fill_job(wire, payload, options)
        reply = await self._core.write(request, timeout_s, fences=fences)
        (job,) = reply.enqueue_jobs.jobs
        return _enqueued(job)

    async def enqueue_many(
        self,
        specs: Sequence[JobSpec | Data],
        *,
        fences: Sequence[Fence] = (),
        timeout_s: float | None = None,
    ) -> list[EnqueuedJob]:
        """Enqueue jobs, all or none, in order; see ``enqueue``."""
        body = queues_pb2.EnqueueJobsRequest(
            jobs=[
                (each if isinstance(each, JobSpec) else JobSpec(each)).to_wire(
                    self.name
                )
                for each in specs
            ]
        )
        request = StreamRequest(enqueue_jobs=body)
        reply = await self._core.write(request, timeout_s, fences=fences)
        return [_enqueued(each) for each in reply.enqueue_jobs.jobs]

    async def reserve(
        self,
        max: int = 1,
        *,
        wait_s: float | None = None,
        lease: LeaseRef | None = None,
        worker: str | None = None,
        reservation_s: float | None = None,
        types: Sequence[str] = (),
        timeout_s: float | None = None,
    ) -> list[ReservedJob]:
        """Take ready jobs, or wait for them; see ``client.reserve``."""
        return await reserve(
            self._core,
            {self.name: 1},
            max,
            wait_s=wait_s,
            lease=lease,
            worker=worker,
            reservation_s=reservation_s,
            types=types,
            timeout_s=timeout_s,
        )

    async def stats(self, *, timeout_s: float | None = None) -> QueueInfo:
        """Count its jobs by state.

        Raises:
            NotFound: There is no such queue.
        """
        body = queues_pb2.GetQueueRequest(queue=self.name)
        reply = await self._core.read(StreamRequest(get_queue=body), timeout_s)
        return queue_info(reply.get_queue.queue)

    async def list(
        self,
        *,
        states: Sequence[JobState] = (),
        type: str = "",
        limit: int | None = None,
        payloads: bool = True,
        timeout_s: float | None = None,
    ) -> AsyncIterator[JobInfo]:
        """Iterate over its jobs by id.

        Args:
            states: Only these; empty = all.
            type: Only of this type; empty = all.
            limit: At most so many.
            payloads: With payloads and results.
            timeout_s: How long to try for each page; None = the client's default.
        """
        after, left = 0, limit
        while left is None or left > 0:
            body = queues_pb2.ListJobsRequest(
                queue=self.name,
                states=states_to_wire(states),
                type=type,
                limit=left or 0,
                after_job_id=after,
                no_payloads=not payloads,
                allow_empty_pages=True,
            )
            request = StreamRequest(list_jobs=body)
            page = (await self._core.read(request, timeout_s)).list_jobs
            for found in page.jobs:
                yield job_from_wire(found)
                after = found.job_id
            # A member of the first release says nothing of the next page.
            after = page.next_after_job_id or after
            left = None if left is None else left - len(page.jobs)
            if not page.more:
                return

    async def pause(self, *, timeout_s: float | None = None) -> None:
        """Stop handing out jobs."""
        body = queues_pb2.PauseQueueRequest(queue=self.name)
        await self._core.write(StreamRequest(pause_queue=body), timeout_s)

    async def resume(self, *, timeout_s: float | None = None) -> None:
        """Hand out jobs again."""
        body = queues_pb2.ResumeQueueRequest(queue=self.name)
        await self._core.write(StreamRequest(resume_queue=body), timeout_s)

    async def purge(
        self, states: Sequence[JobState] = (), *, timeout_s: float | None = None
    ) -> int:
        """Remove jobs; returns how many. Reserved ones stay.

        Args:
            states: Of these states; empty = all that wait.
            timeout_s: How long to try; None = the client's default.
        """
        body = queues_pb2.PurgeQueueRequest(
            queue=self.name, states=states_to_wire(states)
        )
        reply = await self._core.write(StreamRequest(purge_queue=body), timeout_s)
        return reply.purge_queue.jobs

    async def configure(
        self, *, timeout_s: float | None = None, **options: Unpack[QueueOptions]
    ) -> None:
        """Make it, or change its settings; what is left out stays."""
        body = queues_pb2.ConfigureQueueRequest(
            queue=self.name, options=options_to_wire(options)
        )
        await self._core.write(StreamRequest(configure_queue=body), timeout_s)

    async def delete(
        self, *, force: bool = False, timeout_s: float | None = None
    ) -> int:
        """Remove the queue; returns how many jobs went with it.

        Args:
            force: Even if it has jobs.
            timeout_s: How long to try; None = the client's default.

        Raises:
            NotFound: There is no such queue.
            PreconditionFailed: It has jobs, and ``force`` is not set.
        """
        body = queues_pb2.DeleteQueueRequest(queue=self.name, force=force)
        reply = await self._core.write(StreamRequest(delete_queue=body), timeout_s)
        return reply.delete_queue.jobs

    async def redrive(
        self,
        states: Sequence[JobState] = (),
        *,
        job_ids: Sequence[int] = (),
        type: str = "",
        max: int = 0,
        force: bool = False,
        timeout_s: float | None = None,
    ) -> int:
        """Give finished jobs another life; returns how many.

        Args:
            states: Of these states; empty = DEAD.
            job_ids: Only these; empty = all.
            type: Only of this type; empty = all.
            max: At most so many; 0 = 1000.
            force: Needed for DONE.
            timeout_s: How long to try; None = the client's default.
        """
        body = queues_pb2.RedriveJobsRequest(
            queue=self.name,
            states=states_to_wire(states),
            job_ids=job_ids,
            type=type,
            jobs_max=max,
            force=force,
        )
        reply = await self._core.write(StreamRequest(redrive_jobs=body), timeout_s)
        return reply.redrive_jobs.jobs


class QueueCalls:
    """The calls about queues."""

    _core: Core

    def queue(self, name: str) -> Queue:
        """Name a queue (1 to 256 bytes)."""
        return Queue(self._core, name)

    async def queues(
        self,
        prefix: str = "",
        *,
        limit: int | None = None,
        timeout_s: float | None = None,
    ) -> AsyncIterator[QueueInfo]:
        """Iterate over queues by name."""
        after, left = "", limit
        while left is None or left > 0:
            body = queues_pb2.ListQueuesRequest(
                prefix=prefix, after_name=after, limit=left or 0
            )
            request = StreamRequest(list_queues=body)
            page = (await self._core.read(request, timeout_s)).list_queues
            for found in page.queues:
                yield queue_info(found)
                after = found.name
            left = None if left is None else left - len(page.queues)
            if not page.more:
                return

    async def reserve(
        self,
        queues: str | Sequence[str] | Mapping[str, int],
        max: int = 1,
        *,
        wait_s: float | None = None,
        lease: LeaseRef | None = None,
        worker: str | None = None,
        reservation_s: float | None = None,
        types: Sequence[str] = (),
        timeout_s: float | None = None,
    ) -> list[ReservedJob]:
        """Take ready jobs of several queues, or wait for them.

        Args:
            queues: A name, names, or names with weights.
            max: 1 to 100.
            wait_s: How long to wait for the first; 0 = do not, None = for ever.
            lease: What pays for the reservations; None = the client's session.
            worker: Who works, for people; None = the client's claimant.
            reservation_s: How long; None = as the job says.
            types: Only of these types; empty = all.
            timeout_s: How long to try beyond the wait; None = the client's default.

        Returns:
            Empty when the wait was over.

        Raises:
            LeaseLost: The session or lease ended meanwhile.
            Unavailable: Nothing was taken: try again.
            OutcomeUnknown: No answer came; jobs that may still come are given back.
        """
        return await reserve(
            self._core,
            weights_of(queues),
            max,
            wait_s=wait_s,
            lease=lease,
            worker=worker,
            reservation_s=reservation_s,
            types=types,
            timeout_s=timeout_s,
        )


def _enqueued(found: queues_pb2.EnqueuedJob) -> EnqueuedJob:
    return EnqueuedJob(found.job_id, state_from_wire(found.state), found.existed)
