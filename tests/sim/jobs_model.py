"""What the committed log means for jobs, worked out by looking through all of them.

Rules: a reservation follows the end of the one before (QSL), a job has one end (QTR),
no job is lost (QNL), tokens rise (FEN), a call whose token is not current is refused,
effects of a completion happen once. After each entry each job is in the state, with the
counters, that the plain model of ``tests/statemachine`` says, and the history has told
each step.

Source: SEMANTICS.md section 6; RELIABILITY.md section 4 (queue).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Any, Final

from raftd.statemachine.answers import Answer
from raftd.statemachine.events import HistoryRecord, JobEvent
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Command, Refusal
from raftd.statemachine.schema.jobs import (
    Backoff,
    CancelJob,
    CompleteJob,
    EnqueueJobs,
    ExtendJob,
    FailJob,
    JobCancelled,
    JobCompleted,
    JobExtended,
    JobFailed,
    JobReleased,
    JobSaved,
    JobsEnqueued,
    JobSnoozed,
    JobSpec,
    JobsReserved,
    JobState,
    ReleaseJob,
    ReserveJobs,
    SavepointJob,
    SnoozeJob,
)
from raftd.statemachine.schema.kv import KeyIncremented
from raftd.statemachine.schema.queues import ConfigureQueue, QueueOptions
from raftd.statemachine.schema.txn import Transact, Transacted
from tests.sim.world import SimFailure
from tests.statemachine.queues_model import BACKOFF_MS, CRASHES_MAX, KEPT_MS, ModelJob
from tests.statemachine.queues_model import Model as Plain

__all__ = [
    "EFFECTS",
    "QUEUE",
    "QUEUE_OPTIONS",
    "RESERVATION_MS",
    "JobsModel",
    "configure",
]

QUEUE: Final = "work"
EFFECTS: Final = b"effects"
"""Counts the jobs that were completed together with an increment of it."""
RESERVATION_MS: Final = 5000
QUEUE_OPTIONS: Final = QueueOptions(
    max_attempts=3,
    max_crashes=CRASHES_MAX,
    backoff=Backoff.FIXED,
    backoff_base_ms=BACKOFF_MS,
    backoff_jitter=0,
    reservation_ms=RESERVATION_MS,
    done_retention_ms=KEPT_MS,
    dead_retention_ms=KEPT_MS,
)
"""Those that the plain model has."""


class JobsModel:
    """See the module's rules."""

    def __init__(self) -> None:
        self._plain: Final = Plain()
        self._top_token = 0
        self._events: Final[dict[int, tuple[list[int], list[JobState | None]]]] = {}
        self._effects = 0
        self.enqueued = 0
        self._takes: Final[dict[type[Command], Callable[[Any, Answer], None]]] = {
            CancelJob: self._cancel,
            CompleteJob: self._complete,
            EnqueueJobs: self._enqueue,
            ExtendJob: self._extend,
            FailJob: self._fail,
            ReleaseJob: self._give_back,
            ReserveJobs: self._reserve,
            SavepointJob: self._extend,
            SnoozeJob: self._give_back,
            Transact: self._transact,
        }

    @property
    def left(self) -> int:
        """How many jobs have no end yet."""
        return sum(job.final is None for job in self._plain.jobs.values())

    def known(self) -> list[int]:
        """Return the ids of all jobs that are kept."""
        return list(self._plain.jobs)

    def state_at(self, job: int, revision: int) -> JobState | None:
        """Return a job's state as of a revision, None if it is not there."""
        revisions, states = self._events.get(job, ([], []))
        at = bisect_right(revisions, revision)
        return states[at - 1] if at else None

    # --- entry by entry -----------------------------------------------------------

    def begin_entry(self, now_ms: int) -> None:
        """Let the clock go on to an entry's stamp, before its commands."""
        plain = self._plain
        plain.pass_time(max(0, now_ms - plain.now_ms))

    def lease_ended(self, lease: int, *, is_clean: bool) -> None:
        """A worker is gone."""
        self._plain.drop_lease(lease, is_clean=is_clean)

    def take(self, command: Command, answer: Answer) -> None:
        """Take in the first answer to a command."""
        way = self._takes.get(type(command))
        if way is not None:
            way(command, answer)
            if isinstance(command, EnqueueJobs):
                self._plain.forget_empty_groups()

    def end_entry(self, machine: Machine, record: HistoryRecord | None) -> None:
        """Compare the state of every job."""
        plain = self._plain
        plain.forget_empty_groups()
        for event in record.events if record is not None else ():
            if isinstance(event, JobEvent):
                self._told(event)
        queues = machine.queues
        for job in plain.jobs.values():
            view = queues.get(job.id)
            shown = view and (view.state, view.attempt, view.crashes, view.delivery)
            meant = (plain.state(job), job.attempt, job.crashes, job.delivery)
            if shown != meant:
                raise SimFailure(f"job {job.id} is {shown}, the log says {meant}")
            token = job.token if job.lease else 0
            if queues.reservation_token(job.id) != token:
                raise SimFailure(f"job {job.id} is not reserved under {token}")
            if self._events[job.id][1][-1] is not plain.state(job):
                raise SimFailure(f"job {job.id}: the history does not tell {meant}")

    def _told(self, event: JobEvent) -> None:
        revisions, states = self._events.setdefault(event.job, ([], []))
        before = states[-1] if states else None
        if event.previous is not before or event.state is before:
            raise SimFailure(f"{event} is told after {before}")
        revisions.append(event.rev)
        states.append(event.state)

    # --- commands -----------------------------------------------------------------

    def _enqueue(self, command: EnqueueJobs, answer: Answer) -> None:
        if not isinstance(answer, JobsEnqueued):
            raise SimFailure(f"{command} is answered {answer}")
        plain = self._plain
        for spec, job_id, existed in zip(
            command.jobs, answer.ids, answer.existed, strict=True
        ):
            known = plain.find(spec.client_id, spec.queue, "")
            if existed != (known is not None) or (existed and known != job_id):
                raise SimFailure(f"{spec} is {job_id}, existed {existed}, not {known}")
            if not existed:
                if job_id in self._events:
                    raise SimFailure(f"the id {job_id} is given again")
                self.enqueued += 1
                plain.add(_job_of(spec, job_id, plain.now_ms), spec.group_limit)

    def _reserve(self, command: ReserveJobs, answer: Answer) -> None:
        if isinstance(answer, Refusal):
            return  # its session is gone: what that means is checked with the session
        if not isinstance(answer, JobsReserved):
            raise SimFailure(f"{command} is answered {answer}")
        plain = self._plain
        for held in answer.jobs:
            ready = plain.ready(QUEUE)
            if not ready or ready[0].id != held.id:
                first = ready[0] if ready else None
                raise SimFailure(f"{held} is given out, {first} would be next")
            if held.token <= self._top_token:
                raise SimFailure(f"token {held.token} after {self._top_token}")
            self._top_token = held.token
            plain.take(
                ready[0],
                held.token,
                command.lease,
                command.reservation_ms or RESERVATION_MS,
            )
        if len(answer.jobs) < command.jobs_max and plain.ready(QUEUE):
            raise SimFailure(f"{answer} leaves {plain.ready(QUEUE)[0]}")

    def _live(self, job_id: int, token: int) -> ModelJob | None:
        job = self._plain.jobs.get(job_id)
        return job if job and job.lease and job.token == token else None

    def _judge(self, live: object, command: Command, answer: Answer) -> None:
        """Fail if a call is served and its token is not current, or the reverse."""
        if (live is not None) == isinstance(answer, Refusal):
            raise SimFailure(f"{command} is answered {answer}, it holds {live}")

    def _was_ended_by(self, command: CompleteJob | FailJob, state: JobState) -> bool:
        job = self._plain.jobs.get(command.job)
        return job is not None and job.final is state and job.token == command.token

    def _complete(self, command: CompleteJob, answer: Answer) -> None:
        live = self._live(command.job, command.token)
        if live is None and self._was_ended_by(command, JobState.DONE):
            if answer != JobCompleted():
                raise SimFailure(f"{command} again is answered {answer}")
            return
        self._judge(live, command, answer)
        if live is not None:
            self._plain.end(live, JobState.DONE)

    def _transact(self, command: Transact, answer: Answer) -> None:
        complete = command.then[0]
        assert isinstance(complete, CompleteJob), "there is no other"
        if not isinstance(answer, Transacted):
            self._complete(complete, answer)
            return
        self._complete(complete, answer.results[0])
        counted = answer.results[1]
        self._effects += 1
        if not isinstance(counted, KeyIncremented) or counted.value != self._effects:
            raise SimFailure(f"{command} counts {counted}, not {self._effects}")

    def _fail(self, command: FailJob, answer: Answer) -> None:
        live = self._live(command.job, command.token)
        if live is None and self._was_ended_by(command, JobState.DEAD):
            return
        self._judge(live, command, answer)
        if live is not None:
            delay_ms = command.retry_in_ms
            self._plain.fail(live, delay_ms, is_fatal=command.is_fatal)
            state = live.final or self._plain.state(live)
            if isinstance(answer, JobFailed) and live.final not in {None, answer.state}:
                raise SimFailure(f"{command} is answered {answer}, not {state}")

    def _give_back(self, command: ReleaseJob | SnoozeJob, answer: Answer) -> None:
        live = self._live(command.job, command.token)
        if live is None and isinstance(answer, JobReleased | JobSnoozed):
            raise SimFailure(f"{command} is answered {answer}, it holds nothing")
        self._judge(live, command, answer)
        if live is not None:
            for_ms = command.for_ms if isinstance(command, SnoozeJob) else 0
            self._plain.give_back(live, self._plain.now_ms + for_ms)

    def _extend(self, command: ExtendJob | SavepointJob, answer: Answer) -> None:
        live = self._live(command.job, command.token)
        self._judge(live, command, answer)
        if live is not None and isinstance(answer, JobExtended | JobSaved):
            live.until_ms = self._plain.now_ms + answer.remaining_ms
            live.is_started = True

    def _cancel(self, command: CancelJob, answer: Answer) -> None:
        job = self._plain.jobs.get(command.job)
        if job is not None and job.lease:
            job.is_cancel_requested = True
        elif job is not None and job.final is None:
            self._plain.end(job, JobState.CANCELLED)
        elif job is None or job.final is not JobState.CANCELLED:
            if not isinstance(answer, Refusal):
                raise SimFailure(f"{command} is answered {answer}, there is {job}")
            return
        if answer != JobCancelled(self._plain.state(job)):
            raise SimFailure(f"{command} is answered {answer}, there is {job}")


def _job_of(spec: JobSpec, job_id: int, now_ms: int) -> ModelJob:
    return ModelJob(
        job_id,
        spec.queue,
        spec.priority,
        now_ms + (spec.delay_ms or 0),
        None if spec.deadline_ms is None else now_ms + spec.deadline_ms,
        spec.client_id,
        spec.group,
    )


def configure() -> ConfigureQueue:
    """Return what makes the queue one that the plain model knows."""
    return ConfigureQueue(QUEUE, QUEUE_OPTIONS)
