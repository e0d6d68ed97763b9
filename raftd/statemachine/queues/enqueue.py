"""Enqueue: new jobs, all of a command or none.

Rules: a client id that is known answers with its job; then a taken unique key answers
with its holder; else the job is new. The answer's states are those at the end of the
command: READY, SCHEDULED or BLOCKED, or CANCELLED below a parent that has failed.

Source: SEMANTICS.md section 6 (Enqueue); RELIABILITY.md scenario 59.
"""

from sys import intern
from typing import Final

import msgspec

from raftd.statemachine import refusals
from raftd.statemachine.claim_checks import check_growth, check_range
from raftd.statemachine.context import Context
from raftd.statemachine.queues.groups import group_key
from raftd.statemachine.queues.jobs import (
    WAITING_STATES,
    Extra,
    Job,
    Outcome,
    is_final,
    size_of,
)
from raftd.statemachine.queues.life import Life
from raftd.statemachine.queues.options import DEFAULT_OPTIONS
from raftd.statemachine.queues.queue import Queue
from raftd.statemachine.queues.specs import check_size, check_spec, has_extra
from raftd.statemachine.queues.table import JobTable, TimerKind
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.jobs import (
    EnqueueJobs,
    JobsEnqueued,
    JobSpec,
    JobState,
    OnConflict,
    OnParentFailure,
)
from raftd.statemachine.tables import Rank

__all__ = ["Enqueue"]

_READY: Final = JobState.READY  # an enum's member costs a look-up each time

_Enqueued = tuple[int, JobState, bool]


class Enqueue:
    """The handler of EnqueueJobs."""

    def __init__(self, context: Context, table: JobTable, life: Life) -> None:
        self._context: Final = context
        self._table: Final = table
        self._life: Final = life

    def enqueue(self, command: EnqueueJobs) -> JobsEnqueued | Refusal:
        """Enqueue all jobs of a command, alone or inside a transaction."""
        specs = command.jobs
        limit = self._context.limits.enqueue_jobs_max
        if not 0 < len(specs) <= limit:
            return (
                check_size("the number of jobs", len(specs), "enqueue_jobs_max", limit)
                or check_range("the number of jobs", len(specs), 1, limit)
                or _impossible()
            )
        if len(specs) == 1:
            single = self._enqueue(specs[0])
            if isinstance(single, Refusal):
                return single
            job, state, existed = single
            return JobsEnqueued((job,), (state,), (existed,))
        found: list[_Enqueued] = []
        for place, spec in enumerate(specs):
            one = self._enqueue(spec)
            if isinstance(one, Refusal):
                return _refuse_job(place, one)
            found.append(one)
        ids, states, existed_all = zip(*found, strict=True)
        return JobsEnqueued(ids, states, existed_all)

    def queue_named(self, name: str) -> Queue | Refusal:
        """Return a queue; it is made on first use."""
        queue = self._table.queues.get(name)
        if queue is None:
            return self._make_queue(name)
        if queue.is_deleted:
            return Refusal(
                Reason.PRECONDITION,
                f'queue "{name}" is being deleted',
                {"queue": name},
            )
        return queue

    def _make_queue(self, name: str) -> Queue | Refusal:
        limits = self._context.limits
        refusal = refusals.check_name("queue", name, limits.name_bytes_max)
        if refusal is not None:
            return refusal
        if len(self._table.queues) >= limits.queues_max:
            return refusals.too_many("queues", "queues_max", limits.queues_max)
        return self._table.add_queue(intern(name), DEFAULT_OPTIONS)

    def _enqueue(self, spec: JobSpec) -> _Enqueued | Refusal:
        refusal = check_spec(spec, self._context.limits)
        if refusal is not None:
            return refusal
        queue = self.queue_named(spec.queue)
        if isinstance(queue, Refusal):
            return queue
        if spec.client_id:
            known = self.known(spec.client_id)
            if known is not None:
                return known[0], known[1], True
        if spec.unique is not None:
            taken = self._life.uniques.holder(queue.name, spec.unique)
            if taken is not None:
                return self._conflict(spec, taken)
        return self._add(spec, queue)

    def known(self, client_id: str) -> tuple[int, JobState] | None:
        """Return the job of a client id, and its state, even if it is gone."""
        job = self._table.by_client_id.get(client_id)
        if job is None:
            return self._life.client_ids.find(client_id)
        found = self._table.jobs[job]
        if is_final(found.state) or self._table.find(job) is not None:
            return job, found.state
        return job, JobState.CANCELLED

    # --- a new job -------------------------------------------------------------

    def _add(self, spec: JobSpec, queue: Queue) -> _Enqueued | Refusal:
        context = self._context
        limit = queue.options.depth_max
        assert limit is not None
        if queue.depth >= limit:
            return _queue_full(queue, limit)
        job = self._record(spec, queue)
        if job.group:
            key = group_key(job)
            if self._table.groups.set_limit(key, spec.group_limit):
                context.promote_later(Rank.QUEUES, key)
        if spec.after:
            refusal = self._set_parents(job, spec)
            if refusal is not None:
                return refusal
        # Most jobs wait for nothing: they are READY as they were made.
        if (job.due_ms or job.group or job.waits_for) and not is_final(job.state):
            job.state = self._life.state_for(job)
        size_bytes = size_of(job)
        refusal = check_growth(context, size_bytes)
        if refusal is not None:
            return refusal
        self._table.insert(job, queue, size_bytes)
        if job.state is not _READY or job.extra is not None:
            self._after_insert(job, queue)
        return job.id, job.state, False

    def _record(self, spec: JobSpec, queue: Queue) -> Job:
        context = self._context
        now_ms = context.now_ms
        job = Job(
            context.mint(),
            queue.name,
            intern(spec.type),
            spec.priority,
            now_ms,
            _READY,
        )
        job.payload = spec.payload
        # What most jobs do not have is "" already.
        if spec.client_id:
            job.client_id = spec.client_id
        if spec.content_type:
            job.content_type = intern(spec.content_type)
        if spec.group:
            job.group = intern(spec.group)
        if spec.delay_ms is not None:
            job.due_ms = now_ms + spec.delay_ms
        elif spec.run_at_ms is not None:
            job.due_ms = spec.run_at_ms
            job.is_due_on_wall = True
        if has_extra(spec):
            job.extra = _extra_of(spec, now_ms)
        return job

    def _set_parents(self, job: Job, spec: JobSpec) -> Refusal | None:
        """Find out which parents are still to end, and which have failed."""
        waits_for: list[int] = []
        for parent in sorted(set(spec.after)):
            found = self._table.find(parent)
            if found is None:
                return Refusal(
                    Reason.NOT_FOUND,
                    f"there is no job {parent} to come after",
                    {"job": str(parent)},
                )
            if not is_final(found.state):
                waits_for.append(parent)
            elif (
                found.state is not JobState.DONE
                and spec.on_parent_failure is OnParentFailure.CASCADE
            ):
                job.state = JobState.CANCELLED
        if is_final(job.state):
            job.outcome = Outcome(self._context.now_ms)
        else:
            job.waits_for = tuple(waits_for)
        return None

    def _after_insert(self, job: Job, queue: Queue) -> None:
        life = self._life
        if is_final(job.state):
            life.retention.ended(queue, job.state)
            return
        if job.waits_for:
            life.family.wait_for(job)
        extra = job.extra
        if extra is not None:
            life.uniques.take(job)
            if extra.deadline_ms is not None:
                self._table.arm(TimerKind.DEADLINE, job.id, extra.deadline_ms)
        life.arm_due(job)

    # --- a taken unique key ----------------------------------------------------

    def _conflict(
        self, spec: JobSpec, taken: tuple[int, JobState]
    ) -> _Enqueued | Refusal:
        assert spec.unique is not None
        number, state = taken
        policy = spec.unique.on_conflict
        if policy is OnConflict.REJECT or state not in WAITING_STATES:
            return number, state, True
        job = self._table.jobs[number]
        growth_bytes = len(spec.payload) - len(job.payload)
        refusal = check_growth(self._context, growth_bytes)
        if refusal is not None:
            return refusal
        self._replace(job, spec)
        if policy is OnConflict.DEBOUNCE:
            self._debounce(job, spec)
        return number, job.state, True

    def _replace(self, job: Job, spec: JobSpec) -> None:
        context, table = self._context, self._table
        context.rev()
        table.touch(job)
        table.touch_payload(job)
        before_bytes = size_of(job)
        job.payload = spec.payload
        job.content_type = intern(spec.content_type)
        assert job.extra is not None
        job.extra = msgspec.structs.replace(job.extra, meta=spec.meta)
        context.size_bytes += size_of(job) - before_bytes

    def _debounce(self, job: Job, spec: JobSpec) -> None:
        if spec.run_at_ms is not None:
            self._life.wait(job, spec.run_at_ms, is_wall=True)
        else:
            self._life.wait(job, self._context.now_ms + (spec.delay_ms or 0))


def _extra_of(spec: JobSpec, now_ms: int) -> Extra:
    return Extra(
        spec.meta,
        spec.max_attempts,
        spec.backoff,
        spec.backoff_base_ms,
        spec.backoff_cap_ms,
        spec.backoff_jitter,
        spec.reservation_ms,
        spec.max_runtime_ms,
        None if spec.deadline_ms is None else now_ms + spec.deadline_ms,
        spec.unique,
        spec.on_parent_failure,
    )


def _queue_full(queue: Queue, limit: int) -> Refusal:
    return Refusal(
        Reason.QUEUE_FULL,
        f'queue "{queue.name}" holds {limit} jobs already (depth_max)',
        {"limit": str(limit), "limit_name": "depth_max", "size": str(limit + 1)},
    )


def _refuse_job(place: int, refusal: Refusal) -> Refusal:
    return Refusal(
        refusal.reason,
        f"job {place} of the batch: {refusal.sentence}",
        {**refusal.details, "job_index": str(place)},
    )


def _impossible() -> Refusal:
    raise AssertionError("a number out of its range was not refused")
