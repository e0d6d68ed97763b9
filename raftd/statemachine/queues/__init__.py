"""The job queue: all between an enqueue and a job's end, in the replicated state.

``jobs`` is the record, ``table`` the one place where a state changes, ``life`` the ends
and returns with what follows from them. ``enqueue``, ``reserve``, ``worker`` and
``operate`` are the commands; ``deadlines`` the timers; ``work`` what is too large for
one command; ``queries`` what readers see. Indexes: ``ready`` (who is next), ``groups``
(strict order), ``family`` (jobs after jobs), ``unique`` and ``client_ids`` (at most
one), ``retention`` (who goes).

Rules: a job is in one state, and has at most one live token; every change goes through
the journal, so a refused command leaves nothing; counts and indexes follow from rows.

Source: SEMANTICS.md section 6.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from raftd.statemachine.context import Context
from raftd.statemachine.loading import pop_in_steps
from raftd.statemachine.module import EndReason, Handlers, LeaseKeeper, Module
from raftd.statemachine.queues.audit import audit_jobs, jobs_bytes
from raftd.statemachine.queues.awaited import Awaited
from raftd.statemachine.queues.deadlines import Deadlines
from raftd.statemachine.queues.enqueue import Enqueue
from raftd.statemachine.queues.jobs import Job, encode_job
from raftd.statemachine.queues.life import Life, parent_of
from raftd.statemachine.queues.operate import Operate
from raftd.statemachine.queues.queries import JobPage, JobView, Queries, QueueStats
from raftd.statemachine.queues.queue import Queue
from raftd.statemachine.queues.reserve import Reserve
from raftd.statemachine.queues.table import JobTable
from raftd.statemachine.queues.tasks import Tasks
from raftd.statemachine.queues.work import Work
from raftd.statemachine.queues.worker import Worker
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.jobs import (
    CancelJob,
    CompleteJob,
    EnqueueJobs,
    ExtendJob,
    FailJob,
    JobsReserved,
    JobState,
    ReleaseJob,
    ReserveJobs,
    SavepointJob,
    SnoozeJob,
)
from raftd.statemachine.schema.queues import (
    ConfigureQueue,
    DeleteQueue,
    PauseQueue,
    PurgeQueue,
    QueueOptions,
    RedriveJobs,
)
from raftd.statemachine.tables import Rank, RowKey, Table
from raftd.statemachine.timers import TimerId

__all__ = ["JobPage", "JobView", "QueueStats", "Queues"]


class Queues(Module):
    """All queues and their jobs."""

    rank = Rank.QUEUES
    tables = (
        Table.QUEUES,
        Table.JOBS,
        Table.JOB_PAYLOADS,
        Table.JOB_CLIENT_IDS,
        Table.JOB_GROUPS,
        Table.JOB_UNIQUES,
        Table.JOB_TASKS,
    )

    def __init__(self, context: Context, leases: LeaseKeeper) -> None:
        super().__init__(context)
        self._table: Final = JobTable(context)
        self._tasks: Final = Tasks(context)
        self._life: Final = Life(context, self._table, leases, self._tasks)
        self._enqueue: Final = Enqueue(context, self._table, self._life)
        self._reserve: Final = Reserve(context, self._table, self._life, leases)
        self._worker: Final = Worker(context, self._table, self._life)
        self._work: Final = Work(context, self._table, self._life, self._tasks)
        self._operate: Final = Operate(
            context, self._table, self._life, self._enqueue, self._work
        )
        self._deadlines: Final = Deadlines(context, self._table, self._life, leases)
        self._queries: Final = Queries(context, self._table)

    def handlers(self) -> Handlers:
        """Return who handles which command type."""
        worker, operate = self._worker, self._operate
        return {
            EnqueueJobs: self._enqueue.enqueue,
            ReserveJobs: self._reserve.reserve,
            ExtendJob: worker.extend,
            SavepointJob: worker.save,
            CompleteJob: worker.complete,
            FailJob: worker.fail,
            SnoozeJob: worker.snooze,
            ReleaseJob: worker.release,
            CancelJob: operate.cancel,
            RedriveJobs: operate.redrive,
            ConfigureQueue: operate.configure,
            PauseQueue: operate.pause,
            PurgeQueue: operate.purge,
            DeleteQueue: operate.delete,
        }

    @property
    def awaited(self) -> Awaited:
        """Who outside waits for which queue."""
        return self._table.awaited

    # --- what fences and compares ask ------------------------------------------

    def holds_reservation(self, job: int, token: int) -> bool:
        """Tell whether this token is the job's live reservation."""
        return self._worker.holds(job, token)

    def reservation_token(self, job: int) -> int:
        """Return the job's current token; 0 = not reserved."""
        return self._worker.current_token(job)

    def queue_depth(self, name: str) -> int:
        """Return how many jobs of a queue have not ended; 0 for an unknown one."""
        return self._queries.depth(name)

    # --- reads -----------------------------------------------------------------

    def get(self, job: int) -> JobView | None:
        """Return a job."""
        return self._queries.get(job)

    def get_by_client_id(self, client_id: str) -> JobView | None:
        """Return the job of a client's own id, while it is kept."""
        return self._queries.get_by_client_id(client_id)

    def list_jobs(
        self,
        name: str,
        states: tuple[JobState, ...] = (),
        type_: str = "",
        after: int = 0,
        limit: int = 100,
    ) -> JobPage | None:
        """Return a page of a queue's jobs; see ``Queries.list_jobs``."""
        return self._queries.list_jobs(name, states, type_, after, limit)

    def stats(self, name: str) -> QueueStats | None:
        """Return a queue's numbers, None if there is no such queue."""
        return self._queries.stats(name)

    def options(self, name: str) -> QueueOptions | None:
        """Return a queue's settings, None if there is no such queue."""
        return self._queries.options(name)

    def list_queues(self, after: str = "", limit: int = 1000) -> list[str]:
        """Return names of queues above ``after``, rising, at most ``limit``."""
        return self._queries.list_queues(after, limit)

    def depth(self, name: str) -> int:
        """Return how many jobs of a queue have not ended; 0 for an unknown one."""
        return self._queries.depth(name)

    def ready_count(self, name: str, types: tuple[str, ...] = ()) -> int:
        """Return how many jobs of a queue (and of these types) could be had now."""
        return self._queries.ready_count(name, types)

    def refill(self, kept: JobsReserved) -> JobsReserved:
        """Find the payloads of a kept answer again; see ``Reserve.refill``."""
        return self._reserve.refill(kept)

    def audit(self) -> int:
        """Prove that indexes and records agree; return what the jobs count in bytes.

        Raises:
            AssertionError: They differ: a bug.
        """
        audit_jobs(self._table, self._life.family)
        self._life.client_ids.audit(self._table.by_client_id)
        return jobs_bytes(self._table)

    def why_not_completed(self, job: int, token: int) -> Refusal | None:
        """Return what keeps a token from completing its job; None if it has or may."""
        return self._worker.why_not_completed(job, token)

    # --- timers, leases, promotions, tasks -------------------------------------

    def timer_deadline(self, timer: TimerId) -> int | None:
        """Return when a timer is due, None if it is gone."""
        return self._deadlines.deadline_ms(timer)

    def fire(self, timer: TimerId) -> int:
        """Do what a due timer says."""
        return self._deadlines.fire(timer)

    def lease_ended(
        self, lease: int, keys: Sequence[RowKey], reason: EndReason
    ) -> None:
        """Take back the jobs of a worker whose session is over."""
        jobs: list[Job] = []
        for key in keys:
            job = self._table.jobs[_number(key)]
            assert job.held is not None
            assert job.held.lease == lease
            jobs.append(job)
        self._deadlines.lease_ended(jobs, reason)

    def promote(self, key: RowKey) -> None:
        """Settle a group, or the children of a job that has ended."""
        text = _text(key)
        parent = parent_of(text)
        if parent is None:
            self._life.settle_group(text)
        else:
            self._work.promote_children(parent)

    def has_tasks(self) -> bool:
        """Tell whether background work is left."""
        return bool(self._tasks)

    def run_tasks(self, rows_max: int) -> int:
        """Do background work on at most ``rows_max`` jobs."""
        return self._work.run(rows_max)

    # --- rows ------------------------------------------------------------------

    def encode_row(self, table: int, key: RowKey) -> bytes | None:
        """Encode a row as it is now; None = there is none."""
        match Table(table):
            case Table.JOBS:
                job = self._table.jobs.get(_number(key))
                return None if job is None else encode_job(job)
            case Table.JOB_PAYLOADS:
                job = self._table.jobs.get(_number(key))
                return job.payload or None if job is not None else None
            case Table.QUEUES:
                queue = self._table.queues.get(_text(key))
                return None if queue is None else queue.encode()
            case Table.JOB_CLIENT_IDS:
                return self._life.client_ids.encode_row(_bytes(key))
            case Table.JOB_GROUPS:
                return self._table.groups.encode_row(_bytes(key))
            case Table.JOB_UNIQUES:
                return self._life.uniques.encode_row(_bytes(key))
            case Table.JOB_TASKS:
                return self._tasks.encode_row(_number(key))
            case _:
                raise AssertionError(f"table {table} is not of queues")

    def load_row(self, table: int, key: RowKey, value: bytes) -> None:
        """Take up a row."""
        match Table(table):
            case Table.JOBS:
                self._table.load_job(_number(key), value)
            case Table.JOB_PAYLOADS:
                self._table.load_payload(_number(key), value)
            case Table.QUEUES:
                name = _text(key)
                self._table.queues[name] = Queue.decode(name, value)
            case Table.JOB_CLIENT_IDS:
                self._life.client_ids.load_row(_bytes(key), value)
            case Table.JOB_GROUPS:
                self._table.groups.load_row(_bytes(key), value)
            case Table.JOB_UNIQUES:
                self._life.uniques.load_row(_bytes(key), value)
            case Table.JOB_TASKS:
                self._tasks.load_row(_number(key), value)
            case _:
                raise AssertionError(f"table {table} is not of queues")

    def loaded(self) -> Iterator[None]:
        """Rebuild indexes, attach reservations, arm timers."""
        yield from self._table.loaded()
        yield from self._life.loaded()
        yield from self._deadlines.loaded()

    def let_go(self) -> Iterator[None]:
        """Free most jobs."""
        return pop_in_steps(self._table.jobs)


def _number(key: RowKey) -> int:
    assert isinstance(key, int)
    return key


def _text(key: RowKey) -> str:
    assert isinstance(key, str)
    return key


def _bytes(key: RowKey) -> bytes:
    assert isinstance(key, bytes)
    return key
