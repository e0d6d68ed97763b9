"""The ends and returns of a job, with everything that follows from them.

Rules:
* ``finish`` is the only way to a final state, ``wait`` the only way back among the
  waiting, ``forget`` the only way out of the state. The caller has drawn the revision
  and, for the first two, touched the job.
* Whoever is freed by it (the group's next, the children) comes in at the end of the
  command.

Source: SEMANTICS.md section 6, the table of states.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from raftd.statemachine.context import Context
from raftd.statemachine.module import LeaseKeeper
from raftd.statemachine.queues.client_ids import ClientIds
from raftd.statemachine.queues.family import Family
from raftd.statemachine.queues.groups import group_key
from raftd.statemachine.queues.jobs import (
    WAITING_STATES,
    EndingCall,
    Job,
    Outcome,
    Trail,
    is_final,
)
from raftd.statemachine.queues.options import retry_delay_ms
from raftd.statemachine.queues.queue import Total
from raftd.statemachine.queues.retention import Retention
from raftd.statemachine.queues.table import JobTable, TimerKind
from raftd.statemachine.queues.tasks import SettleTask, Tasks
from raftd.statemachine.queues.unique import UniqueKeys
from raftd.statemachine.schema.jobs import JobState, OnParentFailure
from raftd.statemachine.tables import Rank

__all__ = ["Life", "parent_key", "parent_of"]


_DONE: Final = JobState.DONE  # an enum's member costs a look-up each time
_COMPLETED: Final = Total.COMPLETED
_RANK: Final = int(Rank.QUEUES)


class Life:
    """What happens to jobs, whoever asked for it."""

    def __init__(
        self, context: Context, table: JobTable, leases: LeaseKeeper, tasks: Tasks
    ) -> None:
        self._context: Final = context
        self._table: Final = table
        self._leases: Final = leases
        self._tasks: Final = tasks
        self.client_ids: Final = ClientIds(context)
        self.uniques: Final = UniqueKeys(context, table.jobs)
        self.family: Final = Family(context, table)
        self.retention: Final = Retention(context, table, self.forget)

    # --- the three ways --------------------------------------------------------

    def finish(
        self,
        job: Job,
        state: JobState,
        call: EndingCall = EndingCall.NONE,
        result: bytes = b"",
    ) -> None:
        """End a touched job."""
        context, table = self._context, self._table
        self._let_go(job)
        if job.waits_for:
            self.family.stop_waiting(job, job.waits_for)
        is_dropped = state is _DONE and bool(job.payload)
        if is_dropped:
            table.touch_payload(job)
            context.size_bytes -= len(job.payload)
            job.payload = b""
        kept = result[: context.limits.job_result_bytes_max]
        context.size_bytes += len(kept)
        job.outcome = Outcome(context.now_ms, call, kept, len(result), is_dropped)
        queue = table.move(job, state)
        if state is _DONE:
            table.count(queue, _COMPLETED)
        elif state is JobState.DEAD:
            table.count(queue, Total.DEAD)
        if job.extra is not None:
            self.uniques.ended(job)
        if job.group:
            context.promote_later(Rank.QUEUES, group_key(job))
        if self.family.has_children(job.id):
            self._leave_children(job, state)
        self.retention.ended(queue, state)

    def wait(self, job: Job, due_ms: int, *, is_wall: bool = False) -> JobState:
        """Put a touched job among the waiting; return where it went.

        Args:
            job: Reserved, final, or waiting elsewhere.
            due_ms: Not before; in the past = at once.
            is_wall: ``due_ms`` is wall time.
        """
        context = self._context
        has_moved_up = job.state not in WAITING_STATES
        extra = job.extra
        if (
            extra is not None
            and extra.deadline_ms is not None
            and extra.deadline_ms <= context.now_ms
        ):
            self.finish(job, JobState.EXPIRED)
            return JobState.EXPIRED
        self._let_go(job)
        job.due_ms = due_ms
        job.is_due_on_wall = is_wall
        state = self.state_for(job)
        self._table.move(job, state)
        self.arm_due(job)
        if has_moved_up and job.group:
            context.promote_later(Rank.QUEUES, group_key(job))
        return state

    def forget(self, job: Job) -> None:
        """Remove a job from the state, whatever it was doing."""
        context = self._context
        if not is_final(job.state):
            self._table.touch(job)
            self._let_go(job)
            if job.waits_for:
                self.family.stop_waiting(job, job.waits_for)
            if job.extra is not None:
                self.uniques.ended(job)
            if job.group:
                context.promote_later(Rank.QUEUES, group_key(job))
            if self.family.has_children(job.id):
                self._leave_children(job, JobState.CANCELLED)
        state = job.state if is_final(job.state) else JobState.CANCELLED
        if job.extra is not None:
            self.uniques.gone(job, state)
        if job.client_id:
            self.client_ids.remember(job.client_id, job.id, state)
        self._table.remove(job)

    def loaded(self) -> Iterator[None]:
        """Rebuild what follows from the loaded jobs."""
        yield from self.client_ids.loaded()
        yield from self.uniques.loaded()
        yield from self.family.loaded()

    # --- helpers ---------------------------------------------------------------

    def state_for(self, job: Job) -> JobState:
        """Return the state of a job that waits for what its record says."""
        context = self._context
        now_ms = context.wall_ms if job.is_due_on_wall else context.now_ms
        if job.due_ms > now_ms:
            return JobState.SCHEDULED
        if job.waits_for or (job.group and not self._table.groups.is_open(job)):
            return JobState.BLOCKED
        return JobState.READY

    def arm_due(self, job: Job) -> None:
        """Arm the timer of a SCHEDULED job."""
        if job.state is JobState.SCHEDULED:
            kind = TimerKind.DUE_ON_WALL if job.is_due_on_wall else TimerKind.DUE
            self._table.arm(kind, job.id, job.due_ms)

    def end_reservation(self, job: Job, *, may_charge: bool) -> None:
        """Give a reserved job back without its worker.

        Args:
            job: Not touched yet.
            may_charge: The worker was lost, and did not say goodbye.
        """
        held = job.held
        assert held is not None
        self._table.touch(job)
        if held.is_cancel_requested:
            self.finish(job, JobState.CANCELLED)
        elif may_charge and held.is_started:
            self._crash(job)
        else:
            self.wait(job, 0)

    def note_error(self, job: Job, error: str) -> None:
        """Store the last error with a touched job."""
        trail = job.trail or Trail()
        self._context.size_bytes += len(error) - len(trail.error)
        job.trail = msgspec.structs.replace(trail, error=error)

    def _crash(self, job: Job) -> None:
        options = self._table.queues[job.queue].options
        assert options.max_crashes is not None
        job.crashes += 1
        self.note_error(job, "the reservation ended without a word from the worker")
        if job.crashes >= options.max_crashes:
            self.finish(job, JobState.DEAD)
        else:
            delay_ms = retry_delay_ms(job, options, job.crashes)
            self.wait(job, self._context.now_ms + delay_ms)

    def _let_go(self, job: Job) -> None:
        held = job.held
        if held is not None:
            job.held = None
            if held.lease:
                self._leases.detach(held.lease, _RANK, job.id)

    def _leave_children(self, job: Job, state: JobState) -> None:
        self._tasks.add(job.id, SettleTask(state, self._context.revision))
        self._context.promote_later(Rank.QUEUES, parent_key(job.id))

    # --- at the end of a command -----------------------------------------------

    def settle_group(self, key: str) -> None:
        """Open and close the members of a group by their places."""
        self._context.rev()
        groups = self._table.groups
        opened, closed = groups.misplaced(key)
        for job in closed:
            self._table.touch(job)
            self._table.move(job, JobState.BLOCKED)
        for job in opened:
            self._table.touch(job)
            self._table.move(job, JobState.READY)
        groups.forget_if_empty(key)

    def settle_children(self, parent: int, task: SettleTask, count: int) -> int:
        """Tell children that their parent has ended; return how many were told."""
        self._context.rev()
        state = task.state
        children = self.family.children(parent, task.last, count)
        for child in children:
            extra = child.extra
            policy = extra.on_parent_failure if extra is not None else None
            self._table.touch(child)
            if state is not JobState.DONE and policy is not OnParentFailure.CONTINUE:
                self.finish(child, JobState.CANCELLED)
                continue
            self.family.stop_waiting(child, (parent,))
            if child.state is JobState.BLOCKED:
                wanted = self.state_for(child)
                if wanted is not JobState.BLOCKED:
                    self._table.move(child, wanted)
        if not self.family.has_children(parent, task.last):
            self._tasks.drop(parent)
        return len(children)


def parent_key(job: int) -> str:
    """Return the key under which a parent's children are settled.

    It sorts before all groups, whose keys begin with a queue's name.
    """
    return f"\0{job:020d}"


def parent_of(key: str) -> int | None:
    """Return the job of a ``parent_key``; None for a group's key."""
    return int(key[1:]) if key[0] == "\0" else None
