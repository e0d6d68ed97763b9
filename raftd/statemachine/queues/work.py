"""The background work of queues: what a task does, in steps of bounded size.

Rules:
* A step touches at most ``rows`` jobs and looks at ``_LOOKS_PER_ROW`` times as many.
* Children told of a parent's end count against ``promotions_max`` of their command;
  what is beyond stays a task.

Source: DESIGN.md section 5 (work is bounded).
"""

from itertools import islice
from typing import Final, assert_never

import msgspec

from raftd.statemachine.context import Context
from raftd.statemachine.queues.jobs import Job, is_final
from raftd.statemachine.queues.life import Life
from raftd.statemachine.queues.queue import Queue, kept_parts
from raftd.statemachine.queues.table import JobTable
from raftd.statemachine.queues.tasks import (
    DeleteTask,
    PurgeTask,
    RedriveTask,
    SettleTask,
    Tasks,
)
from raftd.statemachine.schema.jobs import JobState, UniqueUntil

__all__ = ["Work"]

_LOOKS_PER_ROW: Final = 10


class Work:
    """Does tasks, at once as far as they are small."""

    def __init__(
        self, context: Context, table: JobTable, life: Life, tasks: Tasks
    ) -> None:
        self._context: Final = context
        self._table: Final = table
        self._life: Final = life
        self._tasks: Final = tasks
        self._settled = 0
        self._settled_rev = 0

    # --- begin -----------------------------------------------------------------

    def purge(self, queue: Queue, states: tuple[JobState, ...], count: int) -> None:
        """Remove the ``count`` jobs in some states, or begin to."""
        rows_max = self._context.limits.work_rows_max
        if count <= rows_max and all(is_final(state) for state in states):
            self._context.rev()
            for job in self._kept(queue, states):
                self._life.forget(job)
            return
        last = queue.ids.last()
        assert last is not None, "there is something to remove"
        self._begin(PurgeTask(queue.name, states, 0, last))

    def delete(self, queue: Queue) -> None:
        """Remove a queue with all its jobs, or begin to."""
        self._begin(DeleteTask(queue.name))

    def redrive(
        self, queue: Queue, states: tuple[JobState, ...], type_: str, count_max: int
    ) -> int:
        """Give jobs in some states another life, or begin to; return how many."""
        jobs = [
            job
            for job in self._kept(queue, states)
            if (not type_ or job.type == type_) and self.may_revive(job)
        ]
        del jobs[count_max:]
        if len(jobs) > self._context.limits.work_rows_max:
            self._begin(
                RedriveTask(queue.name, states, type_, 0, jobs[-1].id, len(jobs))
            )
            return len(jobs)
        self._context.rev()
        depth = queue.depth
        for job in jobs:
            # One before it may have taken its unique key.
            if self.may_revive(job):
                self.revive(job)
        return queue.depth - depth

    def _begin(self, task: PurgeTask | RedriveTask | DeleteTask) -> None:
        context = self._context
        number = context.mint()
        self._tasks.add(number, task)
        self.step(number, context.limits.work_rows_max)

    def _kept(self, queue: Queue, states: tuple[JobState, ...]) -> list[Job]:
        """Return the final jobs in some states, by rising ids."""
        lines = []
        if JobState.DONE in states:
            lines.append(queue.done)
        if any(is_final(state) and state is not JobState.DONE for state in states):
            lines.append(queue.dead)
        numbers = sorted(kept_parts(key)[1] for line in lines for key in line)
        jobs = self._table.jobs
        return [jobs[number] for number in numbers if jobs[number].state in states]

    # --- steps -----------------------------------------------------------------

    def run(self, rows_max: int) -> int:
        """Do a step of each task while there are rows to spend; return how many."""
        self._context.rev()
        rows_max = min(rows_max, self._context.limits.work_rows_max)
        spent = 0
        while self._tasks and spent < rows_max:
            number, _ = self._tasks.first()
            rows = self.step(number, rows_max - spent)
            spent += max(1, rows)
            if not rows and self._tasks.find(number) is not None:
                break
        return spent

    def step(self, number: int, rows: int) -> int:
        """Do one step of a task; return how many jobs it touched."""
        task = self._tasks.find(number)
        match task:
            case SettleTask():
                return self._settle(number, task, rows)
            case PurgeTask():
                return self._purge(number, task, rows)
            case RedriveTask():
                return self._redrive(number, task, rows)
            case DeleteTask():
                return self._delete(number, task, rows)
            case None:
                raise AssertionError(f"there is no task {number}")
            case _:
                assert_never(task)

    def promote_children(self, parent: int) -> None:
        """Tell children at the end of the command in which their parent ended."""
        task = self._tasks.find(parent)
        if isinstance(task, SettleTask):
            self._settle(parent, task, self._context.limits.promotions_max)

    # --- the kinds of tasks ----------------------------------------------------

    def _settle(self, parent: int, task: SettleTask, rows: int) -> int:
        rev = self._context.rev()
        if self._settled_rev != rev:
            self._settled_rev, self._settled = rev, 0
        room = self._context.limits.promotions_max - self._settled
        done = self._life.settle_children(parent, task, min(rows, room))
        self._settled += done
        return done

    def _purge(self, number: int, task: PurgeTask, rows: int) -> int:
        queue = self._table.find_queue(task.queue)
        if queue is None:
            self._tasks.drop(number)
            return 0
        found, after = self._look(queue, task.after, task.last, rows, task.states)
        for job in found:
            self._life.forget(job)
        if after >= task.last:
            self._tasks.drop(number)
        else:
            self._tasks.add(number, msgspec.structs.replace(task, after=after))
        return len(found)

    def _redrive(self, number: int, task: RedriveTask, rows: int) -> int:
        queue = self._table.find_queue(task.queue)
        if queue is None:
            self._tasks.drop(number)
            return 0
        room = max(0, (queue.options.depth_max or 0) - queue.depth)
        rows = min(rows, task.left, room)
        found, after = self._look(queue, task.after, task.last, rows, task.states)
        done = 0
        for job in found:
            if (not task.type or job.type == task.type) and self.may_revive(job):
                self.revive(job)
                done += 1
        left = task.left - done
        if after >= task.last or not left or not room:
            self._tasks.drop(number)
        else:
            self._tasks.add(
                number, msgspec.structs.replace(task, after=after, left=left)
            )
        return len(found)

    def _delete(self, number: int, task: DeleteTask, rows: int) -> int:
        queue = self._table.queues[task.queue]
        numbers = list(islice(queue.ids, rows))
        for job in numbers:
            self._life.forget(self._table.jobs[job])
        if not queue.ids:
            self._table.drop_queue(queue)
            self._tasks.drop(number)
        return len(numbers)

    def _look(
        self,
        queue: Queue,
        after: int,
        last: int,
        rows: int,
        states: tuple[JobState, ...],
    ) -> tuple[list[Job], int]:
        """Look for jobs in some states; return them and how far that went."""
        found: list[Job] = []
        looks_left = rows * _LOOKS_PER_ROW
        for number in queue.ids.above(after):
            if number > last:
                break
            if len(found) == rows or not looks_left:
                return found, after
            after = number
            looks_left -= 1
            job = self._table.jobs[number]
            if job.state in states:
                found.append(job)
        return found, last

    # --- another life ----------------------------------------------------------

    def may_revive(self, job: Job) -> bool:
        """Tell whether a final job can have another life.

        Not if its payload is gone, or its unique key is another's by now.
        """
        if not is_final(job.state):
            return False
        if job.outcome is not None and job.outcome.is_payload_dropped:
            return False
        unique = job.extra.unique if job.extra is not None else None
        if unique is None or unique.until is UniqueUntil.WINDOW:
            return True
        return self._life.uniques.holder(job.queue, unique) is None

    def revive(self, job: Job) -> None:
        """Put a final job among the waiting, its counters reset."""
        outcome, extra = job.outcome, job.extra
        assert outcome is not None
        self._table.touch(job)
        self._context.size_bytes -= len(outcome.result)
        job.attempt = job.crashes = job.delivery = job.token = 0
        if extra is not None and extra.deadline_ms is not None:
            job.extra = msgspec.structs.replace(extra, deadline_ms=None)
        self._life.wait(job, 0)
        # After the move, which finds the job among the kept by its end.
        job.outcome = None
        unique = extra.unique if extra is not None else None
        if unique is not None and unique.until is not UniqueUntil.WINDOW:
            self._life.uniques.take(job)
