"""Work too large for one command: kept in the state, done with later entries.

Rules: a task's row says what is left to do, so any member goes on with it after any
restart. Tasks run in the order of their ids. A parent's task is under the parent's id,
any other under a number of its own from the same line.

Source: DESIGN.md section 5 (work is bounded).
"""

from typing import Final

import msgspec
from sortedcontainers import SortedDict

from raftd.statemachine.context import Context
from raftd.statemachine.schema.jobs import JobState
from raftd.statemachine.tables import Table

__all__ = ["DeleteTask", "PurgeTask", "RedriveTask", "SettleTask", "Task", "Tasks"]


class SettleTask(
    msgspec.Struct, frozen=True, array_like=True, gc=False, tag=1, tag_field="tag"
):
    """Tell the children of a job how it ended.

    Attributes:
        last: Children above came later, to a job that was redriven since.
    """

    state: JobState
    last: int


class PurgeTask(
    msgspec.Struct, frozen=True, array_like=True, gc=False, tag=2, tag_field="tag"
):
    """Remove the jobs in these states.

    Attributes:
        after: Jobs up to here were looked at.
        last: Jobs above came later, and stay.
    """

    queue: str
    states: tuple[JobState, ...]
    after: int
    last: int


class RedriveTask(
    msgspec.Struct, frozen=True, array_like=True, gc=False, tag=3, tag_field="tag"
):
    """Give final jobs another life.

    Attributes:
        type: Only of this type; empty = all.
        after: Jobs up to here were looked at.
        last: Jobs above came later, and stay.
        left: How many may still be revived.
    """

    queue: str
    states: tuple[JobState, ...]
    type: str
    after: int
    last: int
    left: int


class DeleteTask(
    msgspec.Struct, frozen=True, array_like=True, gc=False, tag=4, tag_field="tag"
):
    """Remove all jobs of a deleted queue, then the queue."""

    queue: str


Task = SettleTask | PurgeTask | RedriveTask | DeleteTask

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Task).decode


class Tasks:
    """What is left to do."""

    def __init__(self, context: Context) -> None:
        self._context: Final = context
        self._tasks: SortedDict = SortedDict()

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def find(self, number: int) -> Task | None:
        """Return a task."""
        task: Task | None = self._tasks.get(number)
        return task

    def first(self) -> tuple[int, Task]:
        """Return the task to do next."""
        found: tuple[int, Task] = self._tasks.peekitem(0)
        return found

    def add(self, number: int, task: Task) -> None:
        """Add a task, or say what is left of it."""
        self._note(number)
        self._tasks[number] = task

    def drop(self, number: int) -> None:
        """A task is done."""
        self._note(number)
        del self._tasks[number]

    def encode_row(self, number: int) -> bytes | None:
        """Encode a task."""
        task = self._tasks.get(number)
        return None if task is None else _encode(task)

    def load_row(self, number: int, value: bytes) -> None:
        """Take up a task."""
        self._tasks[number] = _decode(value)

    def _note(self, number: int) -> None:
        self._context.mark(Table.JOB_TASKS, number)
        self._context.journal.item(self._tasks, number)
