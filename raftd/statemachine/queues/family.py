"""Jobs that wait for other jobs, and what a parent's end means to its children.

Rules:
* A child's record names the parents it still waits for; the index from parent to
  children follows from that.
* A parent that ends, or goes, leaves a task with its last state, worked off at the end
  of the command: DONE unblocks; any other end cancels children that cascade, whose own
  children follow. At most ``promotions_max`` children per command, the rest with later
  entries.

Source: SEMANTICS.md section 6 (after).
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from typing import Final

from raftd.statemachine.context import Context
from raftd.statemachine.loading import in_steps
from raftd.statemachine.queues.jobs import ORDER_MASK, Job
from raftd.statemachine.queues.table import JobTable

__all__ = ["Family"]


class Family:
    """Who waits for whom."""

    def __init__(self, context: Context, table: JobTable) -> None:
        self._context: Final = context
        self._table: Final = table
        self._children: dict[int, list[int]] = {}

    def has_children(self, parent: int, last: int = ORDER_MASK) -> bool:
        """Tell whether a job with an id up to ``last`` waits for ``parent``."""
        children = self._children.get(parent)
        return children is not None and children[0] <= last

    def children(self, parent: int, last: int, count: int) -> list[Job]:
        """Return children with ids up to ``last``, rising, at most ``count``."""
        children = self._children.get(parent, [])
        end = min(count, bisect_right(children, last))
        return [self._table.jobs[child] for child in children[:end]]

    def wait_for(self, job: Job) -> None:
        """Note the parents of a new job."""
        for parent in job.waits_for:
            self._context.journal.undo(self._unlink, parent, job.id)
            self._link(parent, job.id)

    def stop_waiting(self, job: Job, parents: tuple[int, ...]) -> None:
        """Have a touched job wait no longer for these parents."""
        for parent in parents:
            self._context.journal.undo(self._link, parent, job.id)
            self._unlink(parent, job.id)
        job.waits_for = tuple(
            parent for parent in job.waits_for if parent not in parents
        )

    def loaded(self) -> Iterator[None]:
        """Rebuild the index."""
        return in_steps(self._table.jobs.values(), self._link_loaded)

    def _link_loaded(self, job: Job) -> None:
        for parent in job.waits_for:
            self._link(parent, job.id)

    def _link(self, parent: int, child: int) -> None:
        insort(self._children.setdefault(parent, []), child)

    def _unlink(self, parent: int, child: int) -> None:
        children = self._children[parent]
        del children[bisect_left(children, child)]
        if not children:
            del self._children[parent]
