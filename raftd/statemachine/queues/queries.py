"""What readers see of jobs and queues.

Rules: counts are kept, never counted; a page looks at a bounded number of jobs, so it
may be short, or empty, and still name where the next one begins.

Source: SEMANTICS.md section 6 (Queries).
"""

from itertools import islice
from typing import Final

import msgspec

from raftd.statemachine.context import Context
from raftd.statemachine.queues.jobs import Extra, Held, Job, Outcome, Trail
from raftd.statemachine.queues.options import attempts_max
from raftd.statemachine.queues.queue import Queue, Total
from raftd.statemachine.queues.table import JobTable
from raftd.statemachine.schema.jobs import JobState
from raftd.statemachine.schema.queues import QueueOptions

__all__ = ["JobPage", "JobView", "Queries", "QueueStats"]

_LOOKS_MAX: Final = 10_000


class JobView(msgspec.Struct, frozen=True, gc=False):
    """A job as a reader sees it; times on the lease clock, but ``due_ms`` may not be.

    Attributes:
        due_ms: When it is, or was last, due; wall time if ``is_due_on_wall``.
        deadline_ms: When it expires if it still waits; None = never.
        token: Of the newest reservation; 0 = none.
        worker: Who has it, if it is reserved.
        lease: What pays for the reservation; 0 = not reserved, or in its grace.
        reserved_until_ms: When its reservation ends; 0 = not reserved.
        progress: Per mille.
        result: Its first bytes, as far as they are kept.
        result_bytes: How long the whole result was.
        ended_ms: When it ended; None = not yet.
    """

    id: int
    queue: str
    type: str
    state: JobState
    priority: int
    payload: bytes
    content_type: str
    meta: dict[str, str]
    client_id: str
    group: str
    waits_for: tuple[int, ...]
    unique_key: str
    enqueued_ms: int
    due_ms: int
    is_due_on_wall: bool
    deadline_ms: int | None
    attempt: int
    max_attempts: int
    crashes: int
    delivery: int
    token: int
    worker: str
    lease: int
    reserved_until_ms: int
    is_cancel_requested: bool
    savepoint: bytes
    progress: int
    error: str
    result: bytes
    result_bytes: int
    ended_ms: int | None


class JobPage(msgspec.Struct, frozen=True, gc=False):
    """Some jobs of a queue, by rising ids.

    Attributes:
        next_after: Where the next page begins; None = this was the last.
    """

    jobs: list[JobView]
    next_after: int | None


class QueueStats(msgspec.Struct, frozen=True, gc=False):
    """A queue in numbers.

    Attributes:
        counts: Jobs by state, every state named.
        oldest_ready_ms: How long the ready job with the lowest id has been due; None
            = nothing is ready.
        enqueued: Since the queue was made, as the next three.
        failed: Failed attempts, whatever followed.
    """

    name: str
    is_paused: bool
    depth: int
    counts: dict[JobState, int]
    oldest_ready_ms: int | None
    enqueued: int
    completed: int
    failed: int
    dead: int


_NO_EXTRA: Final = Extra()
_NO_TRAIL: Final = Trail()
_NOT_HELD: Final = Held(0, "", 0, 0, 0)
_NO_OUTCOME: Final = Outcome(0)


class Queries:
    """Reads of one member's state."""

    def __init__(self, context: Context, table: JobTable) -> None:
        self._context: Final = context
        self._table: Final = table

    def get(self, job: int) -> JobView | None:
        """Return a job."""
        found = self._table.find(job)
        return None if found is None else self._view(found)

    def get_by_client_id(self, client_id: str) -> JobView | None:
        """Return the job of a client's own id, while it is kept."""
        job = self._table.by_client_id.get(client_id)
        return None if job is None else self.get(job)

    def list_jobs(
        self,
        name: str,
        states: tuple[JobState, ...] = (),
        type_: str = "",
        after: int = 0,
        limit: int = 100,
    ) -> JobPage | None:
        """Return jobs of a queue above ``after``; None if there is no such queue.

        Args:
            name: The queue.
            states: Only in these; empty = all.
            type_: Only of this type; empty = all.
            after: The ``next_after`` of the page before; 0 = from the start.
            limit: At most so many.
        """
        queue = self._table.find_queue(name)
        if queue is None:
            return None
        jobs: list[JobView] = []
        looked = 0
        for number in queue.ids.above(after):
            if len(jobs) == limit or looked == _LOOKS_MAX:
                return JobPage(jobs, after)
            after = number
            looked += 1
            job = self._table.jobs[number]
            if states and job.state not in states:
                continue
            if not type_ or job.type == type_:
                jobs.append(self._view(job))
        return JobPage(jobs, None)

    def stats(self, name: str) -> QueueStats | None:
        """Return a queue's numbers."""
        queue = self._table.find_queue(name)
        if queue is None:
            return None
        return QueueStats(
            queue.name,
            queue.is_paused,
            queue.depth,
            {state: queue.counts[state] for state in JobState},
            self._oldest_ready_ms(queue),
            *(queue.totals[total] for total in Total),
        )

    def options(self, name: str) -> QueueOptions | None:
        """Return a queue's settings, every one with its value."""
        queue = self._table.find_queue(name)
        return None if queue is None else queue.options

    def list_queues(self, after: str = "", limit: int = 1000) -> list[str]:
        """Return names of queues above ``after``, rising, at most ``limit``."""
        names = sorted(
            name
            for name, queue in self._table.queues.items()
            if name > after and not queue.is_deleted
        )
        return list(islice(names, limit))

    def depth(self, name: str) -> int:
        """Return how many jobs of a queue have not ended; 0 for an unknown one."""
        queue = self._table.find_queue(name)
        return 0 if queue is None else queue.depth

    def ready_count(self, name: str, types: tuple[str, ...]) -> int:
        """Return how many jobs of a queue and of these types a reserve could get."""
        queue = self._table.queues.get(name)
        if queue is None:
            return 0
        return min(queue.slots, queue.ready.count(types)) if types else queue.slots

    def _oldest_ready_ms(self, queue: Queue) -> int | None:
        oldest = queue.ready.oldest()
        if oldest is None:
            return None
        job = self._table.jobs[oldest]
        due_ms = job.enqueued_ms if job.is_due_on_wall else job.due_ms
        return self._context.now_ms - max(job.enqueued_ms, due_ms)

    def _view(self, job: Job) -> JobView:
        extra, held = job.extra or _NO_EXTRA, job.held or _NOT_HELD
        trail, outcome = job.trail or _NO_TRAIL, job.outcome or _NO_OUTCOME
        return JobView(
            id=job.id,
            queue=job.queue,
            type=job.type,
            state=job.state,
            priority=job.priority,
            payload=job.payload,
            content_type=job.content_type,
            meta=extra.meta,
            client_id=job.client_id,
            group=job.group,
            waits_for=job.waits_for,
            unique_key="" if extra.unique is None else extra.unique.key,
            enqueued_ms=job.enqueued_ms,
            due_ms=job.due_ms,
            is_due_on_wall=job.is_due_on_wall,
            deadline_ms=extra.deadline_ms,
            attempt=job.attempt,
            max_attempts=attempts_max(job, self._table.queues[job.queue].options),
            crashes=job.crashes,
            delivery=job.delivery,
            token=job.token,
            worker=held.worker,
            lease=held.lease,
            reserved_until_ms=held.until_ms,
            is_cancel_requested=held.is_cancel_requested,
            savepoint=trail.savepoint,
            progress=trail.progress,
            error=trail.error,
            result=outcome.result,
            result_bytes=outcome.result_bytes,
            ended_ms=None if job.outcome is None else job.outcome.at_ms,
        )
