"""The job queue against the naive model, over random traffic, reloads and replay.

Proved after every step: each job is in the model's state; events form one unbroken line
of states per job; tokens only rise; an accepted call had the current token; jobs kept
are jobs enqueued less jobs gone. At the end: the same log gives the same rows.
"""

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from raftd.statemachine.schema.base import Refusal
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
    JobsEnqueued,
    JobSnoozed,
    JobSpec,
    JobState,
    OnParentFailure,
    ReleaseJob,
    SnoozeJob,
    UniqueSpec,
    UniqueUntil,
)
from raftd.statemachine.schema.kv import PutKey
from raftd.statemachine.schema.leases import RevokeLease
from raftd.statemachine.schema.queues import (
    JobsRedriven,
    PurgeQueue,
    QueuePurged,
    RedriveJobs,
)
from raftd.statemachine.schema.sessions import CloseSession
from raftd.statemachine.schema.txn import Transact
from tests.statemachine.queues_harness import QueueHarness, replay
from tests.statemachine.queues_model import (
    BACKOFF_MS,
    CRASHES_MAX,
    KEPT_MS,
    Model,
    ModelJob,
)

QUEUES = ("a", "b")
FINAL = (JobState.DEAD, JobState.CANCELLED, JobState.EXPIRED)
_picks = st.integers(0, 1000)
_queues = st.sampled_from(QUEUES)


class QueueTraffic(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.q = QueueHarness()
        self.model = Model()
        self.log: list[bytes] = []
        self.last_states: dict[int, JobState] = {}
        self.tokens: list[tuple[int, int]] = []
        self.top_token = 0
        self.lease = 0
        for queue in QUEUES:
            self.q.configure(
                queue,
                backoff=Backoff.FIXED,
                backoff_base_ms=BACKOFF_MS,
                backoff_jitter=0,
                max_attempts=3,
                max_crashes=CRASHES_MAX,
                reservation_ms=5000,
                done_retention_ms=KEPT_MS,
                dead_retention_ms=KEPT_MS,
            )
        self.open_worker()
        self.model.now_ms = self.q.now_ms

    def open_worker(self) -> None:
        self.lease = self.q.open(b"%16d" % len(self.q.payloads), ttl_ms=86_400_000)

    # --- traffic -------------------------------------------------------------------

    @rule(
        queue=_queues,
        priority=st.sampled_from((0, 5, 5, 9)),
        delay_ms=st.sampled_from((None, None, 0, 700, 3000)),
        deadline_ms=st.sampled_from((None, None, None, 2500)),
        client=st.sampled_from(("", "", "c1", "c2", "c3")),
        group=st.sampled_from(("", "", "g", "h")),
        group_limit=st.sampled_from((1, 1, 2, 3)),
        after=st.lists(_picks, max_size=2),
        policy=st.sampled_from(OnParentFailure),
        unique=st.sampled_from(("", "", "", "u")),
        until=st.sampled_from((UniqueUntil.STARTED, UniqueUntil.DONE)),
    )
    def enqueue(
        self,
        queue: str,
        priority: int,
        delay_ms: int | None,
        deadline_ms: int | None,
        client: str,
        group: str,
        group_limit: int,
        after: list[int],
        policy: OnParentFailure,
        unique: str,
        until: UniqueUntil,
    ) -> None:
        model = self.model
        known = sorted(model.jobs)
        parents = [known[pick % len(known)] for pick in after] if known else []
        if parents:
            # Two causes in one entry would leave the end of a child to their order.
            deadline_ms = None
        spec = JobSpec(
            queue,
            b"p",
            priority=priority,
            delay_ms=delay_ms,
            deadline_ms=deadline_ms,
            client_id=client,
            group=group,
            group_limit=group_limit,
            after=tuple(parents),
            on_parent_failure=policy,
            unique=UniqueSpec(unique, until) if unique else None,
        )
        expected = model.find(client, queue, unique)
        answer = self.q.expect(JobsEnqueued, EnqueueJobs((spec,)))
        assert answer.existed == (expected is not None,)
        if expected is not None:
            assert answer.ids == (expected,)
            return
        now_ms = model.now_ms
        job = ModelJob(
            answer.ids[0],
            queue,
            priority,
            now_ms + (delay_ms or 0),
            None if deadline_ms is None else now_ms + deadline_ms,
            client,
            group,
            sorted(dict.fromkeys(parents)),
            policy,
            unique,
            until,
        )
        model.add(job, group_limit)
        assert answer.states == (model.state(job),)

    @rule(queue=_queues, jobs_max=st.integers(1, 3), ms=st.sampled_from((None, 1500)))
    def reserve(self, queue: str, jobs_max: int, ms: int | None) -> None:
        got = self.q.reserve(
            jobs_max, queues=((queue, 1),), lease=self.lease, reservation_ms=ms
        )
        model = self.model
        for held in got:
            wanted = model.ready(queue)[0]
            assert held.id == wanted.id
            assert held.token > self.top_token
            self.top_token = held.token
            self.tokens.append((held.id, held.token))
            model.take(wanted, held.token, self.lease, ms or 5000)
            assert held.delivery == wanted.delivery
        assert len(got) == jobs_max or not model.ready(queue)

    def pick(self, pick: int) -> tuple[int, int, ModelJob | None]:
        """Choose a token ever given, and the job if it is current."""
        job, token = self.tokens[pick % len(self.tokens)]
        known = self.model.jobs.get(job)
        is_live = known is not None and known.lease != 0 and known.token == token
        return job, token, known if is_live else None

    @precondition(lambda self: self.tokens)
    @rule(pick=_picks)
    def complete(self, pick: int) -> None:
        job, token, live = self.pick(pick)
        known = self.model.jobs.get(job)
        is_repeated = (
            known is not None and known.final is JobState.DONE and known.token == token
        )
        answer = self.q.do(CompleteJob(job, token, b"r"))
        assert isinstance(answer, JobCompleted if live or is_repeated else Refusal), (
            answer
        )
        if live is not None:
            self.model.end(live, JobState.DONE)

    @precondition(lambda self: self.tokens)
    @rule(
        pick=_picks,
        delay_ms=st.sampled_from((None, 0, 2000)),
        is_fatal=st.sampled_from((False, False, True)),
    )
    def fail(self, pick: int, delay_ms: int | None, is_fatal: bool) -> None:
        job, token, live = self.pick(pick)
        answer = self.q.do(FailJob(job, token, "e", delay_ms, is_fatal))
        if live is None:
            if isinstance(answer, JobFailed):
                known = self.model.jobs[job]
                assert known.token == token
                assert known.final is answer.state, "the first answer again"
            return
        self.model.fail(live, delay_ms, is_fatal=is_fatal)
        assert isinstance(answer, JobFailed)
        if live.final is not None:
            assert answer == JobFailed(live.final, 0)

    @precondition(lambda self: self.tokens)
    @rule(pick=_picks)
    def extend(self, pick: int) -> None:
        job, token, live = self.pick(pick)
        answer = self.q.do(ExtendJob(job, token, for_ms=4000))
        if live is None:
            assert isinstance(answer, Refusal)
            return
        assert answer == JobExtended(4000, live.is_cancel_requested)
        live.until_ms = self.model.now_ms + 4000
        live.is_started = True

    @precondition(lambda self: self.tokens)
    @rule(pick=_picks, snooze_ms=st.sampled_from((None, 0, 900)))
    def give_back(self, pick: int, snooze_ms: int | None) -> None:
        job, token, live = self.pick(pick)
        if snooze_ms is None:
            answer = self.q.do(ReleaseJob(job, token))
        else:
            answer = self.q.do(SnoozeJob(job, token, snooze_ms))
        if live is not None:
            assert isinstance(answer, JobReleased | JobSnoozed)
            self.model.give_back(live, self.model.now_ms + (snooze_ms or 0))

    @precondition(lambda self: self.model.jobs)
    @rule(pick=_picks)
    def cancel(self, pick: int) -> None:
        jobs = sorted(self.model.jobs)
        job = self.model.jobs[jobs[pick % len(jobs)]]
        answer = self.q.do(CancelJob(job.id))
        if job.lease:
            job.is_cancel_requested = True
        elif job.final is None:
            self.model.end(job, JobState.CANCELLED)
        elif job.final is not JobState.CANCELLED:
            assert isinstance(answer, Refusal)
            return
        assert answer == JobCancelled(self.model.state(job))

    @rule(ms=st.sampled_from((1, 500, 1500, 5000, 20_000)))
    def wait(self, ms: int) -> None:
        self.q.wait(ms)
        self.model.pass_time(ms)

    @rule(is_clean=st.booleans())
    def lose_worker(self, is_clean: bool) -> None:
        self.q.do(CloseSession(self.lease) if is_clean else RevokeLease(self.lease))
        self.model.drop_lease(self.lease, is_clean=is_clean)
        self.open_worker()

    @rule(queue=_queues, jobs_max=st.integers(1, 4), state=st.sampled_from(FINAL))
    def redrive(self, queue: str, jobs_max: int, state: JobState) -> None:
        answer = self.q.do(RedriveJobs(queue, (state,), jobs_max=jobs_max))
        model = self.model
        found = [
            job
            for job in sorted(model.jobs.values(), key=lambda job: job.id)
            if job.queue == queue and job.final is state and model.may_revive(job)
        ]
        revived = 0
        for job in found[:jobs_max]:
            if model.may_revive(job):
                model.revive(job)
                revived += 1
        assert answer == JobsRedriven(revived)

    @rule(queue=_queues, state=st.sampled_from((JobState.READY, *FINAL)))
    def purge(self, queue: str, state: JobState) -> None:
        model = self.model
        found = [
            job
            for job in model.jobs.values()
            if job.queue == queue and model.state(job) is state
        ]
        answer = self.q.do(PurgeQueue(queue, (state,)))
        assert answer == QueuePurged(len(found))
        for job in found:
            # One before it may have been its parent.
            if job.id in model.jobs:
                model.forget(job)

    @rule(pick=_picks, queue=_queues)
    def be_refused(self, pick: int, queue: str) -> None:
        """A refused transaction leaves nothing, whatever was in it."""
        revision = self.q.machine.revision
        size_bytes = self.q.machine.context.size_bytes
        ops: list[EnqueueJobs | CompleteJob | FailJob | PutKey] = [
            EnqueueJobs(
                (
                    JobSpec(queue, b"", group="g", group_limit=3, client_id="new"),
                    JobSpec("new queue", b"", delay_ms=5),
                )
            )
        ]
        if self.tokens:
            job, token, live = self.pick(pick)
            if live is not None and pick % 2:
                ops.append(CompleteJob(job, token))
            elif live is not None:
                ops.append(FailJob(job, token, is_fatal=pick % 3 == 0))
        ops.append(PutKey(b"k", b"", if_mod_rev=1 << 40))
        assert isinstance(self.q.do(Transact((), tuple(ops))), Refusal)
        assert self.q.machine.revision == revision
        assert self.q.machine.context.size_bytes == size_bytes

    @rule()
    def reload(self) -> None:
        """Go on from what a checkpoint says."""
        other = self.q.reborn()
        other.payloads = self.q.payloads
        other.events = self.q.events
        self.q = other

    # --- what must be --------------------------------------------------------------

    @invariant()
    def states_are_the_models(self) -> None:
        if not hasattr(self, "q"):
            return
        self.model.forget_empty_groups()
        found = {
            job: state
            for job in self.last_states | self.model.jobs
            if (state := self.q.state(job)) is not None
        }
        assert found == self.model.states()
        kept = 0
        for queue in QUEUES:
            stats = self.q.stats(queue)
            kept += sum(stats.counts.values())
        assert kept == self.model.enqueued - self.model.gone_count
        for job in self.model.jobs.values():
            seen = self.q.job(job.id)
            assert (seen.attempt, seen.crashes, seen.delivery) == (
                job.attempt,
                job.crashes,
                job.delivery,
            )
            assert seen.waits_for == tuple(job.after)
            token = job.token if job.lease else 0
            assert self.q.queues.reservation_token(job.id) == token

    @invariant()
    def events_are_one_line_per_job(self) -> None:
        if not hasattr(self, "q"):
            return
        for event in self.q.events:
            assert event.previous is self.last_states.get(event.job)
            assert event.state is not event.previous
            if event.state is None:
                del self.last_states[event.job]
            else:
                self.last_states[event.job] = event.state
        self.q.events.clear()
        assert self.last_states == self.model.states()

    def teardown(self) -> None:
        """The log alone gives the same rows as all the reloads in between."""
        if not hasattr(self, "q"):
            return
        rows = self.q.save()
        assert replay(self.q.payloads) == rows


QueueTraffic.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TestQueueTraffic = pytest.mark.timeout(300)(QueueTraffic.TestCase)
