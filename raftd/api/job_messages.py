"""Jobs, reservations and queues as messages.

Rules: times leave as spans (ago, from now), because the lease clock means nothing to a
client.

Source: SEMANTICS.md section 6.
"""

from __future__ import annotations

from typing import Final

from raftd.statemachine.machine import Machine
from raftd.statemachine.queues import JobView, QueueStats
from raftd.statemachine.schema.jobs import JobsEnqueued, JobState, ReservedJob
from raftd.statemachine.schema.queues import QueueOptions
from raftpb.v1 import queues_pb2, txn_pb2

__all__ = ["fill_enqueued", "fill_job", "fill_queue", "fill_reserved", "state_of"]

_OPTIONS: Final = (
    "depth_max",
    "max_attempts",
    "max_crashes",
    "backoff_base_ms",
    "backoff_cap_ms",
    "backoff_jitter",
    "reservation_ms",
    "grace_ms",
    "concurrency_max",
    "may_complete_late",
    "done_retention_ms",
    "dead_retention_ms",
)


def state_of(state: JobState | None) -> queues_pb2.JobState.ValueType:
    """Translate a state; None (gone, or not yet there) is unspecified."""
    return queues_pb2.JobState.ValueType(state or 0)


def fill_enqueued(
    response: queues_pb2.EnqueueJobsResponse, result: JobsEnqueued, machine: Machine
) -> None:
    """Write what became of the jobs of an enqueue."""
    response.SetInParent()
    # Fields are set one by one, and only if they say something: each costs.
    add = response.jobs.add
    for job, state, existed in zip(
        result.ids, result.states, result.existed, strict=True
    ):
        message = add()
        message.job_id = job
        message.state = state_of(state)
        if existed:
            message.existed = True


def fill_reserved(
    message: queues_pb2.ReservedJob, job: ReservedJob, now_ms: int
) -> None:
    """Write a job that goes into a worker's hands."""
    message.job_id = job.id
    message.token = job.token
    message.queue = job.queue
    message.payload = job.payload
    message.delivery = job.delivery
    message.reservation_ms = job.reservation_ms
    if now_ms > job.enqueued_ms:
        message.age_ms = now_ms - job.enqueued_ms
    # Most jobs have none of these, and to set nothing costs as much as anything.
    if job.type:
        message.type = job.type
    if job.content_type:
        message.content_type = job.content_type
    if job.meta:
        message.meta.update(job.meta)
    if job.client_id:
        message.client_id = job.client_id
    if job.attempt:
        message.attempt = job.attempt
    if job.savepoint:
        message.savepoint = job.savepoint


def fill_job(
    message: queues_pb2.Job, job: JobView, machine: Machine, *, has_payloads: bool
) -> None:
    """Write a job as the state has it."""
    now_ms = machine.context.now_ms
    message.job_id = job.id
    message.client_id = job.client_id
    message.queue = job.queue
    message.type = job.type
    message.state = state_of(job.state)
    message.priority = job.priority
    message.content_type = job.content_type
    message.meta.update(job.meta)
    message.attempt = job.attempt
    message.max_attempts = job.max_attempts
    message.delivery = job.delivery
    message.crashes = job.crashes
    message.error = job.error
    message.progress = job.progress
    message.age_ms = max(0, now_ms - job.enqueued_ms)
    message.group = job.group
    message.after.extend(job.waits_for)
    message.cancel_requested = job.is_cancel_requested
    if has_payloads:
        message.payload = job.payload
        message.result = job.result
        message.savepoint = job.savepoint
    if job.state is JobState.RESERVED:
        message.worker = job.worker
        message.lease_id = job.lease
        message.token = job.token
        message.due_in_ms = max(0, job.reserved_until_ms - now_ms)
    elif job.state is JobState.SCHEDULED:
        clock_ms = machine.context.wall_ms if job.is_due_on_wall else now_ms
        message.due_in_ms = max(0, job.due_ms - clock_ms)


def fill_queue(
    message: queues_pb2.Queue, stats: QueueStats, options: QueueOptions
) -> None:
    """Write a queue's counts and the settings in force."""
    message.name = stats.name
    message.is_paused = stats.is_paused
    for state, count in stats.counts.items():
        setattr(message, state.name.lower(), count)
    message.oldest_ready_ms = stats.oldest_ready_ms or 0
    message.enqueued_total = stats.enqueued
    message.completed_total = stats.completed
    message.failed_total = stats.failed
    message.dead_total = stats.dead
    for name in _OPTIONS:
        setattr(message.options, name, getattr(options, name))
    message.options.backoff = txn_pb2.Backoff.ValueType(options.backoff or 0)
