"""Queues in the log: configure, pause, purge, delete, redrive.

Source: SEMANTICS.md section 6.
"""

from __future__ import annotations

import msgspec

from raftd.statemachine.schema.base import Command, Result
from raftd.statemachine.schema.jobs import Backoff, JobState

__all__ = [
    "ConfigureQueue",
    "DeleteQueue",
    "JobsRedriven",
    "PauseQueue",
    "PurgeQueue",
    "QueueConfigured",
    "QueueDeleted",
    "QueueOptions",
    "QueuePaused",
    "QueuePurged",
    "RedriveJobs",
]


class RedriveJobs(Command, frozen=True, tag=79):
    """Give finished jobs of a queue another life: same id, counters reset.

    Attributes:
        queue: Of which queue.
        states: Of DEAD, CANCELLED, EXPIRED (and DONE with ``is_forced``).
        jobs: Only these ids; empty = all of the states.
        type: Only of this type; empty = all.
        jobs_max: At most so many, 1 to 100000.
    """

    queue: str
    states: tuple[JobState, ...] = (JobState.DEAD,)
    jobs: tuple[int, ...] = ()
    type: str = ""
    jobs_max: int = 1000
    is_forced: bool = False


class JobsRedriven(Result, frozen=True, tag=79):
    """How many went back."""

    jobs: int


class QueueOptions(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A queue's settings, all optional: None = unchanged (at first: default).

    Defaults: depth 1000000, max_attempts 20, exponential 1 s to 1 h with 25 %
    jitter, reservation 30 s, max_crashes 5, grace 0, DONE kept 1 h, DEAD 14 d.
    """

    depth_max: int | None = None
    max_attempts: int | None = None
    max_crashes: int | None = None
    backoff: Backoff | None = None
    backoff_base_ms: int | None = None
    backoff_cap_ms: int | None = None
    backoff_jitter: int | None = None
    reservation_ms: int | None = None
    grace_ms: int | None = None
    concurrency_max: int | None = None
    may_complete_late: bool | None = None
    done_retention_ms: int | None = None
    dead_retention_ms: int | None = None


class ConfigureQueue(Command, frozen=True, tag=80):
    """Make a queue or change its options."""

    queue: str
    options: QueueOptions


class QueueConfigured(Result, frozen=True, tag=80):
    """Done."""


class PauseQueue(Command, frozen=True, tag=81):
    """Stop (or start again) handing out jobs."""

    queue: str
    is_paused: bool


class QueuePaused(Result, frozen=True, tag=81):
    """Done."""


class PurgeQueue(Command, frozen=True, tag=82):
    """Remove the jobs in these states (reserved ones never)."""

    queue: str
    states: tuple[JobState, ...]


class QueuePurged(Result, frozen=True, tag=82):
    """How many went."""

    jobs: int


class DeleteQueue(Command, frozen=True, tag=83):
    """Remove an empty queue, or one with jobs if ``is_forced``."""

    queue: str
    is_forced: bool = False


class QueueDeleted(Result, frozen=True, tag=83):
    """How many jobs went with it."""

    jobs: int
