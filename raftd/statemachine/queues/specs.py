"""Judges what an enqueue asks for, before anything of it is done.

Source: SEMANTICS.md sections 0 and 6; ``schema.jobs.JobSpec``.
"""

from typing import Final

from raftd.statemachine import refusals
from raftd.statemachine.claim_checks import check_range
from raftd.statemachine.limits import Limits
from raftd.statemachine.queues.options import SPAN_MS_MAX
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.jobs import JobSpec, UniqueSpec, UniqueUntil

__all__ = ["RESERVATION_MS_MAX", "check_size", "check_spec", "has_extra"]

RESERVATION_MS_MAX: Final = 24 * 3_600_000
_PRIORITY_MAX: Final = 9
_COUNT_MAX: Final = 1_000_000_000
_WALL_MS_MAX: Final = 1 << 50
_RANGES: Final = (
    ("max_attempts", 1, _COUNT_MAX),
    ("backoff_base_ms", 0, SPAN_MS_MAX),
    ("backoff_cap_ms", 0, SPAN_MS_MAX),
    ("backoff_jitter", 0, 100),
    ("reservation_ms", 1, RESERVATION_MS_MAX),
    ("max_runtime_ms", 1, SPAN_MS_MAX),
    ("deadline_ms", 1, SPAN_MS_MAX),
)


def check_spec(spec: JobSpec, limits: Limits) -> Refusal | None:
    """Refuse a job that cannot be; its queue's name is judged elsewhere."""
    if len(spec.payload) > limits.value_bytes_max:
        return check_size(
            "the payload", len(spec.payload), "value_bytes_max", limits.value_bytes_max
        )
    if not 0 <= spec.priority <= _PRIORITY_MAX:
        return check_range("priority", spec.priority, 0, _PRIORITY_MAX)
    characters = (
        len(spec.type) + len(spec.content_type) + len(spec.client_id) + len(spec.group)
    )
    # A character has at most four bytes; usually that is all there is to check.
    if spec.meta or characters * 4 > limits.name_bytes_max:
        refusal = _check_texts(spec, limits)
        if refusal is not None:
            return refusal
    if spec.delay_ms is not None or spec.run_at_ms is not None:
        refusal = _check_times(spec)
        if refusal is not None:
            return refusal
    if spec.group and not 1 <= spec.group_limit <= limits.group_limit_max:
        return check_range("group_limit", spec.group_limit, 1, limits.group_limit_max)
    return _check_extra(spec, limits) if has_extra(spec) else None


def has_extra(spec: JobSpec) -> bool:
    """Tell whether a job has settings of its own."""
    return bool(
        spec.meta
        or spec.unique is not None
        or spec.max_attempts is not None
        or spec.backoff is not None
        or spec.backoff_base_ms is not None
        or spec.backoff_cap_ms is not None
        or spec.backoff_jitter is not None
        or spec.reservation_ms is not None
        or spec.max_runtime_ms is not None
        or spec.deadline_ms is not None
        or spec.after
    )


def check_size(what: str, size: int, name: str, limit: int) -> Refusal | None:
    """Refuse what is over a limit."""
    return None if size <= limit else refusals.too_large(what, size, name, limit)


def _check_extra(spec: JobSpec, limits: Limits) -> Refusal | None:
    if len(spec.after) > limits.job_parents_max:
        return check_size(
            "the number of parents",
            len(spec.after),
            "job_parents_max",
            limits.job_parents_max,
        )
    refusal = None
    if spec.unique is not None:
        refusal = _check_unique(spec.unique, limits)
    return _check_settings(spec) if refusal is None else refusal


def _check_texts(spec: JobSpec, limits: Limits) -> Refusal | None:
    limit = limits.name_bytes_max
    for what, text in (
        ("the type", spec.type),
        ("the content type", spec.content_type),
        ("the client's id", spec.client_id),
        ("the group", spec.group),
    ):
        refusal = refusals.check_text(what, text, "name_bytes_max", limit)
        if refusal is not None:
            return refusal
    size_bytes = sum(
        len(key.encode()) + len(value.encode()) for key, value in spec.meta.items()
    )
    return check_size(
        "the meta", size_bytes, "job_meta_bytes_max", limits.job_meta_bytes_max
    )


def _check_times(spec: JobSpec) -> Refusal | None:
    delay_ms, run_at_ms = spec.delay_ms, spec.run_at_ms
    if delay_ms is None:
        if run_at_ms is None:
            return None
        return check_range("run_at_ms", run_at_ms, 0, _WALL_MS_MAX)
    if run_at_ms is not None:
        return Refusal(
            Reason.INVALID_REQUEST, "a job has either a delay or a run_at, not both"
        )
    return check_range("delay_ms", delay_ms, 0, SPAN_MS_MAX)


def _check_settings(spec: JobSpec) -> Refusal | None:
    for name, least, most in _RANGES:
        value = getattr(spec, name)
        if value is not None:
            refusal = check_range(name, value, least, most)
            if refusal is not None:
                return refusal
    return None


def _check_unique(unique: UniqueSpec, limits: Limits) -> Refusal | None:
    key_bytes = len(unique.key.encode())
    if not key_bytes:
        return Refusal(Reason.INVALID_REQUEST, "the unique key is empty")
    if unique.until is UniqueUntil.WINDOW:
        refusal = check_range("window_ms", unique.window_ms, 1, SPAN_MS_MAX)
        if refusal is not None:
            return refusal
    return check_size(
        "the unique key", key_bytes, "key_bytes_max", limits.key_bytes_max
    )
