"""What a job is to be: the options of an enqueue.

Source: SEMANTICS.md section 6 (Enqueue); proto/raftpb/v1/txn.proto, JobSpec.
"""

from __future__ import annotations

import datetime
import enum
from collections.abc import Mapping, Sequence
from typing import Final, TypedDict, Unpack

import msgspec

from raftclient._clock import to_ms
from raftclient._values import Data, as_bytes
from raftclient.errors import InvalidRequest
from raftpb.v1 import txn_pb2

__all__ = [
    "Backoff",
    "JobOptions",
    "JobSpec",
    "OnConflict",
    "Unique",
    "UniqueUntil",
    "backoff_from_wire",
    "backoff_to_wire",
    "check_options",
    "fill_job",
]


class Backoff(enum.StrEnum):
    """How the delay before another attempt grows."""

    EXPONENTIAL = "exponential"
    LINEAR = "linear"
    FIXED = "fixed"


class UniqueUntil(enum.StrEnum):
    """How long a unique key is taken."""

    STARTED = "started"
    DONE = "done"
    WINDOW = "window"


class OnConflict(enum.StrEnum):
    """What a second job under a unique key does."""

    REJECT = "reject"
    REPLACE = "replace"
    DEBOUNCE = "debounce"


class Unique(msgspec.Struct, frozen=True):
    """At most one job at a time under a key of the queue."""

    key: str
    until: UniqueUntil = UniqueUntil.DONE
    window_s: float = 0.0
    on_conflict: OnConflict = OnConflict.REJECT


class JobOptions(TypedDict, total=False):
    """What may be said of a job; what is left out is the queue's default."""

    type: str
    """For workers that serve some types only, and for people."""
    content_type: str
    meta: Mapping[str, str]
    priority: int
    """0 (first) to 9; 5 if left out."""
    delay_s: float
    """Not before so long from now."""
    run_at: datetime.datetime
    """Not before this time, with its zone."""
    max_attempts: int
    backoff: Backoff
    backoff_base_s: float
    backoff_cap_s: float
    backoff_jitter: int
    """Percent, 0 to 100."""
    reservation_s: float
    max_runtime_s: float
    deadline_s: float
    """EXPIRED if it still waits so long from now."""
    job_id: str
    """The caller's own id, unique in the cluster: the same again is the same job."""
    unique: Unique
    group: str
    """Jobs of a group run in order."""
    group_limit: int
    """At once in the group; 1 if left out."""
    after: Sequence[int]
    """Wait for these jobs."""
    runs_anyway: bool
    """Run even if a job of ``after`` ends other than DONE; else it is cancelled."""


_Wire = txn_pb2.JobSpec
_BACKOFFS: Final = {
    Backoff.EXPONENTIAL: txn_pb2.BACKOFF_EXPONENTIAL,
    Backoff.LINEAR: txn_pb2.BACKOFF_LINEAR,
    Backoff.FIXED: txn_pb2.BACKOFF_FIXED,
}
_UNTILS: Final = {
    UniqueUntil.STARTED: txn_pb2.UniqueSpec.UNTIL_STARTED,
    UniqueUntil.DONE: txn_pb2.UniqueSpec.UNTIL_DONE,
    UniqueUntil.WINDOW: txn_pb2.UniqueSpec.UNTIL_WINDOW,
}
_CONFLICTS: Final = {
    OnConflict.REJECT: txn_pb2.UniqueSpec.ON_CONFLICT_REJECT,
    OnConflict.REPLACE: txn_pb2.UniqueSpec.ON_CONFLICT_REPLACE,
    OnConflict.DEBOUNCE: txn_pb2.UniqueSpec.ON_CONFLICT_DEBOUNCE,
}
_SAME: Final = (
    "type",
    "content_type",
    "priority",
    "max_attempts",
    "backoff_jitter",
    "group",
    "group_limit",
)
_SPANS: Final = (
    "delay",
    "backoff_base",
    "backoff_cap",
    "reservation",
    "max_runtime",
    "deadline",
)


class JobSpec:
    """A job to be enqueued, without its queue."""

    __slots__ = ("_wire",)

    def __init__(self, payload: Data, **options: Unpack[JobOptions]) -> None:
        self._wire: Final = _Wire()
        fill_job(self._wire, payload, options)

    def to_wire(self, queue: str) -> txn_pb2.JobSpec:
        """Return the API's message for a queue."""
        wire = _Wire()
        wire.CopyFrom(self._wire)
        wire.queue = queue
        return wire


def backoff_to_wire(backoff: Backoff) -> txn_pb2.Backoff.ValueType:
    """Return the API's number."""
    return _BACKOFFS[backoff]


def backoff_from_wire(number: txn_pb2.Backoff.ValueType) -> Backoff | None:
    """Return ours; None = unspecified."""
    return next((b for b, n in _BACKOFFS.items() if n == number), None)


def check_options(kind: type, options: Mapping[str, object]) -> None:
    """Refuse names that a TypedDict does not have; Python itself would take them.

    Raises:
        InvalidRequest: There is no such option.
    """
    unknown = sorted(options.keys() - kind.__annotations__.keys())
    if unknown:
        raise InvalidRequest(f"there is no option {unknown[0]!r}")


def fill_job(wire: txn_pb2.JobSpec, payload: Data, options: JobOptions) -> None:
    """Fill the API's message, all but its queue.

    Raises:
        InvalidRequest: There is no such option.
    """
    wire.payload = as_bytes(payload)
    if options:
        check_options(JobOptions, options)
        _fill_options(wire, options)


def _fill_options(wire: txn_pb2.JobSpec, options: JobOptions) -> None:
    given: Mapping[str, object] = {**options}
    for name in _SAME:
        if name in given:
            setattr(wire, name, given[name])
    for name in _SPANS:
        span_s = given.get(f"{name}_s")
        if isinstance(span_s, int | float):
            setattr(wire, f"{name}_ms", to_ms(span_s))
    if "meta" in options:
        wire.meta.update(options["meta"])
    if "run_at" in options:
        wire.run_at_ms = to_ms(options["run_at"].timestamp())
    if "backoff" in options:
        wire.backoff = _BACKOFFS[options["backoff"]]
    if "job_id" in options:
        wire.client_id = options["job_id"]
    if "after" in options:
        wire.after.extend(options["after"])
    if options.get("runs_anyway"):
        wire.on_parent_failure = _Wire.ON_PARENT_FAILURE_CONTINUE
    unique = options.get("unique")
    if unique is not None:
        wire.unique.key = unique.key
        wire.unique.until = _UNTILS[unique.until]
        wire.unique.window_ms = to_ms(unique.window_s)
        wire.unique.on_conflict = _CONFLICTS[unique.on_conflict]
