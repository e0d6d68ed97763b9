"""Jobs to be enqueued: from message to specification.

Rules: what is absent stays None, the queue decides; an enum's 0 is absence. Sizes and
ranges are judged by the state machine's own check, before the job costs an entry.

Source: SEMANTICS.md section 6 (Enqueue).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raftd.api.checks import enum_of, invalid, optional_of
from raftd.api.limits import DoorLimits
from raftd.statemachine.queues.specs import check_spec
from raftd.statemachine.refusals import check_name, too_large
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.jobs import (
    Backoff,
    EnqueueJobs,
    JobSpec,
    OnConflict,
    OnParentFailure,
    UniqueSpec,
    UniqueUntil,
)
from raftpb.v1 import txn_pb2

__all__ = ["backoff_of", "to_enqueue"]

_PRIORITY_DEFAULT: Final = 5


def to_enqueue(
    jobs: Sequence[txn_pb2.JobSpec], limits: DoorLimits
) -> EnqueueJobs | Refusal:
    """Translate the jobs of one enqueue."""
    if not jobs:
        return invalid("an enqueue has at least one job")
    limit = limits.apply.enqueue_jobs_max
    if len(jobs) > limit:
        return too_large("the number of jobs", len(jobs), "enqueue_jobs_max", limit)
    specs = []
    for message in jobs:
        spec = _spec_of(message, limits)
        if isinstance(spec, Refusal):
            return spec
        specs.append(spec)
    return EnqueueJobs(tuple(specs))


def backoff_of(number: int) -> Backoff | Refusal | None:
    """Translate a backoff; 0 = absent."""
    return enum_of(Backoff, number) if number else None


def _spec_of(message: txn_pb2.JobSpec, limits: DoorLimits) -> JobSpec | Refusal:
    backoff = backoff_of(message.backoff)
    if isinstance(backoff, Refusal):
        return backoff
    on_failure = enum_of(
        OnParentFailure, message.on_parent_failure, OnParentFailure.CASCADE
    )
    if isinstance(on_failure, Refusal):
        return on_failure
    unique = _unique_of(message)
    if isinstance(unique, Refusal):
        return unique
    priority = optional_of(message, "priority", message.priority)
    spec = JobSpec(
        queue=message.queue,
        payload=message.payload,
        type=message.type,
        content_type=message.content_type,
        meta=dict(message.meta),
        priority=_PRIORITY_DEFAULT if priority is None else priority,
        delay_ms=optional_of(message, "delay_ms", message.delay_ms),
        run_at_ms=optional_of(message, "run_at_ms", message.run_at_ms),
        max_attempts=optional_of(message, "max_attempts", message.max_attempts),
        backoff=backoff,
        backoff_base_ms=optional_of(
            message, "backoff_base_ms", message.backoff_base_ms
        ),
        backoff_cap_ms=optional_of(message, "backoff_cap_ms", message.backoff_cap_ms),
        backoff_jitter=optional_of(message, "backoff_jitter", message.backoff_jitter),
        reservation_ms=optional_of(message, "reservation_ms", message.reservation_ms),
        max_runtime_ms=optional_of(message, "max_runtime_ms", message.max_runtime_ms),
        deadline_ms=optional_of(message, "deadline_ms", message.deadline_ms),
        client_id=message.client_id,
        unique=unique,
        group=message.group,
        group_limit=message.group_limit or 1,
        after=tuple(message.after),
        on_parent_failure=on_failure,
    )
    apply = limits.apply
    return (
        check_name("queue", spec.queue, apply.name_bytes_max)
        or check_spec(spec, apply)
        or spec
    )


def _unique_of(message: txn_pb2.JobSpec) -> UniqueSpec | Refusal | None:
    if not message.HasField("unique"):
        return None
    unique = message.unique
    until = enum_of(UniqueUntil, unique.until, UniqueUntil.DONE)
    if isinstance(until, Refusal):
        return until
    if (until is UniqueUntil.WINDOW) != bool(unique.window_ms):
        return invalid("a window goes with a key that is unique for a window")
    on_conflict = enum_of(OnConflict, unique.on_conflict, OnConflict.REJECT)
    if isinstance(on_conflict, Refusal):
        return on_conflict
    return UniqueSpec(unique.key, until, unique.window_ms, on_conflict)
