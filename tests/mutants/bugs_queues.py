"""Planted bugs of the job queue.

Source: RELIABILITY.md scenarios 57 to 61; section 6.
"""

from __future__ import annotations

from typing import Final

from raftd.statemachine.answers import Answer
from raftd.statemachine.queues.client_ids import ClientIds
from raftd.statemachine.queues.jobs import Job, order_of
from raftd.statemachine.queues.life import Life
from raftd.statemachine.queues.queue import Queue
from raftd.statemachine.queues.reserve import Reserve
from raftd.statemachine.queues.worker import Worker, no_such_job
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.jobs import JobsReserved, ReserveJobs
from raftd.statemachine.sessions import Sessions
from tests.mutants.bug import Bug
from tests.mutants.finders import Simulated, Stateful
from tests.statemachine.test_queues_model import QueueTraffic

__all__ = ["QUEUES"]

_keep = Sessions.keep
_take = Reserve._take  # noqa: SLF001  # put back in its own place
_live = Worker._live  # noqa: SLF001  # as above


def _live_whatever_token(self: Worker, number: int, token: int) -> Job | Refusal:
    """Take any token for the newest."""
    job = self._table.find(number)
    if job is None:
        return no_such_job(number)
    return _live(self, number, job.token if job.held is not None else token)


def _take_and_leave(
    self: Reserve, job: Job, queue: Queue, token: int, command: ReserveJobs
) -> None:
    """Hand out a job that stays among those to be handed out."""
    _take(self, job, queue, token, command)
    queue.ready.add(order_of(job), job.type)


def _keep_no_reserves(self: Sessions, request: object, answer: Answer) -> None:
    if not isinstance(answer, JobsReserved):
        _keep(self, request, answer)  # type: ignore[arg-type]  # as it came


def _remember_nothing(_: ClientIds, __: str) -> None:
    return None


def _forget_at_a_crash(self: Life, job: Job, *, may_charge: bool) -> None:
    """Leave a job whose worker was lost in its hands."""
    assert may_charge in {True, False}
    self._table.touch(job)
    self._let_go(job)


QUEUES: Final = (
    Bug(
        name="job-token-unchecked",
        does="a worker whose reservation was lost ends the job of its successor",
        breaks=("QTR", "FEN"),
        repeats="scenario 57",
        patches=((Worker, "_live", _live_whatever_token),),
        finder=Stateful(QueueTraffic),
    ),
    Bug(
        name="double-reserve",
        does="a job is handed out again while it is in a worker's hands",
        breaks=("QSL",),
        repeats="section 6 (double reserve)",
        patches=((Reserve, "_take", _take_and_leave),),
        finder=Stateful(QueueTraffic),
    ),
    Bug(
        name="reserve-not-kept",
        does="a reserve that is sent again hands out a second job",
        breaks=("QSL", "XO"),
        repeats="scenario 58",
        patches=((Sessions, "keep", _keep_no_reserves),),
        finder=Simulated(workers=3),
    ),
    Bug(
        name="client-id-forgotten",
        does="a job that has gone is enqueued a second time under its client's own id",
        breaks=("XO",),
        repeats="scenario 59",
        patches=((ClientIds, "find", _remember_nothing),),
        finder=Stateful(QueueTraffic),
    ),
    Bug(
        name="job-lost-with-its-worker",
        does="a job whose worker is gone is never handed out again",
        breaks=("QNL", "LIV"),
        repeats="section 4 (queue), scenario 61",
        patches=((Life, "end_reservation", _forget_at_a_crash),),
        finder=Stateful(QueueTraffic),
    ),
)
