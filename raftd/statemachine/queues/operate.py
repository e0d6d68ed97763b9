"""What an operator, or a client, does to jobs and queues from outside.

Rules:
* Cancel ends a waiting job at once; a reserved one is asked for at its worker, and
  ends when the worker confirms or the reservation ends, unless it was completed.
* Purge, redrive and delete do at most ``work_rows_max`` jobs in the command; the rest
  is a task. The answer counts all of them. A deleted queue is gone for everybody at
  once, but its name is free only when its jobs are removed.

Source: SEMANTICS.md section 6.
"""

from typing import Final

import msgspec

from raftd.statemachine import refusals
from raftd.statemachine.claim_checks import check_range
from raftd.statemachine.context import Context
from raftd.statemachine.queues.enqueue import Enqueue
from raftd.statemachine.queues.jobs import FINAL_STATES, is_final
from raftd.statemachine.queues.life import Life
from raftd.statemachine.queues.options import check_options, merge_options
from raftd.statemachine.queues.queue import Queue
from raftd.statemachine.queues.specs import check_size
from raftd.statemachine.queues.table import JobTable
from raftd.statemachine.queues.work import Work
from raftd.statemachine.queues.worker import no_such_job
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.jobs import CancelJob, JobCancelled, JobState
from raftd.statemachine.schema.queues import (
    ConfigureQueue,
    DeleteQueue,
    JobsRedriven,
    PauseQueue,
    PurgeQueue,
    QueueConfigured,
    QueueDeleted,
    QueuePaused,
    QueuePurged,
    RedriveJobs,
)

__all__ = ["Operate"]


class Operate:
    """The handlers of the verbs that are no worker's."""

    def __init__(
        self,
        context: Context,
        table: JobTable,
        life: Life,
        enqueue: Enqueue,
        work: Work,
    ) -> None:
        self._context: Final = context
        self._table: Final = table
        self._life: Final = life
        self._enqueue: Final = enqueue
        self._work: Final = work

    # --- one job ---------------------------------------------------------------

    def cancel(self, command: CancelJob) -> JobCancelled | Refusal:
        """Cancel a waiting job, or ask for a reserved one."""
        job = self._table.find(command.job)
        if job is None:
            return no_such_job(command.job)
        if job.state is JobState.CANCELLED:
            return JobCancelled(JobState.CANCELLED)
        if is_final(job.state):
            return Refusal(
                Reason.JOB_FINAL,
                f"job {job.id} is {job.state.name}",
                {"job": str(job.id), "state": job.state.name},
            )
        self._context.rev()
        self._table.touch(job)
        if job.held is None:
            self._life.finish(job, JobState.CANCELLED)
        else:
            job.held = msgspec.structs.replace(job.held, is_cancel_requested=True)
        return JobCancelled(job.state)

    # --- settings --------------------------------------------------------------

    def configure(self, command: ConfigureQueue) -> QueueConfigured | Refusal:
        """Make a queue, or change its settings."""
        refusal = check_options(command.options)
        if refusal is not None:
            return refusal
        queue = self._enqueue.queue_named(command.queue)
        if isinstance(queue, Refusal):
            return queue
        options = merge_options(queue.options, command.options)
        if options != queue.options:
            self._table.touch_queue(queue, "options")
            queue.options = options
            self._life.retention.rearm(queue)
        return QueueConfigured()

    def pause(self, command: PauseQueue) -> QueuePaused | Refusal:
        """Stop or start handing out jobs."""
        queue = self._find(command.queue)
        if isinstance(queue, Refusal):
            return queue
        if queue.is_paused != command.is_paused:
            self._table.touch_queue(queue, "is_paused")
            queue.is_paused = command.is_paused
        return QueuePaused()

    # --- many jobs -------------------------------------------------------------

    def purge(self, command: PurgeQueue) -> QueuePurged | Refusal:
        """Remove the jobs in some states."""
        queue = self._find(command.queue)
        if isinstance(queue, Refusal):
            return queue
        states = tuple(sorted(dict.fromkeys(command.states)))
        if not states:
            return Refusal(Reason.INVALID_REQUEST, "a purge names no state")
        if JobState.RESERVED in states:
            return Refusal(
                Reason.INVALID_REQUEST, "jobs in workers' hands are never purged"
            )
        count = sum(queue.counts[state] for state in states)
        if count:
            self._work.purge(queue, states, count)
        return QueuePurged(count)

    def delete(self, command: DeleteQueue) -> QueueDeleted | Refusal:
        """Remove a queue, with its jobs if forced."""
        queue = self._find(command.queue)
        if isinstance(queue, Refusal):
            return queue
        count = len(queue.ids)
        # What is DONE is kept for a look only: a drained queue counts as empty.
        if count > queue.counts[JobState.DONE] and not command.is_forced:
            return Refusal(
                Reason.PRECONDITION,
                f'queue "{queue.name}" still has {count} jobs',
                {"queue": queue.name, "size": str(count)},
            )
        self._table.touch_queue(queue, "is_deleted")
        queue.is_deleted = True
        self._work.delete(queue)
        return QueueDeleted(count)

    def redrive(self, command: RedriveJobs) -> JobsRedriven | Refusal:
        """Give final jobs another life."""
        refusal = self._check_redrive(command)
        if refusal is not None:
            return refusal
        queue = self._find(command.queue)
        if isinstance(queue, Refusal):
            return queue
        room = max(0, (queue.options.depth_max or 0) - queue.depth)
        count_max = min(command.jobs_max, room)
        if command.jobs:
            return JobsRedriven(self._redrive_named(queue, command, count_max))
        states = tuple(sorted(dict.fromkeys(command.states)))
        return JobsRedriven(self._work.redrive(queue, states, command.type, count_max))

    def _redrive_named(self, queue: Queue, command: RedriveJobs, count_max: int) -> int:
        self._context.rev()
        done = 0
        for number in dict.fromkeys(command.jobs):
            if done == count_max:
                break
            job = self._table.find(number)
            if job is None or job.queue != queue.name:
                continue
            if job.state in command.states and self._work.may_revive(job):
                self._work.revive(job)
                done += 1
        return done

    def _check_redrive(self, command: RedriveJobs) -> Refusal | None:
        limits = self._context.limits
        allowed = FINAL_STATES if command.is_forced else FINAL_STATES[1:]
        for state in command.states:
            if state not in allowed:
                return Refusal(
                    Reason.INVALID_REQUEST,
                    f"jobs that are {state.name} are not redriven"
                    + (" unless forced" if state is JobState.DONE else ""),
                    {"state": state.name},
                )
        return (
            check_range("jobs_max", command.jobs_max, 1, limits.redrive_jobs_max)
            or check_size(
                "the number of jobs",
                len(command.jobs),
                "work_rows_max",
                limits.work_rows_max,
            )
            or refusals.check_text(
                "the type", command.type, "name_bytes_max", limits.name_bytes_max
            )
        )

    def _find(self, name: str) -> Queue | Refusal:
        queue = self._table.find_queue(name)
        if queue is not None:
            return queue
        return Refusal(Reason.NOT_FOUND, f'there is no queue "{name}"', {"queue": name})
