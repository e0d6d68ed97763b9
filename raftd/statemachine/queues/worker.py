"""The calls of a worker: extend, save, complete, fail, snooze, release.

Rules, for every call, by what the token still means:
* current, and the reservation runs: done;
* the last one issued, but the reservation is over: ``RESERVATION_EXPIRED``; a Complete
  is accepted even so where the queue allows it;
* another one was issued since: ``RESERVATION_LOST``;
* the job ended by this very call: the first answer; by anything else: ``JOB_FINAL``;
* no such job: ``NOT_FOUND``.

Source: SEMANTICS.md section 6 (Token on every worker call).
"""

from typing import Final

import msgspec

from raftd.statemachine import refusals
from raftd.statemachine.claim_checks import check_growth, check_range
from raftd.statemachine.context import Context
from raftd.statemachine.queues.jobs import EndingCall, Held, Job, Trail, is_final
from raftd.statemachine.queues.life import Life
from raftd.statemachine.queues.options import (
    SPAN_MS_MAX,
    attempts_max,
    retry_delay_ms,
)
from raftd.statemachine.queues.queue import Queue, Total
from raftd.statemachine.queues.specs import RESERVATION_MS_MAX, check_size
from raftd.statemachine.queues.table import JobTable, TimerKind
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.jobs import (
    CompleteJob,
    ExtendJob,
    FailJob,
    JobCompleted,
    JobExtended,
    JobFailed,
    JobReleased,
    JobSaved,
    JobSnoozed,
    JobState,
    ReleaseJob,
    SavepointJob,
    SnoozeJob,
)

__all__ = ["Worker", "no_such_job"]

_PROGRESS_MAX: Final = 1000
_DONE: Final = JobState.DONE  # an enum's member costs a look-up each time
_COMPLETE: Final = EndingCall.COMPLETE
_COMPLETED: Final = JobCompleted()


class Worker:
    """The handlers of a worker's calls."""

    def __init__(self, context: Context, table: JobTable, life: Life) -> None:
        self._context: Final = context
        self._table: Final = table
        self._life: Final = life

    # --- the token -------------------------------------------------------------

    def holds(self, job: int, token: int) -> bool:
        """Tell whether this token is the job's live reservation."""
        found = self._table.find(job)
        return (
            found is not None
            and found.token == token
            and found.held is not None
            and found.held.lease != 0
        )

    def current_token(self, job: int) -> int:
        """Return the token of the job's live reservation; 0 = not reserved."""
        found = self._table.find(job)
        if found is None or found.held is None or not found.held.lease:
            return 0
        return found.token

    def _live(self, number: int, token: int) -> Job | Refusal:
        """Return the job if the token is its live reservation's."""
        job = self._table.find(number)
        if job is None:
            return no_such_job(number)
        held = job.held
        if held is not None and job.token == token and held.lease:
            return job
        return _refuse_token(job, token)

    def why_not_completed(self, number: int, token: int) -> Refusal | None:
        """Return what keeps a token from completing its job; None if it has or may."""
        job = self._live(number, token)
        if not isinstance(job, Refusal):
            return None
        is_done = self._ended(number, token, EndingCall.COMPLETE) is not None
        return None if is_done else job

    # --- calls that keep the job -----------------------------------------------

    def extend(self, command: ExtendJob) -> JobExtended | Refusal:
        """Have the reservation last for its length again, or for ``for_ms``."""
        for_ms = command.for_ms
        if for_ms is not None and not 1 <= for_ms <= RESERVATION_MS_MAX:
            return check_range("for_ms", for_ms, 1, RESERVATION_MS_MAX) or _impossible()
        job = self._live(command.job, command.token)
        if isinstance(job, Refusal):
            return job
        self._context.rev()
        self._table.touch(job)
        held = self._prolong(job, for_ms)
        return JobExtended(
            held.until_ms - self._context.now_ms, held.is_cancel_requested
        )

    def save(self, command: SavepointJob) -> JobSaved | Refusal:
        """Store progress with the job, and extend."""
        context = self._context
        savepoint, progress = command.savepoint, command.progress
        limit = context.limits.value_bytes_max
        refusal = check_size(
            "the savepoint", len(savepoint or b""), "value_bytes_max", limit
        )
        if refusal is None and progress is not None:
            refusal = check_range("progress", progress, 0, _PROGRESS_MAX)
        if refusal is not None:
            return refusal
        job = self._live(command.job, command.token)
        if isinstance(job, Refusal):
            return job
        context.rev()
        trail = job.trail or Trail()
        if savepoint is not None:
            growth_bytes = len(savepoint) - len(trail.savepoint)
            refusal = check_growth(context, growth_bytes)
            if refusal is not None:
                return refusal
            context.size_bytes += growth_bytes
        self._table.touch(job)
        job.trail = Trail(
            trail.savepoint if savepoint is None else savepoint,
            trail.progress if progress is None else progress,
            trail.error,
        )
        held = self._prolong(job, None)
        return JobSaved(held.until_ms - context.now_ms, held.is_cancel_requested)

    def _prolong(self, job: Job, for_ms: int | None) -> Held:
        held, extra = job.held, job.extra
        assert held is not None
        now_ms = self._context.now_ms
        until_ms = now_ms + (held.reservation_ms if for_ms is None else for_ms)
        if extra is not None and extra.max_runtime_ms is not None:
            # A timer beyond the entry's cap may still be owed: never below now.
            ends_ms = held.since_ms + extra.max_runtime_ms
            until_ms = max(now_ms, min(until_ms, ends_ms))
        if until_ms < held.until_ms:
            self._table.arm(TimerKind.RESERVATION, job.token, until_ms)
        prolonged = msgspec.structs.replace(held, until_ms=until_ms, is_started=True)
        job.held = prolonged
        return prolonged

    # --- calls that give the job back ------------------------------------------

    def complete(self, command: CompleteJob) -> JobCompleted | Refusal:
        """End the job as DONE, alone or inside a transaction."""
        limit = self._context.limits.value_bytes_max
        if len(command.result) > limit:
            return refusals.too_large(
                "the result", len(command.result), "value_bytes_max", limit
            )
        job = self._live(command.job, command.token)
        if isinstance(job, Refusal):
            late = self._completed_late(command)
            if late is None:
                return job
            if is_final(late.state):
                return JobCompleted()
            job = late
        self._context.rev()
        self._table.touch(job)
        self._life.finish(job, _DONE, _COMPLETE, command.result)
        return _COMPLETED

    def _completed_late(self, command: CompleteJob) -> Job | None:
        """Return the job if the call ended it before, or may end it late."""
        job = self._table.find(command.job)
        if job is None or not command.token or job.token != command.token:
            return None
        if _ended_by(job, EndingCall.COMPLETE):
            return job
        options = self._table.queues[job.queue].options
        if options.may_complete_late and not is_final(job.state):
            return job
        return None

    def fail(self, command: FailJob) -> JobFailed | Refusal:
        """Count a failed attempt: another after a delay, or DEAD."""
        retry_in_ms = command.retry_in_ms
        if retry_in_ms is not None and not 0 <= retry_in_ms <= SPAN_MS_MAX:
            return (
                check_range("retry_in_ms", retry_in_ms, 0, SPAN_MS_MAX) or _impossible()
            )
        job = self._live(command.job, command.token)
        if isinstance(job, Refusal):
            ended = self._ended(command.job, command.token, EndingCall.FAIL)
            return JobFailed(ended.state, 0) if ended is not None else job
        context = self._context
        context.rev()
        queue = self._table.queues[job.queue]
        self._table.touch(job)
        self._table.count(queue, Total.FAILED)
        job.attempt += 1
        self._life.note_error(job, _cut(command.error, context))
        return self._after_failure(job, queue, command)

    def _after_failure(self, job: Job, queue: Queue, command: FailJob) -> JobFailed:
        held = job.held
        assert held is not None
        if held.is_cancel_requested:
            self._life.finish(job, JobState.CANCELLED, EndingCall.FAIL)
            return JobFailed(JobState.CANCELLED, 0)
        if command.is_fatal or job.attempt >= attempts_max(job, queue.options):
            self._life.finish(job, JobState.DEAD, EndingCall.FAIL)
            return JobFailed(JobState.DEAD, 0)
        delay_ms = command.retry_in_ms
        if delay_ms is None:
            delay_ms = retry_delay_ms(job, queue.options, job.attempt)
        state = self._life.wait(job, self._context.now_ms + delay_ms)
        return JobFailed(state, 0 if is_final(state) else delay_ms)

    def snooze(self, command: SnoozeJob) -> JobSnoozed | Refusal:
        """Give the job back for later, no attempt charged."""
        refusal = check_range("for_ms", command.for_ms, 0, SPAN_MS_MAX)
        if refusal is not None:
            return refusal
        due_ms = self._context.now_ms + command.for_ms
        refusal = self._give_back(command.job, command.token, EndingCall.SNOOZE, due_ms)
        return JobSnoozed() if refusal is None else refusal

    def release(self, command: ReleaseJob) -> JobReleased | Refusal:
        """Give the job back for now, no attempt charged."""
        refusal = self._give_back(command.job, command.token, EndingCall.RELEASE, 0)
        return JobReleased() if refusal is None else refusal

    def _give_back(
        self, number: int, token: int, call: EndingCall, due_ms: int
    ) -> Refusal | None:
        job = self._live(number, token)
        if isinstance(job, Refusal):
            return None if self._ended(number, token, call) is not None else job
        self._context.rev()
        self._table.touch(job)
        assert job.held is not None
        if job.held.is_cancel_requested:
            self._life.finish(job, JobState.CANCELLED, call)
        else:
            self._life.wait(job, due_ms)
        return None

    def _ended(self, number: int, token: int, call: EndingCall) -> Job | None:
        """Return the job if this very call ended it."""
        job = self._table.find(number)
        if job is None or job.token != token or not _ended_by(job, call):
            return None
        return job


def no_such_job(number: int) -> Refusal:
    """Refuse a job that never was, or is gone."""
    return Refusal(Reason.NOT_FOUND, f"there is no job {number}", {"job": str(number)})


def _ended_by(job: Job, call: EndingCall) -> bool:
    return job.outcome is not None and job.outcome.call is call


def _refuse_token(job: Job, token: int) -> Refusal:
    details = {"job": str(job.id), "state": job.state.name, "token": str(token)}
    if is_final(job.state):
        return Refusal(Reason.JOB_FINAL, f"job {job.id} is {job.state.name}", details)
    details["current"] = str(job.token)
    if token and token == job.token:
        return Refusal(
            Reason.RESERVATION_EXPIRED,
            f"the reservation of job {job.id} is over, and nobody has taken it since",
            details,
        )
    return Refusal(
        Reason.RESERVATION_LOST,
        f"token {token} of job {job.id} is not the newest, which is {job.token}",
        details,
    )


def _cut(error: str, context: Context) -> str:
    limit = context.limits.job_error_bytes_max
    if len(error) * 4 <= limit:
        return error
    return error.encode()[:limit].decode(errors="ignore")


def _impossible() -> Refusal:
    raise AssertionError("a number out of its range was not refused")
