"""Jobs in the log: enqueue, reserve, and the calls of a worker.

Every worker call carries the reservation's token; a token is drawn from the
revision line, so tokens of locks, elections and reservations compare.
Source: SEMANTICS.md section 6.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from raftd.statemachine.schema.base import Command, Result

__all__ = [
    "Backoff",
    "CancelJob",
    "CompleteJob",
    "EnqueueJobs",
    "ExtendJob",
    "FailJob",
    "JobCancelled",
    "JobCompleted",
    "JobExtended",
    "JobFailed",
    "JobReleased",
    "JobSaved",
    "JobSnoozed",
    "JobSpec",
    "JobState",
    "JobsEnqueued",
    "JobsReserved",
    "OnConflict",
    "OnParentFailure",
    "ReleaseJob",
    "ReserveJobs",
    "ReservedJob",
    "SavepointJob",
    "SnoozeJob",
    "UniqueSpec",
    "UniqueUntil",
]


_NO_META: Final[dict[str, str]] = {}


class JobState(enum.IntEnum):
    """Where a job is; the last four are final."""

    SCHEDULED = 1
    READY = 2
    BLOCKED = 3
    RESERVED = 4
    DONE = 5
    DEAD = 6
    CANCELLED = 7
    EXPIRED = 8


class Backoff(enum.IntEnum):
    """How the delay before the next attempt grows."""

    EXPONENTIAL = 1
    LINEAR = 2
    FIXED = 3


class UniqueUntil(enum.IntEnum):
    """How long a unique key is taken."""

    STARTED = 1
    DONE = 2
    WINDOW = 3


class OnConflict(enum.IntEnum):
    """What a second job under a taken unique key does."""

    REJECT = 1
    REPLACE = 2
    DEBOUNCE = 3


class OnParentFailure(enum.IntEnum):
    """What a child does when a parent ends other than DONE."""

    CASCADE = 1
    CONTINUE = 2


class UniqueSpec(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """At most one job at a time under ``key`` in the queue."""

    key: str
    until: UniqueUntil = UniqueUntil.DONE
    window_ms: int = 0
    on_conflict: OnConflict = OnConflict.REJECT


class JobSpec(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A job to be enqueued.

    Attributes:
        queue: 1 to 256 bytes; made on first use.
        payload: Up to 1 MiB.
        type: Handler's name, up to 256 bytes; may be empty.
        content_type: Of the payload; may be empty.
        meta: For the application (tracing and the like).
        priority: 0 (first) to 9.
        delay_ms: Not before so long after the enqueue (lease clock); None = now.
        run_at_ms: Not before this wall time (ms since 1970); None = now.
        max_attempts: Failed attempts before DEAD; None = the queue's.
        backoff: Shape of the retry delay; None = the queue's.
        backoff_base_ms: None = the queue's.
        backoff_cap_ms: None = the queue's.
        backoff_jitter: Percent of the delay taken off at random, 0 to 100.
        reservation_ms: None = the queue's.
        max_runtime_ms: Extensions end here after the reserve; None = no cap.
        deadline_ms: EXPIRED if still waiting so long after the enqueue.
        client_id: The client's own id, unique in the cluster; empty = none.
        unique: See UniqueSpec.
        group: Strict order within; empty = none.
        group_limit: Reserved at once in the group.
        after: Ids of parents that must be DONE first.
        on_parent_failure: Cancelled with them, or not.
    """

    queue: str
    payload: bytes
    type: str = ""
    content_type: str = ""
    meta: dict[str, str] = {}
    priority: int = 5
    delay_ms: int | None = None
    run_at_ms: int | None = None
    max_attempts: int | None = None
    backoff: Backoff | None = None
    backoff_base_ms: int | None = None
    backoff_cap_ms: int | None = None
    backoff_jitter: int | None = None
    reservation_ms: int | None = None
    max_runtime_ms: int | None = None
    deadline_ms: int | None = None
    client_id: str = ""
    unique: UniqueSpec | None = None
    group: str = ""
    group_limit: int = 1
    after: tuple[int, ...] = ()
    on_parent_failure: OnParentFailure = OnParentFailure.CASCADE


class EnqueueJobs(Command, frozen=True, tag=70):
    """Enqueue all these jobs, or none."""

    jobs: tuple[JobSpec, ...]


class JobsEnqueued(Result, frozen=True, tag=70):
    """Ids in the order given, their states, and whether each existed before."""

    ids: tuple[int, ...]
    states: tuple[JobState, ...]
    existed: tuple[bool, ...]


class ReserveJobs(Command, frozen=True, tag=71):
    """Take up to ``jobs_max`` ready jobs of these queues.

    Attributes:
        lease: The worker's session; its end returns the jobs.
        queues: (name, weight), weight at least 1.
        worker: Who, for people.
        jobs_max: 1 to 100.
        bytes_max: Payload bytes in one answer, up to 4 MiB (one job always fits).
        reservation_ms: Overrides the jobs' own; None = theirs.
        types: Only these job types; empty = all.
    """

    lease: int
    queues: tuple[tuple[str, int], ...]
    worker: str
    jobs_max: int = 1
    bytes_max: int = 4 << 20
    reservation_ms: int | None = None
    types: tuple[str, ...] = ()


class ReservedJob(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One job in a worker's hands; the window keeps (id, token) only."""

    id: int
    token: int
    queue: str = ""
    type: str = ""
    payload: bytes = b""
    content_type: str = ""
    meta: dict[str, str] = {}
    client_id: str = ""
    attempt: int = 0
    delivery: int = 0
    savepoint: bytes = b""
    reservation_ms: int = 0
    enqueued_ms: int = 0


class JobsReserved(Result, frozen=True, tag=71):
    """The jobs taken; empty when nothing was ready."""

    jobs: tuple[ReservedJob, ...] = ()

    def kept(self) -> JobsReserved:
        """Keep ids and tokens; payloads are found again from the jobs."""
        return JobsReserved(
            tuple([ReservedJob(job.id, job.token, meta=_NO_META) for job in self.jobs])
        )


class ExtendJob(Command, frozen=True, tag=72):
    """Prolong a reservation: now + reservation (or ``for_ms``)."""

    job: int
    token: int
    for_ms: int | None = None


class JobExtended(Result, frozen=True, tag=72):
    """How long the reservation now lasts, and whether a cancel was asked."""

    remaining_ms: int
    cancel_requested: bool = False


class SavepointJob(Command, frozen=True, tag=73):
    """Store progress with the job; prolongs the reservation too."""

    job: int
    token: int
    savepoint: bytes | None
    progress: int | None = None
    """Per mille, 0 to 1000; None = unchanged."""


class JobSaved(Result, frozen=True, tag=73):
    """Like JobExtended."""

    remaining_ms: int
    cancel_requested: bool = False


class CompleteJob(Command, frozen=True, tag=74):
    """The job is done.

    ``Complete(ops)`` of the API is a transaction: if the reservation is held,
    then complete and ops.
    """

    job: int
    token: int
    result: bytes = b""


class JobCompleted(Result, frozen=True, tag=74):
    """DONE."""


class FailJob(Command, frozen=True, tag=75):
    """The attempt failed.

    Attributes:
        error: For people, kept to 4 KiB.
        retry_in_ms: Instead of the backoff; None = the backoff.
        is_fatal: DEAD at once.
    """

    job: int
    token: int
    error: str = ""
    retry_in_ms: int | None = None
    is_fatal: bool = False


class JobFailed(Result, frozen=True, tag=75):
    """SCHEDULED again (with the delay) or DEAD."""

    state: JobState
    retry_in_ms: int


class SnoozeJob(Command, frozen=True, tag=76):
    """Back to SCHEDULED for a while, no attempt charged."""

    job: int
    token: int
    for_ms: int


class JobSnoozed(Result, frozen=True, tag=76):
    """SCHEDULED."""


class ReleaseJob(Command, frozen=True, tag=77):
    """Back to READY at once, no attempt charged."""

    job: int
    token: int


class JobReleased(Result, frozen=True, tag=77):
    """READY (or BLOCKED behind its group)."""


class CancelJob(Command, frozen=True, tag=78):
    """Cancel a waiting job, or ask the worker of a reserved one to stop."""

    job: int


class JobCancelled(Result, frozen=True, tag=78):
    """Its state now: CANCELLED, or RESERVED with the request noted."""

    state: JobState
