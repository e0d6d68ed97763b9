"""One queue under all its settings, against the model.

Proved after each step: every job is where the model says, with its counters, times and
token; every answer of a worker's call is the one that its token deserves; a queue's
numbers are those of its jobs; a restart changes nothing.

Source: SEMANTICS.md section 6; RELIABILITY.md section 4 (queue).
"""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from raftd.statemachine.answers import Answer
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.entry import AnyCommand
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
from raftd.statemachine.schema.leases import RevokeLease
from raftd.statemachine.schema.queues import (
    ConfigureQueue,
    DeleteQueue,
    JobsRedriven,
    PauseQueue,
    QueueConfigured,
    QueueDeleted,
    QueueOptions,
    QueuePaused,
    RedriveJobs,
)
from raftd.statemachine.schema.sessions import CloseSession
from tests.fuzz.models_queues import FINAL, KEPT, ModelJob, QueueModel, Settings
from tests.fuzz.profiles import FuzzMachine, case_of
from tests.fuzz.queue_values import LIMITS, PICKS, SETTINGS, SPECS, Q
from tests.fuzz.replay import check_replay, restarted
from tests.statemachine.harness import Harness


class QueueLife(FuzzMachine):
    """One queue, two workers."""

    @initialize()
    def begin(self) -> None:
        self.harness = Harness(LIMITS)
        self.model = QueueModel(LIMITS.done_kept_max, LIMITS.dead_kept_max)
        self.model.now_ms = self.harness.now_ms
        self.model.wall_ms = self.harness.wall_ms
        self.tokens: list[tuple[int, int]] = []
        self.workers = [self.worker(), self.worker()]
        self.make_queue()

    def make_queue(self) -> None:
        self.model.settings = Settings()
        self.model.is_paused = False
        self.do(
            ConfigureQueue(Q, QueueOptions(backoff=Backoff.FIXED, backoff_jitter=0))
        )
        self.configure(vars(Settings()))

    def worker(self) -> int:
        key = len(self.harness.payloads).to_bytes(16, "big")
        return self.harness.open(key, ttl_ms=86_400_000)

    # --- rules -----------------------------------------------------------------------

    @rule(
        what=st.sampled_from(["configure", "configure", "pause", "lose", "delete"]),
        settings=SETTINGS,
        pick=PICKS,
    )
    def disturb(self, what: str, settings: dict[str, Any], pick: int) -> None:
        """What would leave little to look at if it came as often as the rest."""
        match what:
            case "configure":
                self.configure(settings)
            case "pause":
                self.pause(is_paused=True)
                self.reserve_any(0, 1)
                self.pause(is_paused=pick == 5)
            case "lose":
                self.lose_worker(pick % 2, is_clean=pick < 2)
            case _:
                self.delete(is_forced=pick == 5)

    def configure(self, settings: dict[str, Any]) -> None:
        answer = self.do(ConfigureQueue(Q, QueueOptions(**settings)))
        assert answer == QueueConfigured()
        for name, value in settings.items():
            setattr(self.model.settings, name, value)
        self.harness.entry()  # what is kept for less time now may be due
        self.model.pass_ms(0, 0)

    def pause(self, *, is_paused: bool) -> None:
        assert self.do(PauseQueue(Q, is_paused)) == QueuePaused()
        self.model.is_paused = is_paused

    @rule(
        specs=st.lists(
            st.tuples(SPECS, st.sampled_from([None, None, None, -5, 907])),
            min_size=1,
            max_size=4,
        )
    )
    def enqueue_some(self, specs: list[tuple[JobSpec, int | None]]) -> None:
        for spec, at_ms in specs:
            self.enqueue(spec, at_ms)

    def enqueue(self, spec: JobSpec, at_ms: int | None) -> None:
        model = self.model
        if spec.delay_ms is None and at_ms is not None:
            spec = _at(spec, model.wall_ms + at_ms)
        key = model.holder(spec.unique)
        answer = self.do(EnqueueJobs((spec,)))
        if key is not None:
            model.conflict(key, spec)
            job = model.jobs.get(key.job)
            state = job.state if job is not None else key.state
            assert answer == JobsEnqueued((key.job,), (state,), (True,))  # type: ignore[arg-type]  # a key has a state or a job
        elif model.depth >= model.settings.depth_max:
            self.refused(answer, Reason.QUEUE_FULL)
        else:
            assert isinstance(answer, JobsEnqueued), answer
            job = model.add(answer.ids[0], spec)
            assert answer == JobsEnqueued((job.id,), (job.state,), (False,))

    @precondition(lambda self: self.model.ready(()))
    @rule(
        worker=st.integers(0, 1),
        jobs_max=st.integers(1, 3),
        span_ms=st.sampled_from([None, None, 1013]),
        types=st.sampled_from([(), (), ("t",)]),
    )
    def reserve(
        self, worker: int, jobs_max: int, span_ms: int | None, types: tuple[str, ...]
    ) -> None:
        lease = self.workers[worker]
        wanted = self.model.ready(types)[:jobs_max]
        answer = self.do(
            ReserveJobs(lease, ((Q, 1),), "w", jobs_max, 1 << 20, span_ms, types)
        )
        assert isinstance(answer, JobsReserved)
        assert [got.id for got in answer.jobs] == [job.id for job in wanted]
        for got, job in zip(answer.jobs, wanted, strict=True):
            assert got.token > max((token for _, token in self.tokens), default=0)
            self.tokens.append((got.id, got.token))
            self.model.take(job, got.token, lease, span_ms)
            assert (got.payload, got.savepoint) == (job.payload, job.savepoint)
            assert (got.attempt, got.delivery) == (job.attempt, job.delivery)

    @precondition(lambda self: self.model.ready(()))
    @rule(worker=st.integers(0, 1), jobs_max=st.integers(1, 3))
    def reserve_any(self, worker: int, jobs_max: int) -> None:
        self.reserve(worker, jobs_max, None, ())

    @precondition(lambda self: self.model.of(JobState.RESERVED))
    @rule(pick=PICKS)
    def complete(self, pick: int) -> None:
        job, token = self.pick(pick)
        answer = self.do(CompleteJob(job, token, b"r"))
        live, reason = self.judge(job, token, "complete")
        if live is None and reason is Reason.RESERVATION_EXPIRED:
            live = (
                self.model.jobs[job] if self.model.settings.may_complete_late else None
            )
        if live is not None:
            self.model.end(live, JobState.DONE, "complete")
            reason = None
        self.check(answer, JobCompleted(), reason)

    @precondition(lambda self: self.model.of(JobState.RESERVED))
    @rule(
        pick=PICKS,
        retry_in_ms=st.sampled_from([None, None, 0, 701]),
        is_fatal=st.sampled_from([False, False, True]),
    )
    def fail(self, pick: int, retry_in_ms: int | None, is_fatal: bool) -> None:
        job, token = self.pick(pick)
        answer = self.do(FailJob(job, token, "why", retry_in_ms, is_fatal))
        live, reason = self.judge(job, token, "fail")
        if reason is not None:
            self.refused(answer, reason)
            return
        assert isinstance(answer, JobFailed)
        if live is not None:
            self.model.fail(live, retry_in_ms, is_fatal=is_fatal)
            live_state = live.state
            due_ms = 0 if live_state in FINAL else live.due_ms - self.model.now_ms
            assert answer == JobFailed(live_state, due_ms)
        else:
            assert answer == JobFailed(self.model.jobs[job].state, 0)

    @precondition(lambda self: self.model.of(JobState.RESERVED))
    @rule(pick=PICKS, for_ms=st.sampled_from([None, 1009]), is_saved=st.booleans())
    def extend(self, pick: int, for_ms: int | None, *, is_saved: bool) -> None:
        job, token = self.pick(pick)
        live, reason = self.judge(job, token, "nothing")
        if is_saved:
            answer = self.do(SavepointJob(job, token, b"half", 500))
        else:
            answer = self.do(ExtendJob(job, token, for_ms))
        if live is None:
            assert reason is not None
            self.refused(answer, reason)
            return
        left_ms = self.model.extend(live, None if is_saved else for_ms)
        kind = JobSaved if is_saved else JobExtended
        assert answer == kind(left_ms, live.is_cancel_requested)
        if is_saved:
            live.savepoint = b"half"

    @precondition(lambda self: self.model.of(JobState.RESERVED))
    @rule(pick=PICKS)
    def start(self, pick: int) -> None:
        self.extend(pick, None, is_saved=False)

    @precondition(lambda self: self.model.of(JobState.RESERVED))
    @rule(pick=PICKS, snooze_ms=st.sampled_from([None, 0, 1103]))
    def give_back(self, pick: int, snooze_ms: int | None) -> None:
        job, token = self.pick(pick)
        call = "release" if snooze_ms is None else "snooze"
        live, reason = self.judge(job, token, call)
        if snooze_ms is None:
            answer = self.do(ReleaseJob(job, token))
            due_ms = 0
        else:
            answer = self.do(SnoozeJob(job, token, snooze_ms))
            due_ms = self.model.now_ms + snooze_ms
        if live is not None:
            self.model.give_back(live, due_ms, call)
        done = JobReleased() if snooze_ms is None else JobSnoozed()
        self.check(answer, done, reason)

    @precondition(lambda self: len(self.model.jobs) > 3)
    @rule(pick=PICKS)
    def cancel(self, pick: int) -> None:
        job = list(self.model.jobs.values())[-1 - pick % len(self.model.jobs)]
        answer = self.do(CancelJob(job.id))
        if job.state in FINAL and job.state is not JobState.CANCELLED:
            self.refused(answer, Reason.JOB_FINAL)
            return
        if job.state is JobState.RESERVED:
            job.is_cancel_requested = True
        elif job.state is not JobState.CANCELLED:
            self.model.end(job, JobState.CANCELLED)
        assert answer == JobCancelled(job.state)

    @precondition(lambda self: self.model.of(*FINAL))
    @rule(
        picks=st.lists(PICKS, max_size=3),
        is_forced=st.booleans(),
        jobs_max=st.integers(1, 3),
    )
    def redrive(self, picks: list[int], is_forced: bool, jobs_max: int) -> None:
        model = self.model
        states = tuple(sorted(FINAL if is_forced else KEPT))
        known = list(model.jobs)
        named = [known[-1 - pick % len(known)] for pick in picks] if known else []
        answer = self.do(RedriveJobs(Q, states, tuple(named), "", jobs_max, is_forced))
        room = min(jobs_max, max(0, model.settings.depth_max - model.depth))
        wanted = list(dict.fromkeys(named))
        if not named:
            found = [job for job in model.of(*states) if model.may_revive(job)]
            wanted = sorted(job.id for job in found)[:room]
        done = 0
        for number in wanted:
            job = model.jobs[number]
            if done < room and job.state in states and model.revive(job):
                done += 1
        assert answer == JobsRedriven(done)

    @rule(span_ms=st.sampled_from([1, 409, 409, 1511, 2503, 9001]), wall_ms=PICKS)
    def time_passes(self, span_ms: int, wall_ms: int) -> None:
        harness = self.harness
        harness.wall_ms += 300 * wall_ms - span_ms
        harness.entry(after_ms=span_ms)
        self.model.pass_ms(span_ms, 300 * wall_ms)

    def lose_worker(self, worker: int, *, is_clean: bool) -> None:
        lease = self.workers[worker]
        self.do(CloseSession(lease) if is_clean else RevokeLease(lease))
        self.model.lose(lease, is_clean=is_clean)
        self.workers[worker] = self.worker()

    def delete(self, *, is_forced: bool) -> None:
        model = self.model
        answer = self.do(DeleteQueue(Q, is_forced))
        if not is_forced and len(model.jobs) > len(model.of(JobState.DONE)):
            self.refused(answer, Reason.PRECONDITION)
            return
        assert answer == QueueDeleted(len(model.jobs))
        for job in list(model.jobs.values()):
            model.forget(job)
        self.make_queue()

    @rule()
    def restart(self) -> None:
        self.harness = restarted(self.harness, LIMITS)

    # --- what must hold --------------------------------------------------------------

    @invariant()
    def jobs_are_the_models(self) -> None:
        if not hasattr(self, "harness"):
            return
        queues = self.harness.machine.queues
        queues.audit()
        page = queues.list_jobs(Q)
        assert page is not None
        assert [job.id for job in page.jobs] == sorted(self.model.jobs)
        for seen in page.jobs:
            job = self.model.jobs[seen.id]
            assert seen.state is job.state
            assert (seen.attempt, seen.crashes) == (job.attempt, job.crashes)
            assert (seen.delivery, seen.token) == (job.delivery, job.token)
            assert (seen.payload, seen.savepoint) == (job.payload, job.savepoint)
            assert seen.lease == job.worker
            until_ms = job.until_ms if job.state is JobState.RESERVED else 0
            assert seen.reserved_until_ms == until_ms
        assert queues.depth(Q) == self.model.depth
        ready = self.model.ready(())
        assert bool(queues.ready_count(Q)) == bool(ready)

    def teardown(self) -> None:
        if not hasattr(self, "harness"):
            return
        check_replay(self.harness, LIMITS)

    # --- helpers ---------------------------------------------------------------------

    def do(self, command: AnyCommand) -> Answer:
        return self.harness.do(command)

    def pick(self, pick: int) -> tuple[int, int]:
        """Return a job and a token: of a live reservation, or an older one."""
        held = self.model.of(JobState.RESERVED)
        if held and pick < 4:
            job = held[-1 - pick % len(held)]
            return job.id, job.token
        return self.tokens[-1 - pick % len(self.tokens)]

    def judge(
        self, number: int, token: int, call: str
    ) -> tuple[ModelJob | None, Reason | None]:
        """Return the job if the token is live; else why not; neither = done before."""
        job = self.model.jobs.get(number)
        if job is None:
            return None, Reason.NOT_FOUND
        if job.state is JobState.RESERVED and job.worker and job.token == token:
            return job, None
        if job.state in FINAL:
            is_own = job.token == token and job.ended_by == call
            return None, None if is_own else Reason.JOB_FINAL
        if job.token == token:
            return None, Reason.RESERVATION_EXPIRED
        return None, Reason.RESERVATION_LOST

    def check(self, answer: Answer, done: Answer, reason: Reason | None) -> None:
        if reason is None:
            assert answer == done
        else:
            self.refused(answer, reason)

    def refused(self, answer: Answer, reason: Reason) -> None:
        assert isinstance(answer, Refusal), (answer, reason)
        assert answer.reason is reason, (answer, reason)


def _at(spec: JobSpec, run_at_ms: int) -> JobSpec:
    return msgspec.structs.replace(spec, run_at_ms=run_at_ms)


TestQueueLife = case_of(QueueLife, 150, 50)
