"""Checkpoints of a simulated node, in the steps of ``raftd.node.checkpoints``.

Each step is an event, so that entries are applied, and crashes happen, between any
two: encode some rows, wait until the log is durable so far, store, cut the log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Final

from raftd.node.replica import Replica
from raftd.statemachine.rows import Checkpoint, Row
from raftd.statemachine.schema.entry import MarkEntry
from tests.sim.disk import Disk
from tests.sim.writer import After

__all__ = ["Checkpoints"]

_ROWS_A_STEP: Final = 4
_STEP_US_MAX: Final = 30_000


class _Job:
    """One checkpoint on its way to the disk."""

    __slots__ = ("checkpoint", "index", "is_encoded", "iterator", "mark", "rows")

    def __init__(self, index: int, mark: MarkEntry, checkpoint: Checkpoint) -> None:
        self.index: Final = index
        self.mark: Final = mark
        self.checkpoint: Final = checkpoint
        self.iterator: Final = checkpoint.rows()
        self.rows: Final[list[Row]] = []
        self.is_encoded = False

    def encode(self, rows_max: int | None) -> None:
        """Take some of the rows, or all that are left."""
        for count, row in enumerate(self.iterator, 1):
            self.rows.append(row)
            if count == rows_max:
                return
        self.is_encoded = True


class Checkpoints:
    """One life of a node; see the module's rules."""

    def __init__(
        self,
        replica: Replica,
        disk: Disk,
        rng: Random,
        after: After,
        on_digest: Callable[[int, bytes], None],
    ) -> None:
        self._replica: Final = replica
        self._disk: Final = disk
        self._rng: Final = rng
        self._after: Final = after
        self._on_digest: Final = on_digest
        self._jobs: Final[deque[_Job]] = deque()

    @property
    def is_idle(self) -> bool:
        """Whether another may be marked."""
        return not self._jobs

    def take(self, index: int, mark: MarkEntry) -> None:
        """Begin the checkpoint of a mark that was just applied."""
        if self._jobs and not self._jobs[-1].is_encoded:
            self._jobs[-1].encode(None)
        job = _Job(index, mark, self._replica.machine.take_checkpoint())
        self._jobs.append(job)
        if len(self._jobs) == 1:
            self._go_on()

    def _go_on(self) -> None:
        self._after(self._rng.randrange(_STEP_US_MAX), "checkpoint", self._step)

    def _step(self) -> None:
        job = self._jobs[0]
        if not job.is_encoded:
            job.encode(_ROWS_A_STEP)
        if not job.is_encoded:
            self._go_on()
            return
        if len(self._jobs) == 1:
            self._replica.machine.checkpoint_written()
        if self._replica.core.durable_index >= job.index:
            self._store(job)
        else:
            self._go_on()

    def _store(self, job: _Job) -> None:
        digest = job.checkpoint.digest
        self._disk.put_checkpoint(job.index, digest, job.rows)
        self._replica.marks.note_stored(job.index, digest)
        self._on_digest(job.index, digest)
        self._after(self._rng.randrange(_STEP_US_MAX), "cut", self._cut)

    def _cut(self) -> None:
        job = self._jobs.popleft()
        upto = min(job.index, job.mark.cut_index)
        if upto >= self._disk.first_index:
            self._disk.cut_prefix(upto)
            self._replica.core.compact(upto)
        if self._jobs:
            self._go_on()
