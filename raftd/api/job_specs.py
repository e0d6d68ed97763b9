"""Jobs to be enqueued: from message to specification.

Rules: what is absent stays None, the queue decides; an enum's 0 is absence. Sizes and
ranges are judged by the state machine's own check, before the job costs an entry.

Source: SEMANTICS.md section 6 (Enqueue).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from raftd.api.checks import enum_of, invalid
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

_NAMES: Final = {field: field.name for field in txn_pb2.JobSpec.DESCRIPTOR.fields}


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
    # Most of the fields are absent: asking for those that are there is five times as
    # fast as reading them all.
    given: dict[str, Any] = {
        _NAMES[field]: value for field, value in message.ListFields()
    }
    if not _TRANSLATORS.keys().isdisjoint(given):
        refusal = _translate(given)
        if refusal is not None:
            return refusal
    spec = JobSpec(given.pop("queue", ""), given.pop("payload", b""), **given)
    apply = limits.apply
    return (
        check_name("queue", spec.queue, apply.name_bytes_max)
        or check_spec(spec, apply)
        or spec
    )


def _translate(given: dict[str, Any]) -> Refusal | None:
    """Translate the fields of a job, in place, that have another form in the state."""
    for name, translate in _TRANSLATORS.items():
        if name in given:
            translated = translate(given[name])
            if isinstance(translated, Refusal):
                return translated
            given[name] = translated
    return None


def _unique_of(unique: txn_pb2.UniqueSpec) -> UniqueSpec | Refusal:
    until = enum_of(UniqueUntil, unique.until, UniqueUntil.DONE)
    if isinstance(until, Refusal):
        return until
    if (until is UniqueUntil.WINDOW) != bool(unique.window_ms):
        return invalid("a window goes with a key that is unique for a window")
    on_conflict = enum_of(OnConflict, unique.on_conflict, OnConflict.REJECT)
    if isinstance(on_conflict, Refusal):
        return on_conflict
    return UniqueSpec(unique.key, until, unique.window_ms, on_conflict)


def _on_failure_of(number: int) -> OnParentFailure | Refusal:
    return enum_of(OnParentFailure, number)


_TRANSLATORS: Final[dict[str, Callable[[Any], Any]]] = {
    "backoff": backoff_of,
    "on_parent_failure": _on_failure_of,
    "unique": _unique_of,
    "meta": dict,
    "after": tuple,
}
"""Of the fields whose values do not go into the specification as they are; in the order
in which they are judged."""
