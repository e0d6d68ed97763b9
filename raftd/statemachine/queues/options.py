"""A queue's settings: defaults, bounds, and what a job's own settings change.

Source: SEMANTICS.md section 6; ``schema.queues.QueueOptions``.
"""

from typing import Final

import msgspec

from raftd.statemachine.claim_checks import check_range
from raftd.statemachine.queues.jobs import Job
from raftd.statemachine.queues.mixing import mix
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.jobs import Backoff
from raftd.statemachine.schema.queues import QueueOptions

__all__ = [
    "DEFAULT_OPTIONS",
    "SPAN_MS_MAX",
    "attempts_max",
    "check_options",
    "merge_options",
    "retry_delay_ms",
]

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
SPAN_MS_MAX: Final = 366 * _DAY_MS
"""The longest delay, deadline, runtime or retention."""

_COUNT_MAX: Final = 1_000_000_000
_DOUBLINGS_MAX: Final = 40
_JITTER_STEPS: Final = 1 << 16

DEFAULT_OPTIONS: Final = QueueOptions(
    depth_max=1_000_000,
    max_attempts=20,
    max_crashes=5,
    backoff=Backoff.EXPONENTIAL,
    backoff_base_ms=1000,
    backoff_cap_ms=_HOUR_MS,
    backoff_jitter=25,
    reservation_ms=30_000,
    grace_ms=0,
    concurrency_max=0,
    may_complete_late=False,
    done_retention_ms=_HOUR_MS,
    dead_retention_ms=14 * _DAY_MS,
)

_RANGES: Final = (
    ("depth_max", 1, _COUNT_MAX),
    ("max_attempts", 1, _COUNT_MAX),
    ("max_crashes", 1, _COUNT_MAX),
    ("backoff_base_ms", 0, SPAN_MS_MAX),
    ("backoff_cap_ms", 0, SPAN_MS_MAX),
    ("backoff_jitter", 0, 100),
    ("reservation_ms", 1, _DAY_MS),
    ("grace_ms", 0, _HOUR_MS),
    ("concurrency_max", 0, _COUNT_MAX),
    ("done_retention_ms", 0, SPAN_MS_MAX),
    ("dead_retention_ms", 0, SPAN_MS_MAX),
)


def check_options(options: QueueOptions) -> Refusal | None:
    """Refuse a setting out of its bounds."""
    for name, least, most in _RANGES:
        value = getattr(options, name)
        if value is not None:
            refusal = check_range(name, value, least, most)
            if refusal is not None:
                return refusal
    return None


def merge_options(options: QueueOptions, changes: QueueOptions) -> QueueOptions:
    """Return the settings with those that ``changes`` names."""
    named = {
        name: value
        for name in changes.__struct_fields__
        if (value := getattr(changes, name)) is not None
    }
    return msgspec.structs.replace(options, **named)


def attempts_max(job: Job, options: QueueOptions) -> int:
    """Return how many failed attempts a job may have."""
    own = job.extra.max_attempts if job.extra is not None else None
    limit = options.max_attempts if own is None else own
    assert limit is not None
    return limit


def retry_delay_ms(job: Job, options: QueueOptions, failures: int) -> int:
    """Return the delay after so many failed attempts, or crashes.

    Jitter takes a part off that follows from (job id, failures): the same on every
    member, different for jobs that failed together.
    """
    shape, base_ms, cap_ms, jitter = _backoff_of(job, options)
    if shape is Backoff.EXPONENTIAL:
        delay_ms = base_ms << min(failures - 1, _DOUBLINGS_MAX)
    elif shape is Backoff.LINEAR:
        delay_ms = base_ms * failures
    else:
        delay_ms = base_ms
    delay_ms = min(delay_ms, cap_ms)
    part = mix(job.id, failures) % (_JITTER_STEPS + 1)
    return delay_ms - delay_ms * jitter * part // (100 * _JITTER_STEPS)


def _backoff_of(job: Job, options: QueueOptions) -> tuple[Backoff, int, int, int]:
    shape, base_ms = options.backoff, options.backoff_base_ms
    cap_ms, jitter = options.backoff_cap_ms, options.backoff_jitter
    extra = job.extra
    if extra is not None:
        shape = shape if extra.backoff is None else extra.backoff
        base_ms = base_ms if extra.backoff_base_ms is None else extra.backoff_base_ms
        cap_ms = cap_ms if extra.backoff_cap_ms is None else extra.backoff_cap_ms
        jitter = jitter if extra.backoff_jitter is None else extra.backoff_jitter
    assert shape is not None
    assert base_ms is not None
    assert cap_ms is not None
    assert jitter is not None
    return shape, base_ms, cap_ms, jitter
