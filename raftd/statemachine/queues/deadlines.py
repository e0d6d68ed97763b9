"""What is due when, and what happens then.

Rules: the deadline asked for here is the truth, the timers' heap only a hint. A firing
leaves its timer gone or later. A deadline of a reserved job is kept in view until it
has passed: then the job expires as soon as it waits again.

Source: SEMANTICS.md section 6, the rows "timer" of the table.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from raftd.statemachine.context import Context
from raftd.statemachine.loading import in_steps
from raftd.statemachine.module import EndReason, LeaseKeeper
from raftd.statemachine.queues.jobs import Job, is_final
from raftd.statemachine.queues.life import Life
from raftd.statemachine.queues.table import JobTable, TimerKind
from raftd.statemachine.schema.jobs import JobState
from raftd.statemachine.tables import Rank
from raftd.statemachine.timers import TimerId

__all__ = ["Deadlines"]


_RANK: Final = int(Rank.QUEUES)


class Deadlines:
    """The timers of jobs and queues, and the ends of workers' leases."""

    def __init__(
        self, context: Context, table: JobTable, life: Life, leases: LeaseKeeper
    ) -> None:
        self._context: Final = context
        self._table: Final = table
        self._life: Final = life
        self._leases: Final = leases

    def deadline_ms(self, timer: TimerId) -> int | None:
        """Return when a timer is due, None if it is gone."""
        kind, subject = timer
        if isinstance(subject, str):
            if kind == TimerKind.UNIQUE_WINDOW:
                return self._life.uniques.deadline_ms(subject)
            return self._life.retention.deadline_ms(kind, subject)
        if kind == TimerKind.RESERVATION:
            job = self._table.by_token.get(subject)
            return None if job is None else self._until_ms(self._table.jobs[job])
        if kind == TimerKind.CLIENT_IDS:
            return self._life.client_ids.deadline_ms()
        found = self._table.jobs.get(subject)
        if found is None or is_final(found.state):
            return None
        if kind == TimerKind.DEADLINE:
            return self._expiry_ms(found)
        is_wall = kind == TimerKind.DUE_ON_WALL
        if found.state is JobState.SCHEDULED and found.is_due_on_wall is is_wall:
            return found.due_ms
        return None

    def fire(self, timer: TimerId) -> int:
        """Do what a due timer says; return how many rows that touched."""
        self._context.rev()
        kind, subject = timer
        if isinstance(subject, str):
            if kind == TimerKind.UNIQUE_WINDOW:
                return self._life.uniques.fire(subject)
            return self._life.retention.fire(kind, subject)
        if kind == TimerKind.CLIENT_IDS:
            return self._life.client_ids.fire()
        if kind == TimerKind.RESERVATION:
            job = self._table.jobs[self._table.by_token[subject]]
            self._reservation_over(job)
            return 1
        job = self._table.jobs[subject]
        self._table.touch(job)
        if kind == TimerKind.DEADLINE:
            self._life.finish(job, JobState.EXPIRED)
        else:
            self._life.wait(job, job.due_ms, is_wall=job.is_due_on_wall)
        return 1

    def lease_ended(self, jobs: list[Job], reason: EndReason) -> None:
        """Take back what a worker had whose session is over."""
        self._context.rev()
        for job in jobs:
            if reason is EndReason.CLOSED:
                self._life.end_reservation(job, may_charge=False)
            else:
                self._reservation_over(job)

    def _reservation_over(self, job: Job) -> None:
        """End a reservation whose worker is lost, or begin its grace."""
        held = job.held
        assert held is not None
        grace_ms = self._table.queues[job.queue].options.grace_ms
        if not grace_ms or not held.lease:
            self._life.end_reservation(job, may_charge=True)
            return
        until_ms = self._context.now_ms + grace_ms
        self._table.touch(job)
        job.held = msgspec.structs.replace(held, lease=0, until_ms=until_ms)
        self._leases.detach(held.lease, _RANK, job.id)
        if until_ms < held.until_ms:
            self._table.arm(TimerKind.RESERVATION, job.token, until_ms)

    def loaded(self) -> Iterator[None]:
        """Attach and arm what the loaded jobs ask for."""
        yield from in_steps(self._table.jobs.values(), self._arm_loaded)
        yield from in_steps(self._table.queues.values(), self._life.retention.rearm)

    def _arm_loaded(self, job: Job) -> None:
        table = self._table
        held = job.held
        if held is not None:
            if held.lease:
                self._leases.reattach(held.lease, _RANK, job.id)
            table.arm(TimerKind.RESERVATION, job.token, held.until_ms)
        self._life.arm_due(job)
        extra = job.extra
        if extra is not None and extra.deadline_ms is not None:
            table.arm(TimerKind.DEADLINE, job.id, extra.deadline_ms)

    def _until_ms(self, job: Job) -> int:
        assert job.held is not None
        return job.held.until_ms

    def _expiry_ms(self, job: Job) -> int | None:
        deadline_ms = job.extra.deadline_ms if job.extra is not None else None
        if deadline_ms is None:
            return None
        has_passed = deadline_ms <= self._context.now_ms
        return None if has_passed and job.state is JobState.RESERVED else deadline_ms
