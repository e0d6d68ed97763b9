"""Clients of jobs: they enqueue, reserve, and do all that a worker may do with a job.

Rules: what a worker was told is checked against the log at once, and so is what a read
of a job shows. Now and then one calls with a token that it had before, or says goodbye.
In the end they reserve and complete until no job is left.

Source: SEMANTICS.md section 6; RELIABILITY.md section 4 (queue).
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from raftd.node.service import Answered
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Refusal, Result
from raftd.statemachine.schema.entry import AnyCommand
from raftd.statemachine.schema.jobs import (
    CancelJob,
    CompleteJob,
    EnqueueJobs,
    ExtendJob,
    FailJob,
    JobCompleted,
    JobSpec,
    JobsReserved,
    JobState,
    ReleaseJob,
    ReserveJobs,
    SavepointJob,
    SnoozeJob,
)
from raftd.statemachine.schema.kv import IncrementKey
from raftd.statemachine.schema.queues import QueueConfigured
from raftd.statemachine.schema.txn import Transact, Transacted
from tests.sim.caller import Caller
from tests.sim.jobs_model import EFFECTS, QUEUE, configure
from tests.sim.ops import Op
from tests.sim.world import SimFailure

__all__ = ["Worker"]

_HELD_MAX: Final = 4
_LEFT_MAX: Final = 12
"""More jobs than this are not enqueued: the plain model looks through all of them."""

_Held = tuple[int, int]
"""Job and token."""


class Worker(Caller):
    """See the module's rules."""

    def __init__(self, *args: Any) -> None:
        """Begin to exist; see ``Caller``."""
        super().__init__(*args)
        self._is_configured = False
        self._held: Final[list[_Held]] = []
        self._had: Final[list[_Held]] = []

    @property
    def is_idle(self) -> bool:
        """Whether all that was enqueued has its end too."""
        return not self._open and not self._model.jobs.left

    @property
    def _has_duties(self) -> bool:
        return self._model.jobs.left > 0

    # --- what it does ---------------------------------------------------------------

    def _leave(self) -> None:
        super()._leave()
        self._held.clear()

    def _begin_some(self) -> None:
        if not self._is_configured:
            if not self._is_draining or self._has_duties:
                self._begin(configure(), b"")
        elif self._is_draining:
            self._finish_some()
        else:
            self._begin_work()

    def _finish_some(self) -> None:
        if self._held:
            self._begin(CompleteJob(*self._held.pop()), b"")
        elif self._has_duties and not self._open:
            self._begin(self._reserve(), b"")

    def _begin_work(self) -> None:
        rng = self._rng
        draw = rng.random()
        if draw < 0.1:
            known = self._model.jobs.known()
            if known:
                self._read(rng.choice(known))
        elif draw < 0.35 and self._model.jobs.left < _LEFT_MAX:
            specs = [self._spec() for _ in range(rng.choice([1, 1, 3]))]
            self._begin(EnqueueJobs(tuple(specs)), b"")
        elif self._held and (len(self._held) >= _HELD_MAX or draw < 0.8):
            self._begin(self._call(), b"")
        elif draw < 0.85 and self._had:
            self._begin(CompleteJob(*rng.choice(self._had)), b"")
        else:
            self._begin(self._reserve(), b"")

    def _spec(self) -> JobSpec:
        rng = self._rng
        client_id = f"w{self._id}.{self._tag}" if rng.random() < 0.5 else ""
        if client_id and rng.random() < 0.3:
            client_id = f"shared{rng.randrange(4)}"
        return JobSpec(
            QUEUE,
            b"%d.%d" % (self._id, self._tag),
            priority=rng.choice([0, 5, 5, 9]),
            delay_ms=rng.choice([None, None, 0, 700, 3000]),
            deadline_ms=rng.choice([None, None, None, 2500]),
            client_id=client_id,
            group=rng.choice(["", "", "g"]),
        )

    def _reserve(self) -> ReserveJobs:
        rng = self._rng
        return ReserveJobs(
            self._session,
            ((QUEUE, 1),),
            f"w{self._id}",
            rng.choice([1, 1, 3]),
            reservation_ms=rng.choice([None, None, 1500]),
        )

    def _call(self) -> AnyCommand:
        """Draw what is done with one of the jobs in hand."""
        rng = self._rng
        at = rng.randrange(len(self._held))
        job, token = self._held[at]
        draw = rng.random()
        if draw < 0.15:
            return ExtendJob(job, token)
        if draw < 0.25:
            return SavepointJob(job, token, b"%d" % self._tag)
        if draw < 0.3:
            return CancelJob(job)
        del self._held[at]
        if draw < 0.55:
            return CompleteJob(job, token, b"done")
        if draw < 0.75:
            effect = IncrementKey(EFFECTS, 1)
            return Transact((), (CompleteJob(job, token), effect))
        if draw < 0.87:
            delay_ms = rng.choice([None, 0, 2000])
            return FailJob(job, token, "no", delay_ms, rng.random() < 0.2)
        if draw < 0.94:
            return SnoozeJob(job, token, rng.choice([0, 900]))
        return ReleaseJob(job, token)

    def _read(self, job: int) -> None:
        self._begin(None, b"%d" % job, query=partial(_state, job))

    # --- what it is told --------------------------------------------------------------

    def _on_told(self, op: Op, answer: Result | Refusal) -> None:
        match answer:
            case JobsReserved(jobs=jobs):
                held = [(job.id, job.token) for job in jobs]
                self._held.extend(held)
                self._had.extend(held)
                del self._had[:-8]
            case JobCompleted() | Transacted():
                self._tally.jobs += 1
            case QueueConfigured():
                self._is_configured = True
            case Refusal() if self._is_lost:
                self._held.clear()
            case _:
                pass

    def _on_read(self, op: Op, answered: Answered) -> None:
        found: object = answered.answer
        job = int(op.key)
        expected = self._model.jobs.state_at(job, answered.revision)
        if found is not expected:
            raise SimFailure(
                f"c{self._id} saw job {job} at {answered.revision}: {found}, the log"
                f" says {expected}"
            )


def _state(job: int, machine: Machine) -> JobState | None:
    view = machine.queues.get(job)
    return view.state if view is not None else None
