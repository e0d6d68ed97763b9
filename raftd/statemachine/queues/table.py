"""All jobs and queues, and the one place where a job's state changes.

Rules:
* ``touch`` a job before changing it: that marks its row and notes how to take the
  change back. ``move`` is the only way to another state: counts, indexes and the event
  follow there and nowhere else.
* A job is in exactly one state's index: ready, or done, or dead (with its like); groups
  hold those that have not ended.
* Timers are armed where a deadline begins or comes nearer; see ``deadlines.py``.

Source: SEMANTICS.md section 6; DESIGN.md section 5.
"""

import enum
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from raftd.statemachine.context import Context
from raftd.statemachine.events import JobEvent
from raftd.statemachine.loading import in_steps
from raftd.statemachine.queues.awaited import Awaited
from raftd.statemachine.queues.groups import Groups
from raftd.statemachine.queues.jobs import (
    Job,
    decode_job,
    is_final,
    order_of,
    size_of,
)
from raftd.statemachine.queues.queue import Queue, Total, kept_key
from raftd.statemachine.schema.jobs import JobState
from raftd.statemachine.schema.queues import QueueOptions
from raftd.statemachine.tables import Rank, Table

__all__ = ["JobTable", "TimerKind"]

_READY: Final = JobState.READY  # an enum's member costs a look-up each time
_RESERVED: Final = JobState.RESERVED
_JOBS: Final = int(Table.JOBS)
_JOB_PAYLOADS: Final = int(Table.JOB_PAYLOADS)
_QUEUES: Final = int(Table.QUEUES)
_EVENT_BYTES: Final = 80
_QUEUE_BYTES: Final = 500
_RANK: Final = int(Rank.QUEUES)
_ENQUEUED: Final = int(Total.ENQUEUED)
_FIELDS: Final = Job.__struct_fields__
_as_tuple: Final = msgspec.structs.astuple


class TimerKind(enum.IntEnum):
    """What a timer is about; its id is a job, a queue's name, or as said."""

    DUE = 1
    DUE_ON_WALL = 2
    RESERVATION = 3
    """The token, so that what is left of an old one is told from a new one."""
    DEADLINE = 4
    DONE_RETENTION = 5
    DEAD_RETENTION = 6
    CLIENT_IDS = 7
    """Id 0."""
    UNIQUE_WINDOW = 8
    """The key's hash in hexadecimal."""


_DUE_ON_WALL: Final = TimerKind.DUE_ON_WALL


class JobTable:
    """Jobs by id, queues by name."""

    def __init__(self, context: Context) -> None:
        self.context: Final = context
        self.jobs: dict[int, Job] = {}
        self.queues: dict[str, Queue] = {}
        self.groups: Final = Groups(context, self.jobs)
        self.by_client_id: dict[str, int] = {}
        self.by_token: dict[int, int] = {}
        """Reserved jobs."""
        self.awaited: Final = Awaited()

    # --- reads -----------------------------------------------------------------

    def find(self, job: int) -> Job | None:
        """Return a job, unless its queue was deleted."""
        found = self.jobs.get(job)
        if found is None or self.queues[found.queue].is_deleted:
            return None
        return found

    def find_queue(self, name: str) -> Queue | None:
        """Return a queue, unless it was deleted."""
        queue = self.queues.get(name)
        return None if queue is None or queue.is_deleted else queue

    # --- queues ----------------------------------------------------------------

    def add_queue(self, name: str, options: QueueOptions) -> Queue:
        """Make a queue."""
        context = self.context
        context.rev()
        context.mark(Table.QUEUES, name)
        context.journal.item(self.queues, name)
        queue = self.queues[name] = Queue(name, options)
        context.size_bytes += _QUEUE_BYTES
        return queue

    def drop_queue(self, queue: Queue) -> None:
        """Remove a queue without jobs."""
        assert not queue.ids, f"queue {queue.name} has jobs"
        context = self.context
        context.rev()
        context.mark(Table.QUEUES, queue.name)
        context.journal.item(self.queues, queue.name)
        del self.queues[queue.name]
        context.size_bytes -= _QUEUE_BYTES

    def touch_queue(self, queue: Queue, attribute: str) -> None:
        """Note that a queue's setting or flag is about to change."""
        self.context.rev()
        self.context.mark(Table.QUEUES, queue.name)
        self.context.journal.attribute(queue, attribute)
        self.awaited.stir(queue.name)

    def count(self, queue: Queue, total: Total) -> None:
        """Count one more of what a queue counts since it was made."""
        context = self.context
        context.mark(_QUEUES, queue.name)
        context.journal.undo(_uncount, queue, total)
        queue.totals[total] += 1

    # --- jobs ------------------------------------------------------------------

    def insert(self, job: Job, queue: Queue, size_bytes: int) -> None:
        """Put a new job in, in the state it says.

        Args:
            job: Is in no index yet.
            queue: Its queue.
            size_bytes: The job's ``size_of``.
        """
        context = self.context
        mark, number, name = context.mark, job.id, queue.name
        mark(_JOBS, number)
        mark(_JOB_PAYLOADS, number)
        mark(_QUEUES, name)
        context.journal.undo(self._take_back, job, queue)
        queue.totals[_ENQUEUED] += 1
        self._put(job, queue)
        context.size_bytes += size_bytes
        context.emit(
            JobEvent(context.command_rev, name, number, job.state, None),
            _EVENT_BYTES + len(name),
        )

    def touch(self, job: Job) -> None:
        """Note that a job is about to change."""
        context = self.context
        context.mark(_JOBS, job.id)
        context.journal.undo(self._restore, job, _as_tuple(job))

    def touch_payload(self, job: Job) -> None:
        """Note that a touched job's payload is about to change too."""
        self.context.mark(_JOB_PAYLOADS, job.id)

    def move(self, job: Job, state: JobState) -> Queue:
        """Put a touched job into another state; a final one has its outcome set."""
        before = job.state
        queue = self.queues[job.queue]
        self._unplace(job, queue)
        job.state = state
        self._place(job, queue)
        context = self.context
        context.emit(
            JobEvent(context.command_rev, queue.name, job.id, state, before),
            _EVENT_BYTES + len(queue.name),
        )
        return queue

    def remove(self, job: Job) -> None:
        """Forget a job; the caller has cut its ties."""
        context = self.context
        queue = self.queues[job.queue]
        context.mark(_JOBS, job.id)
        context.mark(_JOB_PAYLOADS, job.id)
        context.journal.undo(self._put, job, queue)
        self._pull(job, queue)
        context.size_bytes -= size_of(job)
        context.emit(
            JobEvent(context.command_rev, queue.name, job.id, None, job.state),
            _EVENT_BYTES + len(queue.name),
        )

    def arm(self, kind: TimerKind, number: int, deadline_ms: int) -> None:
        """Arm the timer of a job or token."""
        timers = self.context.timers
        heap = timers.wall if kind is _DUE_ON_WALL else timers.lease
        # Plain numbers: the collector leaves tuples of them alone.
        heap.arm(deadline_ms, _RANK, (int(kind), number))

    # --- indexes ---------------------------------------------------------------

    def _place(self, job: Job, queue: Queue) -> None:
        state = job.state
        queue.counts[state] += 1
        if state is _READY:
            queue.ready.add(order_of(job), job.type)
            self.awaited.stir(queue.name)
        elif state is _RESERVED:
            self.by_token[job.token] = job.id
        elif is_final(state):
            queue.kept(state).add(kept_key(job))
            return
        if job.group:
            self.groups.add(job)

    def _unplace(self, job: Job, queue: Queue) -> None:
        state = job.state
        queue.counts[state] -= 1
        if state is _READY:
            queue.ready.remove(order_of(job), job.type)
        elif state is _RESERVED:
            del self.by_token[job.token]
            self.awaited.stir(queue.name)  # its slot is free
        elif is_final(state):
            queue.kept(state).remove(kept_key(job))
            return
        if job.group:
            self.groups.remove(job)

    def _put(self, job: Job, queue: Queue) -> None:
        self.jobs[job.id] = job
        queue.ids.add(job.id)
        if job.client_id:
            self.by_client_id[job.client_id] = job.id
        self._place(job, queue)

    def _pull(self, job: Job, queue: Queue) -> None:
        self._unplace(job, queue)
        if job.client_id:
            del self.by_client_id[job.client_id]
        queue.ids.remove(job.id)
        del self.jobs[job.id]

    def _take_back(self, job: Job, queue: Queue) -> None:
        self._pull(job, queue)
        queue.totals[Total.ENQUEUED] -= 1

    def _restore(self, job: Job, fields: tuple[Any, ...]) -> None:
        queue = self.queues[job.queue]
        self._unplace(job, queue)
        for name, value in zip(_FIELDS, fields, strict=True):
            setattr(job, name, value)
        self._place(job, queue)

    # --- rows ------------------------------------------------------------------

    def load_job(self, job: int, value: bytes) -> None:
        """Take up a job's row."""
        self.jobs[job] = decode_job(value)

    def load_payload(self, job: int, value: bytes) -> None:
        """Take up a payload's row; the job's own came before."""
        self.jobs[job].payload = value

    def loaded(self) -> Iterator[None]:
        """Rebuild every index from the loaded jobs."""
        return in_steps(self.jobs.values(), self._index)

    def _index(self, job: Job) -> None:
        queue = self.queues[job.queue]
        queue.ids.add(job.id)
        if job.client_id:
            self.by_client_id[job.client_id] = job.id
        self._place(job, queue)


def _uncount(queue: Queue, total: Total) -> None:
    queue.totals[total] -= 1
