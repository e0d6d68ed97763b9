"""Jobs, as everybody may see and steer them: get, cancel, watch, wait for.

What only the worker that has reserved a job may do is in ``raftclient.reservations``.
Source: SEMANTICS.md section 6; proto/raftpb/v1/queues.proto.
"""

from __future__ import annotations

import asyncio
import enum
from typing import TYPE_CHECKING, Final

import msgspec

from raftclient._feed import Feed, behind
from raftclient.errors import NotFound, Unavailable
from raftpb.v1 import queues_pb2
from raftpb.v1.sessions_pb2 import StreamRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from raftclient._core import Core
    from raftpb.v1.sessions_pb2 import StreamReply

__all__ = [
    "JobCalls",
    "JobEvent",
    "JobFeed",
    "JobInfo",
    "JobState",
    "job_from_wire",
    "state_from_wire",
    "states_to_wire",
]


class JobState(enum.StrEnum):
    """Where a job is; GONE: it is no longer kept."""

    SCHEDULED = "SCHEDULED"
    READY = "READY"
    BLOCKED = "BLOCKED"
    RESERVED = "RESERVED"
    DONE = "DONE"
    DEAD = "DEAD"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    GONE = "GONE"

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self in _FINAL


_FINAL: Final = frozenset(
    {
        JobState.DONE,
        JobState.DEAD,
        JobState.CANCELLED,
        JobState.EXPIRED,
        JobState.GONE,
    }
)
_FROM_WIRE: Final = {
    queues_pb2.JOB_STATE_SCHEDULED: JobState.SCHEDULED,
    queues_pb2.JOB_STATE_READY: JobState.READY,
    queues_pb2.JOB_STATE_BLOCKED: JobState.BLOCKED,
    queues_pb2.JOB_STATE_RESERVED: JobState.RESERVED,
    queues_pb2.JOB_STATE_DONE: JobState.DONE,
    queues_pb2.JOB_STATE_DEAD: JobState.DEAD,
    queues_pb2.JOB_STATE_CANCELLED: JobState.CANCELLED,
    queues_pb2.JOB_STATE_EXPIRED: JobState.EXPIRED,
}
_TO_WIRE: Final = {state: number for number, state in _FROM_WIRE.items()}


class JobInfo(msgspec.Struct, frozen=True):
    """A job as the cluster has it.

    Attributes:
        client_id: The id that its producer gave it, or empty.
        attempt: Failed attempts so far.
        delivery: Reservations so far.
        progress: Per mille.
        worker: Who has reserved it.
        due_in_ms: Until the reservation ends, or the job becomes ready.
        mod_rev: Revision of its last transition.
    """

    job_id: int
    client_id: str
    queue: str
    type: str
    state: JobState
    priority: int
    payload: bytes
    content_type: str
    meta: dict[str, str]
    attempt: int
    max_attempts: int
    delivery: int
    crashes: int
    result: bytes
    error: str
    savepoint: bytes
    progress: int
    worker: str
    token: int
    lease_id: int
    due_in_ms: int
    age_ms: int
    group: str
    after: tuple[int, ...]
    cancel_requested: bool
    mod_rev: int


class JobEvent(msgspec.Struct, frozen=True):
    """A transition of a job.

    Attributes:
        previous_state: None if it was enqueued, or if this is the present state.
        is_resync: Transitions before this one were missed: of a job, this is the
            present state; of a queue, list it anew.
    """

    revision: int
    queue: str
    job_id: int
    state: JobState
    previous_state: JobState | None
    client_id: str
    is_resync: bool = False


class JobFeed(Feed[JobEvent]):
    """The transitions of a job or of a queue; made by ``watch_job(s)``."""

    def __init__(
        self, core: Core, *, queue: str = "", job_id: int = 0, from_rev: int = 0
    ) -> None:
        self._queue: Final = queue
        self._job_id: Final = job_id
        self._from_rev = from_rev
        self._known_rev: Final = core.shared.revision
        super().__init__(core)

    def request(self) -> StreamRequest:
        """Build the request that continues where the last reply left off."""
        body = queues_pb2.WatchJobsRequest(
            queue=self._queue, job_id=self._job_id, from_rev=self._from_rev
        )
        if self._queue:
            self._from_rev = self._from_rev or behind(self._known_rev)
        return StreamRequest(watch_jobs=body)

    def take(self, reply: StreamReply) -> None:
        """Queue the transitions of one message."""
        message = reply.watch_jobs
        is_resync = message.is_resync
        if is_resync and not message.events:
            gap = JobEvent(
                message.revision, self._queue, 0, JobState.GONE, None, "", True
            )
            self.push(gap)
        for each in message.events:
            self.push(_event(each, is_resync))
            is_resync = False
        self._from_rev = max(self._from_rev, message.revision + 1)


class JobCalls:
    """The calls about single jobs."""

    _core: Core

    async def job(
        self, job_id: int | str, *, timeout_s: float | None = None
    ) -> JobInfo:
        """Look at a job, by its id or by the text that its producer gave it.

        Raises:
            NotFound: There is no such job, or it is no longer kept.
        """
        body = queues_pb2.GetJobRequest()
        if isinstance(job_id, int):
            body.job_id = job_id
        else:
            body.client_id = job_id
        reply = await self._core.read(StreamRequest(get_job=body), timeout_s)
        return job_from_wire(reply.get_job.job)

    async def cancel_job(
        self, job_id: int, *, timeout_s: float | None = None
    ) -> JobState:
        """Cancel a waiting job, or ask the worker of a reserved one to stop.

        Returns:
            CANCELLED, or RESERVED until the worker has heard of it.

        Raises:
            NotFound: There is no such job.
            JobFinal: It has ended already.
        """
        body = queues_pb2.CancelJobRequest(job_id=job_id)
        reply = await self._core.write(StreamRequest(cancel_job=body), timeout_s)
        return state_from_wire(reply.cancel_job.state)

    def watch_job(self, job_id: int, *, from_rev: int | None = None) -> JobFeed:
        """Follow one job: its present state, then each transition.

        Args:
            job_id: The job's id.
            from_rev: From this revision on, instead of the present state.
        """
        return JobFeed(self._core, job_id=job_id, from_rev=from_rev or 0)

    def watch_jobs(self, queue: str, *, from_rev: int | None = None) -> JobFeed:
        """Follow all jobs of a queue from now on, or from a revision."""
        return JobFeed(self._core, queue=queue, from_rev=from_rev or 0)

    async def wait_job(self, job_id: int, *, wait_s: float | None = None) -> JobInfo:
        """Wait until a job has ended, and return it with its result.

        Args:
            job_id: The job's id.
            wait_s: How long; None = for ever.

        Raises:
            NotFound: There is no such job, or it is no longer kept.
            Unavailable: It has not ended in time.
        """
        feed = self.watch_job(job_id)
        try:
            async with feed, asyncio.timeout(wait_s):
                async for event in feed:
                    if event.state is JobState.GONE:
                        raise NotFound(f"there is no job {job_id}")
                    if event.state.is_final:
                        break
        except TimeoutError as error:
            raise Unavailable(
                f"job {job_id} has not ended in {wait_s} s", reason="DEADLINE"
            ) from error
        return await self.job(job_id)


def state_from_wire(number: queues_pb2.JobState.ValueType) -> JobState:
    """Turn the API's number into ours; none = gone."""
    return _FROM_WIRE.get(number, JobState.GONE)


def states_to_wire(states: Iterable[JobState]) -> list[queues_pb2.JobState.ValueType]:
    """Turn states into the API's numbers."""
    return [_TO_WIRE[state] for state in states]


_CONVERTED: Final = frozenset({"state", "meta", "after"})
_PLAIN_FIELDS: Final = tuple(
    name for name in JobInfo.__struct_fields__ if name not in _CONVERTED
)


def job_from_wire(found: queues_pb2.Job) -> JobInfo:
    """Turn the API's message into ours."""
    return JobInfo(
        state=state_from_wire(found.state),
        meta=dict(found.meta),
        after=tuple(found.after),
        **{name: getattr(found, name) for name in _PLAIN_FIELDS},
    )


def _event(found: queues_pb2.JobEvent, is_resync: bool) -> JobEvent:
    return JobEvent(
        found.revision,
        found.queue,
        found.job_id,
        state_from_wire(found.state),
        _FROM_WIRE.get(found.previous_state),
        found.client_id,
        is_resync,
    )
