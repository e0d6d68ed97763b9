"""What the state keeps of a job: one slotted record, and what few jobs need apart.

Rules:
* A record changes only through ``JobTable``; its parts are replaced, never changed.
* The fields are those of the job's row, in the row's order; the payload comes last and
  has a row of its own, so that a change of state never writes it again.
* What most jobs do not have (own settings, a reservation, a savepoint, an end) is a
  part that is None; what a queue says is not copied into its jobs.

Source: SEMANTICS.md section 6; PERFORMANCE.md (memory per waiting job).
"""

import enum
from sys import intern
from typing import Final

import msgspec

from raftd.statemachine.schema.jobs import (
    Backoff,
    JobState,
    OnParentFailure,
    UniqueSpec,
)

__all__ = [
    "FINAL_STATES",
    "ORDER_MASK",
    "WAITING_STATES",
    "EndingCall",
    "Extra",
    "Held",
    "Job",
    "Outcome",
    "Trail",
    "decode_job",
    "encode_job",
    "is_final",
    "order_of",
    "size_of",
]

WAITING_STATES: Final = (JobState.SCHEDULED, JobState.READY, JobState.BLOCKED)
FINAL_STATES: Final = (
    JobState.DONE,
    JobState.DEAD,
    JobState.CANCELLED,
    JobState.EXPIRED,
)

_PRIORITY_SHIFT: Final = 56
ORDER_MASK: Final = (1 << _PRIORITY_SHIFT) - 1
"""Takes the job's id out of its place in the order of ready jobs."""

_JOB_BYTES: Final = 600
_FIRST_FINAL: Final = int(JobState.DONE)


class EndingCall(enum.IntEnum):
    """Which call of a worker ended a job; asked again it gets its first answer."""

    NONE = 0
    COMPLETE = 1
    FAIL = 2
    SNOOZE = 3
    RELEASE = 4


class Extra(
    msgspec.Struct,
    frozen=True,
    array_like=True,
    gc=False,
    forbid_unknown_fields=True,
):
    """What an enqueue asked beyond the queue's settings; None = as the queue says.

    Attributes:
        deadline_ms: EXPIRED if it still waits then, on the lease clock.
        max_runtime_ms: Extensions end here after the reserve.
    """

    meta: dict[str, str] = {}
    max_attempts: int | None = None
    backoff: Backoff | None = None
    backoff_base_ms: int | None = None
    backoff_cap_ms: int | None = None
    backoff_jitter: int | None = None
    reservation_ms: int | None = None
    max_runtime_ms: int | None = None
    deadline_ms: int | None = None
    unique: UniqueSpec | None = None
    on_parent_failure: OnParentFailure = OnParentFailure.CASCADE


class Held(
    msgspec.Struct,
    frozen=True,
    array_like=True,
    gc=False,
    forbid_unknown_fields=True,
):
    """A reservation.

    Attributes:
        lease: The worker's session; 0 = it is over, and the grace runs.
        worker: Who, for people.
        since_ms: When it began, on the lease clock.
        until_ms: When it ends, or the grace.
        reservation_ms: How long one extension lasts.
        is_started: The worker extended or saved at least once.
        is_cancel_requested: The next reply to the worker says so.
    """

    lease: int
    worker: str
    since_ms: int
    until_ms: int
    reservation_ms: int
    is_started: bool = False
    is_cancel_requested: bool = False


class Trail(
    msgspec.Struct,
    frozen=True,
    array_like=True,
    gc=False,
    forbid_unknown_fields=True,
):
    """What workers left behind.

    Attributes:
        progress: Per mille.
        error: Of the last failed attempt or crash.
    """

    savepoint: bytes = b""
    progress: int = 0
    error: str = ""


class Outcome(
    msgspec.Struct,
    frozen=True,
    array_like=True,
    gc=False,
    forbid_unknown_fields=True,
):
    """How a job ended.

    Attributes:
        at_ms: On the lease clock.
        call: Which worker's call ended it.
        result: Its first bytes, as far as they are kept.
        result_bytes: How long the whole result was.
        is_payload_dropped: There was a payload, and it is gone.
    """

    at_ms: int
    call: EndingCall = EndingCall.NONE
    result: bytes = b""
    result_bytes: int = 0
    is_payload_dropped: bool = False


class Job(
    msgspec.Struct,
    array_like=True,
    gc=False,
    eq=False,
    forbid_unknown_fields=True,
):
    """One job.

    Attributes:
        due_ms: When a SCHEDULED job is due; later: when it last was.
        is_due_on_wall: ``due_ms`` is wall time.
        attempt: Failed attempts.
        crashes: Reservations that ended by themselves after work had started.
        delivery: Reservations so far.
        token: Of the newest reservation in this life of the job; 0 = none.
        client_id: The client's own id; empty = none.
        waits_for: Parents that have not ended yet.
    """

    id: int
    queue: str
    type: str
    priority: int
    enqueued_ms: int
    state: JobState
    due_ms: int = 0
    is_due_on_wall: bool = False
    attempt: int = 0
    crashes: int = 0
    delivery: int = 0
    token: int = 0
    client_id: str = ""
    content_type: str = ""
    group: str = ""
    waits_for: tuple[int, ...] = ()
    extra: Extra | None = None
    held: Held | None = None
    trail: Trail | None = None
    outcome: Outcome | None = None
    payload: bytes = b""


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Job).decode
_as_tuple: Final = msgspec.structs.astuple


def is_final(state: JobState) -> bool:
    """Tell whether a job in this state has ended."""
    return state >= _FIRST_FINAL


def order_of(job: Job) -> int:
    """Return a job's place among the ready: by priority, then by enqueue."""
    return job.priority << _PRIORITY_SHIFT | job.id


def size_of(job: Job) -> int:
    """Return what a job counts against ``state_bytes_max``."""
    size_bytes = (
        _JOB_BYTES
        + len(job.payload)
        + len(job.type)
        + len(job.client_id)
        + len(job.content_type)
        + len(job.group)
    )
    if job.extra is not None:
        for key, value in job.extra.meta.items():
            size_bytes += len(key) + len(value)
    if job.trail is not None:
        size_bytes += len(job.trail.savepoint) + len(job.trail.error)
    if job.outcome is not None:
        size_bytes += len(job.outcome.result)
    return size_bytes


def encode_job(job: Job) -> bytes:
    """Encode a job's row, without its payload."""
    return _encode(_as_tuple(job)[:-1])


def decode_job(data: bytes) -> Job:
    """Decode a job's row; texts that many jobs share are shared again."""
    job = _decode(data)
    job.queue = intern(job.queue)
    job.type = intern(job.type)
    job.content_type = intern(job.content_type)
    job.group = intern(job.group)
    return job
