"""A job queue so plain that it must be right: no index, everything found by looking.

It knows what a job waits for and derives the state from that, for all jobs, after
every step. What it leaves out (jitter, types, weights, sizes) has tests of its own.
"""

import dataclasses

from raftd.statemachine.schema.jobs import JobState, OnParentFailure, UniqueUntil

__all__ = ["BACKOFF_MS", "CRASHES_MAX", "KEPT_MS", "Model", "ModelJob"]

BACKOFF_MS = 1000
CRASHES_MAX = 2
KEPT_MS = 40_000
RESERVATION_MS = 5000


@dataclasses.dataclass
class ModelJob:
    """What is known of one job."""

    id: int
    queue: str
    priority: int = 5
    due_ms: int = 0
    deadline_ms: int | None = None
    client_id: str = ""
    group: str = ""
    after: list[int] = dataclasses.field(default_factory=list)
    policy: OnParentFailure = OnParentFailure.CASCADE
    unique: str = ""
    until: UniqueUntil = UniqueUntil.DONE
    attempts_max: int = 3
    attempt: int = 0
    crashes: int = 0
    delivery: int = 0
    token: int = 0
    lease: int = 0
    until_ms: int = 0
    is_started: bool = False
    is_cancel_requested: bool = False
    final: JobState | None = None
    ended_ms: int = 0
    is_payload_gone: bool = False

    def has_key(self) -> bool:
        """Tell whether it stands in the way of another under its unique key."""
        if not self.unique or self.final is not None:
            return False
        return self.until is UniqueUntil.DONE or self.delivery == 0


class Model:
    """All jobs, and the clock."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.jobs: dict[int, ModelJob] = {}
        self.limits: dict[tuple[str, str], int] = {}
        self.gone: dict[str, int] = {}
        """Client ids of jobs that are gone."""
        self.enqueued = 0
        self.gone_count = 0

    # --- what follows ------------------------------------------------------------

    def state(self, job: ModelJob) -> JobState:
        """Derive a job's state."""
        if job.final is not None:
            return job.final
        if job.lease:
            return JobState.RESERVED
        if job.due_ms > self.now_ms:
            return JobState.SCHEDULED
        if job.after or not self._is_open(job):
            return JobState.BLOCKED
        return JobState.READY

    def states(self) -> dict[int, JobState]:
        return {job.id: self.state(job) for job in self.jobs.values()}

    def ready(self, queue: str) -> list[ModelJob]:
        """Return the ready jobs of a queue in the order of reserving."""
        found = [
            job
            for job in self.jobs.values()
            if job.queue == queue and self.state(job) is JobState.READY
        ]
        return sorted(found, key=lambda job: (job.priority, job.id))

    def find(self, client_id: str, queue: str, unique: str) -> int | None:
        """Return the job that an enqueue meets already."""
        if client_id:
            if client_id in self.gone:
                return self.gone[client_id]
            for job in self.jobs.values():
                if job.client_id == client_id:
                    return job.id
        return self.key_holder(queue, unique)

    def key_holder(self, queue: str, unique: str) -> int | None:
        for job in self.jobs.values():
            if job.queue == queue and job.unique == unique and job.has_key():
                return job.id
        return None

    def _is_open(self, job: ModelJob) -> bool:
        if not job.group:
            return True
        members = [
            other
            for other in sorted(self.jobs.values(), key=lambda other: other.id)
            if (other.queue, other.group) == (job.queue, job.group)
            and other.final is None
        ]
        slots = self.limits.get((job.queue, job.group), 1)
        slots -= sum(1 for other in members if other.lease)
        waiting = [other.id for other in members if not other.lease]
        return job.id in waiting[: max(0, slots)]

    # --- what happens --------------------------------------------------------------

    def add(self, job: ModelJob, group_limit: int) -> None:
        self.enqueued += 1
        if job.group:
            self.limits[job.queue, job.group] = group_limit
        waits = []
        for parent in job.after:
            end = self.jobs[parent].final
            if end is None:
                waits.append(parent)
            elif end is not JobState.DONE and job.policy is OnParentFailure.CASCADE:
                job.final, job.ended_ms = JobState.CANCELLED, self.now_ms
        job.after = [] if job.final is not None else waits
        self.jobs[job.id] = job

    def take(self, job: ModelJob, token: int, lease: int, ms: int) -> None:
        job.delivery += 1
        job.token, job.lease = token, lease
        job.until_ms = self.now_ms + ms
        job.is_started = job.is_cancel_requested = False

    def end(self, job: ModelJob, state: JobState) -> None:
        job.final, job.ended_ms = state, self.now_ms
        job.lease = 0
        job.after = []
        job.is_payload_gone = state is JobState.DONE
        for child in list(self.jobs.values()):
            if job.id in child.after and child.final is None:
                self._parent_ended(child, job, state)

    def _parent_ended(self, child: ModelJob, job: ModelJob, state: JobState) -> None:
        if state is not JobState.DONE and child.policy is OnParentFailure.CASCADE:
            self.end(child, JobState.CANCELLED)
        else:
            child.after.remove(job.id)

    def give_back(self, job: ModelJob, due_ms: int) -> None:
        job.lease = 0
        if job.is_cancel_requested:
            self.end(job, JobState.CANCELLED)
        elif job.deadline_ms is not None and job.deadline_ms <= self.now_ms:
            self.end(job, JobState.EXPIRED)
        else:
            job.due_ms = due_ms

    def fail(self, job: ModelJob, delay_ms: int | None, *, is_fatal: bool) -> None:
        job.attempt += 1
        if job.is_cancel_requested:
            self.end(job, JobState.CANCELLED)
        elif is_fatal or job.attempt >= job.attempts_max:
            self.end(job, JobState.DEAD)
        else:
            self.give_back(
                job, self.now_ms + (BACKOFF_MS if delay_ms is None else delay_ms)
            )

    def lose(self, job: ModelJob) -> None:
        """The reservation is over without a word."""
        if job.is_cancel_requested or not job.is_started:
            self.give_back(job, 0)
            return
        job.crashes += 1
        if job.crashes >= CRASHES_MAX:
            self.end(job, JobState.DEAD)
        else:
            self.give_back(job, self.now_ms + BACKOFF_MS)

    def drop_lease(self, lease: int, *, is_clean: bool) -> None:
        for job in list(self.jobs.values()):
            if job.lease == lease:
                if is_clean:
                    self.give_back(job, 0)
                else:
                    self.lose(job)

    def pass_time(self, ms: int) -> None:
        self.now_ms += ms
        for job in list(self.jobs.values()):
            if job.lease and job.until_ms <= self.now_ms:
                self.lose(job)
        for job in list(self.jobs.values()):
            is_late = job.deadline_ms is not None and job.deadline_ms <= self.now_ms
            if job.final is None and not job.lease and is_late:
                self.end(job, JobState.EXPIRED)
        for job in list(self.jobs.values()):
            if job.final is not None and job.ended_ms + KEPT_MS <= self.now_ms:
                self.forget(job)

    def forget(self, job: ModelJob) -> None:
        if job.final is None:
            self.end(job, JobState.CANCELLED)
        del self.jobs[job.id]
        self.gone_count += 1
        if job.client_id:
            self.gone[job.client_id] = job.id

    def may_revive(self, job: ModelJob) -> bool:
        if job.final is None or job.is_payload_gone:
            return False
        return not job.unique or self.key_holder(job.queue, job.unique) is None

    def revive(self, job: ModelJob) -> None:
        job.final = None
        job.attempt = job.crashes = job.delivery = job.token = 0
        job.deadline_ms = None
        job.due_ms = 0
        job.is_started = job.is_cancel_requested = False

    def forget_empty_groups(self) -> None:
        """A group without members has no limit."""
        live = {
            (job.queue, job.group) for job in self.jobs.values() if job.final is None
        }
        self.limits = {key: k for key, k in self.limits.items() if key in live}
