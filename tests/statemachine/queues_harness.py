"""A machine with one worker's session, driven through the verbs of the job queue.

After every entry the indexes are proved against the records.
"""

import dataclasses
from typing import TypeVar

from raftd.statemachine.answers import Answer, AppliedEntry
from raftd.statemachine.events import JobEvent
from raftd.statemachine.limits import DEFAULT_LIMITS, Limits
from raftd.statemachine.machine import Machine
from raftd.statemachine.queues import JobView, Queues, QueueStats
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.entry import AnyCommand
from raftd.statemachine.schema.jobs import (
    CancelJob,
    CompleteJob,
    EnqueueJobs,
    FailJob,
    JobFailed,
    JobsEnqueued,
    JobSpec,
    JobsReserved,
    JobState,
    ReservedJob,
    ReserveJobs,
)
from raftd.statemachine.schema.queues import ConfigureQueue, QueueOptions
from tests.statemachine.harness import Disk, Harness

__all__ = ["Q", "QueueHarness", "limits_with", "refused", "replay"]

Q = "work"
"""The queue of most tests."""

_T = TypeVar("_T")


class QueueHarness(Harness):
    """Adds a session and the verbs of jobs; ``events`` gathers what was told."""

    def __init__(
        self, limits: Limits = DEFAULT_LIMITS, machine: Machine | None = None
    ) -> None:
        super().__init__(limits, machine)
        self.events: list[JobEvent] = []
        self.session = 0
        if machine is None:
            self.session = self.open(ttl_ms=86_400_000)

    @property
    def queues(self) -> Queues:
        return self.machine.queues

    def apply(self, payload: bytes) -> AppliedEntry:
        applied = super().apply(payload)
        if applied.record is not None:
            self.events += [
                event for event in applied.record.events if isinstance(event, JobEvent)
            ]
        self.queues.audit()
        return applied

    def expect(self, kind: type[_T], command: AnyCommand) -> _T:
        """Apply a command that must be answered so."""
        answer: Answer = self.do(command)
        assert isinstance(answer, kind), answer
        return answer

    def enqueue(self, *specs: JobSpec) -> list[int]:
        """Enqueue jobs; without any, one plain job."""
        jobs = specs or (JobSpec(Q, b"payload"),)
        return list(self.expect(JobsEnqueued, EnqueueJobs(jobs)).ids)

    def add(self, **fields: object) -> int:
        """Enqueue one job of the usual queue with these fields."""
        spec = JobSpec(**{"queue": Q, "payload": b"payload", **fields})  # type: ignore[arg-type]  # the fields' types are those of JobSpec
        return self.enqueue(spec)[0]

    def reserve(
        self,
        jobs_max: int = 1,
        *,
        queues: tuple[tuple[str, int], ...] = ((Q, 1),),
        lease: int = 0,
        types: tuple[str, ...] = (),
        reservation_ms: int | None = None,
    ) -> list[ReservedJob]:
        """Reserve jobs as the worker of the session (or another lease)."""
        command = ReserveJobs(
            lease or self.session,
            queues,
            "worker",
            jobs_max,
            reservation_ms=reservation_ms,
            types=types,
        )
        return list(self.expect(JobsReserved, command).jobs)

    def take(self, **options: int) -> ReservedJob:
        """Reserve the next job, which must be there."""
        reservation_ms = options.get("reservation_ms")
        jobs = self.reserve(
            lease=options.get("lease", 0), reservation_ms=reservation_ms
        )
        assert len(jobs) == 1, jobs
        return jobs[0]

    def complete(self, job: ReservedJob, result: bytes = b"") -> Answer:
        return self.do(CompleteJob(job.id, job.token, result))

    def fail(self, job: ReservedJob, **fields: object) -> JobFailed:
        command = FailJob(job.id, job.token, **fields)  # type: ignore[arg-type]  # the fields' types are those of FailJob
        return self.expect(JobFailed, command)

    def cancel(self, job: int) -> Answer:
        return self.do(CancelJob(job))

    def configure(self, queue: str = Q, **options: object) -> None:
        self.do(ConfigureQueue(queue, QueueOptions(**options)))  # type: ignore[arg-type]  # the options' types are those of QueueOptions

    def wait(self, ms: int) -> AppliedEntry:
        """Let time pass, on both clocks."""
        return self.entry(after_ms=ms)

    def job(self, job: int) -> JobView:
        """Return a job that must be there."""
        found = self.queues.get(job)
        assert found is not None, f"job {job} is gone"
        return found

    def state(self, job: int) -> JobState | None:
        """Return a job's state, None if it is gone."""
        found = self.queues.get(job)
        return None if found is None else found.state

    def states(self, *jobs: int) -> list[JobState | None]:
        return [self.state(job) for job in jobs]

    def stats(self, queue: str = Q) -> QueueStats:
        found = self.queues.stats(queue)
        assert found is not None
        return found

    def told(self, job: int) -> list[JobState | None]:
        """Return the states that the events told of a job."""
        return [event.state for event in self.events if event.job == job]

    def reborn(self, limits: Limits = DEFAULT_LIMITS) -> "QueueHarness":
        """Return a harness around a machine loaded from this one's rows."""
        self.save()
        other = QueueHarness(machine=self.reload(limits).machine)
        other.now_ms, other.wall_ms = self.now_ms, self.wall_ms
        other.disk = dict(self.disk)
        other.session = self.session
        return other


def limits_with(**changes: int) -> Limits:
    """Return the default limits with some changes."""
    return dataclasses.replace(DEFAULT_LIMITS, **changes)


def refused(answer: object, reason: Reason) -> Refusal:
    """Return a refusal for this reason, with one sentence without a stop."""
    assert isinstance(answer, Refusal), answer
    assert answer.reason is reason, answer
    assert answer.sentence
    assert not answer.sentence.endswith(".")
    return answer


def replay(payloads: list[bytes]) -> Disk:
    """Apply a log from the start, checkpointing at its marks."""
    other = QueueHarness(machine=Machine())
    for payload in payloads:
        if other.apply(payload).mark is not None:
            other.write(other.machine.take_checkpoint())
    return other.disk
