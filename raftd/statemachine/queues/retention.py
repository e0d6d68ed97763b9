"""How long final jobs are kept: by time and by number, the oldest go first.

Rules: DONE jobs have one line per queue; DEAD, CANCELLED and EXPIRED ones share
another, as an operator may want any of them back.

Source: SEMANTICS.md section 6 (retention).
"""

from collections.abc import Callable
from typing import Final

from raftd.statemachine.context import Context
from raftd.statemachine.queues.jobs import Job
from raftd.statemachine.queues.queue import Queue, kept_parts
from raftd.statemachine.queues.table import JobTable, TimerKind
from raftd.statemachine.schema.jobs import JobState
from raftd.statemachine.tables import Rank

__all__ = ["Retention"]

_PER_FIRE: Final = 100
_DONE: Final = JobState.DONE  # an enum's member costs a look-up each time


class Retention:
    """Decides when a final job goes.

    Args:
        table: The jobs.
        forget: Removes a final job with all its ties.
    """

    def __init__(
        self, context: Context, table: JobTable, forget: Callable[[Job], None]
    ) -> None:
        self._context: Final = context
        self._table: Final = table
        self._forget: Final = forget

    def ended(self, queue: Queue, state: JobState) -> None:
        """Make room for a job that has just ended, and see to its time."""
        line = queue.kept(state)
        limits = self._context.limits
        is_done = state is _DONE
        limit = limits.done_kept_max if is_done else limits.dead_kept_max
        if len(line) == 1:
            self._arm(queue, is_done=is_done)
        elif len(line) > limit:
            first = line.first()
            assert first is not None, "the line is too long"
            self._forget(self._table.jobs[kept_parts(first)[1]])

    def deadline_ms(self, kind: int, name: str) -> int | None:
        """Return when the oldest final job of a queue goes."""
        queue = self._table.queues.get(name)
        if queue is None:
            return None
        return _deadline_ms(queue, is_done=kind == TimerKind.DONE_RETENTION)

    def fire(self, kind: int, name: str) -> int:
        """Forget some of those whose time is over; return how many."""
        queue = self._table.queues[name]
        is_done = kind == TimerKind.DONE_RETENTION
        line = queue.done if is_done else queue.dead
        done = 0
        while done < _PER_FIRE:
            deadline_ms = _deadline_ms(queue, is_done=is_done)
            first = line.first()
            if first is None or deadline_ms is None:
                break
            if deadline_ms > self._context.now_ms:
                break
            self._forget(self._table.jobs[kept_parts(first)[1]])
            done += 1
        return done

    def rearm(self, queue: Queue) -> None:
        """Arm both timers: the queue was loaded, or is kept for less time now."""
        self._arm(queue, is_done=True)
        self._arm(queue, is_done=False)

    def _arm(self, queue: Queue, *, is_done: bool) -> None:
        deadline_ms = _deadline_ms(queue, is_done=is_done)
        if deadline_ms is not None:
            kind = TimerKind.DONE_RETENTION if is_done else TimerKind.DEAD_RETENTION
            self._context.timers.lease.arm(deadline_ms, Rank.QUEUES, (kind, queue.name))


def _deadline_ms(queue: Queue, *, is_done: bool) -> int | None:
    options = queue.options
    line = queue.done if is_done else queue.dead
    kept_ms = options.done_retention_ms if is_done else options.dead_retention_ms
    first = line.first()
    if first is None:
        return None
    assert kept_ms is not None
    return kept_parts(first)[0] + kept_ms
