"""One queue: its settings, its counts, and its jobs in the orders that are asked for.

Rules: the row holds settings, flags and totals; counts and indexes follow from the
jobs. Settings are stored complete, so a later version's defaults change no queue.

Source: SEMANTICS.md section 6.
"""

import enum
from typing import Final

import msgspec

from raftd.statemachine.queues.jobs import ORDER_MASK, Job
from raftd.statemachine.queues.line import Line
from raftd.statemachine.queues.ready import ReadyJobs
from raftd.statemachine.schema.jobs import JobState
from raftd.statemachine.schema.queues import QueueOptions

__all__ = ["Queue", "Total", "kept_key", "kept_parts"]

_KEPT_SHIFT: Final = 56
_READY: Final = JobState.READY  # an enum's member costs a look-up each time
_RESERVED: Final = JobState.RESERVED
_DONE: Final = JobState.DONE


class Total(enum.IntEnum):
    """What is counted since a queue was made."""

    ENQUEUED = 0
    COMPLETED = 1
    FAILED = 2
    DEAD = 3


_Stored = tuple[QueueOptions, bool, bool, list[int]]
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Stored).decode


class Queue:
    """A queue in memory.

    Attributes:
        options: Complete: every setting has a value; concurrency 0 = no bound.
        is_deleted: Gone for everybody; its jobs are being removed.
        counts: Jobs by state; index = ``JobState``.
        totals: By ``Total``.
        ids: All jobs, final ones too, rising.
        done: DONE jobs in the order in which they go, as ``kept_key``.
        dead: The same of DEAD, CANCELLED and EXPIRED ones.
    """

    __slots__ = (
        "counts",
        "dead",
        "done",
        "ids",
        "is_deleted",
        "is_paused",
        "name",
        "options",
        "ready",
        "totals",
    )

    def __init__(self, name: str, options: QueueOptions) -> None:
        self.name: Final = name
        self.options = options
        self.is_paused = False
        self.is_deleted = False
        self.counts = [0] * (max(JobState) + 1)
        self.totals = [0] * len(Total)
        self.ready: Final = ReadyJobs()
        self.ids: Final = Line()
        self.done: Final = Line()
        self.dead: Final = Line()

    @property
    def depth(self) -> int:
        """How many jobs have not ended."""
        counts = self.counts
        return counts[1] + counts[2] + counts[3] + counts[4]

    @property
    def slots(self) -> int:
        """How many more jobs may be handed out now."""
        if self.is_paused or self.is_deleted:
            return 0
        ready = self.counts[_READY]
        limit = self.options.concurrency_max
        if not limit:
            return ready
        return min(ready, max(0, limit - self.counts[_RESERVED]))

    def kept(self, state: JobState) -> Line:
        """Return the line of final jobs that a state belongs to."""
        return self.done if state is _DONE else self.dead

    def encode(self) -> bytes:
        """Encode the queue's row."""
        stored: _Stored = (
            self.options,
            self.is_paused,
            self.is_deleted,
            self.totals,
        )
        return _encode(stored)

    @classmethod
    def decode(cls, name: str, data: bytes) -> "Queue":
        """Make a queue from its row."""
        options, is_paused, is_deleted, totals = _decode(data)
        queue = cls(name, options)
        queue.is_paused = is_paused
        queue.is_deleted = is_deleted
        queue.totals = totals
        return queue


def kept_key(job: Job) -> int:
    """Return a final job's place among those that are kept: (end, id)."""
    assert job.outcome is not None
    return job.outcome.at_ms << _KEPT_SHIFT | job.id


def kept_parts(key: int) -> tuple[int, int]:
    """Return end and id of a ``kept_key``."""
    return key >> _KEPT_SHIFT, key & ORDER_MASK
