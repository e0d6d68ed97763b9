"""One queue and all its settings, worked out a second time: a list that is searched.

``tests/statemachine/queues_model.py`` has groups, parents, client ids and purges. Here
is what a queue's options and a job's own settings do. Ids and tokens are told to the
model as the machine draws them.

Source: SEMANTICS.md section 6.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from raftd.statemachine.schema.jobs import (
    JobSpec,
    JobState,
    OnConflict,
    UniqueSpec,
    UniqueUntil,
)

__all__ = ["ModelJob", "QueueModel", "Settings"]

WAITING: Final = frozenset({JobState.SCHEDULED, JobState.READY})
KEPT: Final = frozenset({JobState.DEAD, JobState.CANCELLED, JobState.EXPIRED})
FINAL: Final = KEPT | {JobState.DONE}


@dataclasses.dataclass
class Settings:
    """A queue's options, as far as the model knows them; no jitter, fixed backoff."""

    depth_max: int = 1000
    max_attempts: int = 3
    max_crashes: int = 2
    backoff_base_ms: int = 500
    reservation_ms: int = 4000
    grace_ms: int = 0
    concurrency_max: int = 0
    may_complete_late: bool = False
    done_retention_ms: int = 20_000
    dead_retention_ms: int = 30_000


@dataclasses.dataclass
class ModelJob:
    """A job; ``worker`` is 0 while nobody has it, or its grace runs."""

    id: int
    spec: JobSpec
    payload: bytes
    due_ms: int
    is_wall: bool
    deadline_ms: int | None
    state: JobState = JobState.READY
    attempt: int = 0
    crashes: int = 0
    delivery: int = 0
    token: int = 0
    worker: int = 0
    since_ms: int = 0
    until_ms: int = 0
    span_ms: int = 0
    is_started: bool = False
    is_cancel_requested: bool = False
    savepoint: bytes = b""
    ended_ms: int = 0
    ended_by: str = ""
    has_payload: bool = True


@dataclasses.dataclass
class _Key:
    job: int
    until_ms: int | None
    """None = as long as the job says."""
    state: JobState | None = None
    """Of the job, when it went."""


class QueueModel:
    """All jobs of one queue."""

    def __init__(self, done_max: int, dead_max: int) -> None:
        self.now_ms = self.wall_ms = 0
        self.settings = Settings()
        self.is_paused = False
        self.jobs: dict[int, ModelJob] = {}
        self.keys: dict[str, _Key] = {}
        self._done_max: Final = done_max
        self._dead_max: Final = dead_max

    # --- reads -----------------------------------------------------------------------

    def of(self, *states: JobState) -> list[ModelJob]:
        """Return the jobs in some states."""
        return [job for job in self.jobs.values() if job.state in states]

    @property
    def depth(self) -> int:
        """How many have not ended."""
        return sum(job.state not in FINAL for job in self.jobs.values())

    def ready(self, types: tuple[str, ...]) -> list[ModelJob]:
        """Return who may be handed out now, in order."""
        found = [
            job
            for job in self.of(JobState.READY)
            if not types or job.spec.type in types
        ]
        found.sort(key=lambda job: (job.spec.priority, job.id))
        if self.is_paused:
            return []
        limit = self.settings.concurrency_max
        room = limit - len(self.of(JobState.RESERVED)) if limit else len(found)
        return found[: max(0, room)]

    def holder(self, unique: UniqueSpec | None) -> _Key | None:
        """Return who has a unique key."""
        key = self.keys.get(unique.key) if unique is not None else None
        if key is None or key.until_ms is None or key.until_ms > self.now_ms:
            return key
        return None

    # --- a job's life ----------------------------------------------------------------

    def add(self, number: int, spec: JobSpec) -> ModelJob:
        """Take up a new job."""
        is_wall = spec.run_at_ms is not None
        due_ms = spec.run_at_ms if spec.run_at_ms is not None else self.now_ms
        deadline_ms = None
        if spec.deadline_ms is not None:
            deadline_ms = self.now_ms + spec.deadline_ms
        job = ModelJob(number, spec, spec.payload, due_ms, is_wall, deadline_ms)
        if spec.delay_ms is not None:
            job.due_ms += spec.delay_ms
        self.jobs[number] = job
        self._settle(job)
        unique = spec.unique
        if unique is not None:
            is_window = unique.until is UniqueUntil.WINDOW
            until_ms = self.now_ms + unique.window_ms if is_window else None
            self.keys[unique.key] = _Key(number, until_ms)
        return job

    def conflict(self, key: _Key, spec: JobSpec) -> None:
        """Do what a second job under a taken key does to the first."""
        job = self.jobs.get(key.job)
        assert spec.unique is not None
        policy = spec.unique.on_conflict
        if job is None or job.state not in WAITING or policy is OnConflict.REJECT:
            return
        job.payload = spec.payload
        if policy is OnConflict.DEBOUNCE:
            if spec.run_at_ms is not None:
                self.wait(job, spec.run_at_ms, is_wall=True)
            else:
                self.wait(job, self.now_ms + (spec.delay_ms or 0))

    def take(self, job: ModelJob, token: int, worker: int, span_ms: int | None) -> None:
        """Hand a job out."""
        spec = job.spec
        span_ms = span_ms or spec.reservation_ms or self.settings.reservation_ms
        job.since_ms, job.span_ms = self.now_ms, span_ms
        job.until_ms = self.now_ms + min(span_ms, spec.max_runtime_ms or span_ms)
        if job.delivery == 0:
            self._free(job, UniqueUntil.STARTED)
        job.delivery += 1
        job.token, job.worker, job.state = token, worker, JobState.RESERVED
        job.is_started = job.is_cancel_requested = False

    def extend(self, job: ModelJob, for_ms: int | None) -> int:
        """Prolong a reservation; return how long it lasts from now."""
        job.until_ms = self.now_ms + (for_ms or job.span_ms)
        if job.spec.max_runtime_ms is not None:
            ends_ms = job.since_ms + job.spec.max_runtime_ms
            job.until_ms = max(self.now_ms, min(job.until_ms, ends_ms))
        job.is_started = True
        return job.until_ms - self.now_ms

    def fail(self, job: ModelJob, retry_in_ms: int | None, *, is_fatal: bool) -> None:
        """Charge an attempt."""
        job.attempt += 1
        limit = job.spec.max_attempts or self.settings.max_attempts
        if job.is_cancel_requested:
            self.end(job, JobState.CANCELLED, "fail")
        elif is_fatal or job.attempt >= limit:
            self.end(job, JobState.DEAD, "fail")
        else:
            if retry_in_ms is None:
                retry_in_ms = self.settings.backoff_base_ms
            self.wait(job, self.now_ms + retry_in_ms)

    def give_back(self, job: ModelJob, due_ms: int, call: str) -> None:
        """Put a job back, uncharged."""
        if job.is_cancel_requested:
            self.end(job, JobState.CANCELLED, call)
        else:
            self.wait(job, due_ms)

    def wait(self, job: ModelJob, due_ms: int, *, is_wall: bool = False) -> None:
        """Let a job wait; if it is too late for that, it has expired."""
        if job.deadline_ms is not None and job.deadline_ms <= self.now_ms:
            self.end(job, JobState.EXPIRED)
            return
        job.due_ms, job.is_wall, job.worker = due_ms, is_wall, 0
        self._settle(job)

    def end(self, job: ModelJob, state: JobState, call: str = "") -> None:
        """End a job, and make room for it among those that are kept."""
        job.state, job.worker = state, 0
        job.ended_ms, job.ended_by = self.now_ms, call
        if state is JobState.DONE and job.payload:
            job.payload, job.has_payload = b"", False
        self._free(job, UniqueUntil.STARTED, UniqueUntil.DONE)
        kept = [JobState.DONE] if state is JobState.DONE else list(KEPT)
        line = sorted(self.of(*kept), key=lambda it: (it.ended_ms, it.id))
        limit = self._done_max if state is JobState.DONE else self._dead_max
        if len(line) > limit:
            self.forget(line[0])

    def may_revive(self, job: ModelJob) -> bool:
        """Tell whether a final job may have another life."""
        is_taken = not _is_window(job) and self.holder(job.spec.unique) is not None
        return job.state in FINAL and job.has_payload and not is_taken

    def revive(self, job: ModelJob) -> bool:
        """Give a final job another life, if it may have one."""
        if not self.may_revive(job):
            return False
        job.attempt = job.crashes = job.delivery = job.token = 0
        job.deadline_ms, job.ended_by = None, ""
        self.wait(job, 0)
        unique = job.spec.unique
        if unique is not None and not _is_window(job):
            self.keys[unique.key] = _Key(job.id, None)
        return True

    def forget(self, job: ModelJob) -> None:
        """Remove a job."""
        state = job.state if job.state in FINAL else JobState.CANCELLED
        self._free(job, UniqueUntil.STARTED, UniqueUntil.DONE)
        for key in self.keys.values():
            if key.job == job.id:
                key.state = state
        del self.jobs[job.id]

    def _free(self, job: ModelJob, *until: UniqueUntil) -> None:
        unique = job.spec.unique
        if unique is not None and unique.until in until:
            key = self.keys.get(unique.key)
            if key is not None and key.job == job.id and key.until_ms is None:
                del self.keys[unique.key]

    def _settle(self, job: ModelJob) -> None:
        now_ms = self.wall_ms if job.is_wall else self.now_ms
        is_due = job.due_ms <= now_ms
        job.state = JobState.READY if is_due else JobState.SCHEDULED

    # --- time ------------------------------------------------------------------------

    def lose(self, worker: int, *, is_clean: bool) -> None:
        """Take back what a worker had."""
        for job in sorted(self.of(JobState.RESERVED), key=lambda it: it.id):
            if job.worker == worker and is_clean:
                self._end_reservation(job, may_charge=False)
            elif job.worker == worker:
                self._reservation_over(job)

    def pass_ms(self, span_ms: int, wall_ms: int) -> None:
        """Let time pass on both clocks, and do what falls due, in order."""
        self.now_ms += span_ms
        self.wall_ms += wall_ms
        while due := min(self._due(), default=None, key=lambda it: it[:2]):
            due[2]()
        for job in self.of(JobState.SCHEDULED):
            if job.is_wall and job.due_ms <= self.wall_ms:
                self.wait(job, job.due_ms, is_wall=True)

    def _due(self) -> Iterator[tuple[int, int, Callable[[], None]]]:
        for timer in self._timers():
            if timer[0] <= self.now_ms:
                yield timer

    def _timers(self) -> Iterator[tuple[int, int, Callable[[], None]]]:
        settings = self.settings
        for job in self.jobs.values():
            if job.state is JobState.SCHEDULED and not job.is_wall:
                yield job.due_ms, job.id, partial(self.wait, job, job.due_ms)
            if job.state in WAITING and job.deadline_ms is not None:
                yield job.deadline_ms, job.id, partial(self.end, job, JobState.EXPIRED)
            if job.state is JobState.RESERVED:
                yield job.until_ms, job.id, partial(self._reservation_over, job)
            if job.state in FINAL:
                is_done = job.state is JobState.DONE
                span_ms = (
                    settings.done_retention_ms
                    if is_done
                    else settings.dead_retention_ms
                )
                yield job.ended_ms + span_ms, job.id, partial(self.forget, job)

    def _reservation_over(self, job: ModelJob) -> None:
        if self.settings.grace_ms and job.worker:
            job.worker, job.until_ms = 0, self.now_ms + self.settings.grace_ms
        else:
            self._end_reservation(job, may_charge=True)

    def _end_reservation(self, job: ModelJob, *, may_charge: bool) -> None:
        if job.is_cancel_requested:
            self.end(job, JobState.CANCELLED)
        elif may_charge and job.is_started:
            job.crashes += 1
            if job.crashes >= self.settings.max_crashes:
                self.end(job, JobState.DEAD)
            else:
                self.wait(job, self.now_ms + self.settings.backoff_base_ms)
        else:
            self.wait(job, 0)


def _is_window(job: ModelJob) -> bool:
    unique = job.spec.unique
    return unique is not None and unique.until is UniqueUntil.WINDOW
