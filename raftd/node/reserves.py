"""Reserves that wait for a job: in the leader's memory, in order, never in the log.

Rules: a waiting reserve is proposed only when a job is ready for it, first come first
served; an empty answer leaves no trace, so it may be asked again under its number. On
step-down all are answered at once.

Source: SEMANTICS.md section 6 (Reserve).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from raftd.node.service import Answered, AnswerSink
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.jobs import JobsReserved, ReserveJobs

__all__ = ["Reserves"]

_NOTHING: Final = JobsReserved(())

_WAITING_MAX: Final = 100_000


class Reserves:
    """All waiting reserves of a leader."""

    def __init__(
        self,
        machine: Machine,
        submit: Callable[[msgspec.Raw, AnswerSink, int], None],
    ) -> None:
        """Wait on a machine's queues.

        Args:
            machine: Says what is ready.
            submit: Proposes a sealed request.
        """
        self._machine: Final = machine
        self._submit: Final = submit
        self._parked: dict[_Wait, None] = {}
        self._proposed: Final[dict[_Wait, None]] = {}
        self._asked: Final[dict[str, int]] = {}

    def offer(
        self,
        request: msgspec.Raw,
        command: ReserveJobs,
        sink: AnswerSink,
        tag: int,
        deadline_ms: int | None,
    ) -> bool:
        """Take in a reserve that may wait; False if too many do.

        Args:
            request: The sealed command.
            command: The command.
            sink: Gets the answer.
            tag: Under this tag.
            deadline_ms: On the monotonic clock; None = for ever.
        """
        if len(self._parked) >= _WAITING_MAX:
            return False
        wait = _Wait(self, request, command, sink, tag, deadline_ms)
        self._parked[wait] = None
        return True

    def poke(self) -> None:
        """Propose the first waits for which something is ready."""
        if not self._parked:
            return
        queues, revision = self._machine.queues, self._machine.revision
        ready_by_queue: dict[str, int] = {}
        for wait in list(self._parked):
            if wait.empty_revision == revision:
                continue  # nothing was for it, and nothing has changed since
            command = wait.command
            names = tuple([name for name, _ in command.queues])
            if not queues.has_ready(names, command.types):
                continue
            for queue in names:
                left = ready_by_queue.get(queue)
                if left is None:
                    left = queues.ready_count(queue) - self._asked.get(queue, 0)
                if left > 0:
                    ready_by_queue[queue] = left - command.jobs_max
                    self._propose(wait, queue)
                    break
                ready_by_queue[queue] = left

    def _propose(self, wait: _Wait, queue: str) -> None:
        del self._parked[wait]
        self._proposed[wait] = None
        wait.asked_queue = queue
        self._asked[queue] = self._asked.get(queue, 0) + wait.command.jobs_max
        self._submit(wait.request, wait, wait.tag)

    def answered(self, wait: _Wait, answered: Answered) -> bool:
        """Take the answer to a proposed wait; False if there is nothing to pass on."""
        del self._proposed[wait]
        queue = wait.asked_queue
        left = self._asked[queue] - wait.command.jobs_max
        if left > 0:
            self._asked[queue] = left
        else:
            del self._asked[queue]
        if answered.answer == _NOTHING:
            wait.empty_revision = answered.revision
            if not wait.is_dropped:
                self._parked[wait] = None
            return False
        return True

    def expire(self, monotonic_ms: int) -> None:
        """Answer the waits that are over with nothing."""
        for wait in [
            wait
            for wait in self._parked
            if wait.deadline_ms is not None and wait.deadline_ms <= monotonic_ms
        ]:
            del self._parked[wait]
            wait.sink.answer(wait.tag, Answered(_NOTHING, self._machine.revision))
            wait.sink.flush()

    def refuse_all(self, refusal: Refusal) -> None:
        """Answer all at once: this member no longer leads."""
        parked, self._parked = self._parked, {}
        for wait in parked:
            wait.sink.answer(wait.tag, Answered(refusal, self._machine.revision))
            wait.sink.flush()

    def drop(self, sink: AnswerSink) -> None:
        """Forget the waits of a sink that is gone."""
        for wait in [wait for wait in self._parked if wait.sink is sink]:
            del self._parked[wait]
        for wait in self._proposed:
            if wait.sink is sink:
                wait.is_dropped = True

    def leases_closed(self, leases: Sequence[int]) -> None:
        """Have apply say why a wait whose lease ended cannot be served."""
        closed = dict.fromkeys(leases)
        for wait in [wait for wait in self._parked if wait.command.lease in closed]:
            self._propose(wait, wait.command.queues[0][0])

    def __len__(self) -> int:
        """Return how many reserves wait."""
        return len(self._parked)


class _Wait:
    """One waiting reserve; the sink of its own proposals."""

    __slots__ = (
        "_is_answered",
        "_owner",
        "asked_queue",
        "command",
        "deadline_ms",
        "empty_revision",
        "is_dropped",
        "request",
        "sink",
        "tag",
    )

    def __init__(
        self,
        owner: Reserves,
        request: msgspec.Raw,
        command: ReserveJobs,
        sink: AnswerSink,
        tag: int,
        deadline_ms: int | None,
    ) -> None:
        self._owner = owner
        self.request = request
        self.command = command
        self.sink = sink
        self.tag = tag
        self.deadline_ms = deadline_ms
        self.asked_queue = ""
        self.empty_revision = -1
        self.is_dropped = False
        self._is_answered = False

    def answer(self, tag: int, answered: Answered) -> None:
        """Pass a real answer on; wait on after an empty one."""
        if self._owner.answered(self, answered):
            self.sink.answer(tag, answered)
            self._is_answered = True

    def flush(self) -> None:
        """Pass it on, if there was an answer."""
        if self._is_answered:
            self.sink.flush()

    def close(self, refusal: Refusal) -> None:
        """Pass it on."""
        self.sink.close(refusal)
