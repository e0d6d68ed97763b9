"""Reserves that wait for a job: in the leader's memory, in order, never in the log.

Rules: a waiting reserve is proposed only when a job is ready for it, first come first
served; an empty answer leaves no trace, so it may be asked again under its number. On
step-down all are answered at once. A turn looks at the queues that have changed and at
the deadlines that are over, and at nobody else who waits.

Source: SEMANTICS.md section 6 (Reserve).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from typing import Final, TypeVar

import msgspec

from raftd.node.reserve_lines import Lines
from raftd.node.service import Answered, AnswerSink
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.jobs import JobsReserved, ReserveJobs

__all__ = ["Reserves"]

_NOTHING: Final = JobsReserved(())

_WAITING_MAX: Final = 100_000

_GARBAGE_MIN: Final = 64
"""So many deadlines of reserves that no longer wait are kept at least."""


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
        self._lines: Final[Lines[_Wait]] = Lines(machine)
        self._parked: Final[dict[int, _Wait]] = {}
        self._proposed: Final[dict[_Wait, None]] = {}
        self._number = 0
        self._deadlines: list[tuple[int, int]] = []
        """A heap of (deadline, number); garbage if nobody is parked by the number."""
        # Of those parked: one that gets its job at once is not worth the effort.
        self._by_sink: Final[dict[AnswerSink, dict[_Wait, None]]] = {}
        self._by_lease: Final[dict[int, dict[_Wait, None]]] = {}

    def offer(
        self,
        request: msgspec.Raw,
        command: ReserveJobs,
        sink: AnswerSink,
        tag: int,
        deadline_ms: int | None,
    ) -> bool:
        """Take in a reserve that may wait; False if too many do, or it names no queue.

        Args:
            request: The sealed command.
            command: The command.
            sink: Gets the answer.
            tag: Under this tag.
            deadline_ms: On the monotonic clock; None = for ever.
        """
        if len(self._parked) >= _WAITING_MAX or not command.queues:
            return False
        wait = _Wait(self, request, command, sink, tag, deadline_ms)
        names = wait.names
        if len(names) == 1 and self._lines.is_free(wait, names[0]):
            self._propose(wait, names[0])
        else:
            self._park(wait)
        return True

    def poke(self) -> None:
        """Propose the first waits for which something is ready."""
        for name in self._lines.take_due():
            for wait in self._lines.next(name):
                if wait.number:  # else the answer to another has ended it
                    self._unpark(wait)
                    self._propose(wait, name)

    def _park(self, wait: _Wait) -> None:
        self._number += 1
        wait.number = self._number
        self._parked[wait.number] = wait
        self._by_sink.setdefault(wait.sink, {})[wait] = None
        self._by_lease.setdefault(wait.command.lease, {})[wait] = None
        self._lines.join(wait)
        if wait.deadline_ms is not None:
            heappush(self._deadlines, (wait.deadline_ms, wait.number))
            if len(self._deadlines) > 2 * len(self._parked) + _GARBAGE_MIN:
                self._sweep()

    def _unpark(self, wait: _Wait) -> None:
        del self._parked[wait.number]
        _discard(self._by_sink, wait.sink, wait)
        _discard(self._by_lease, wait.command.lease, wait)
        self._lines.leave(wait)
        wait.number = 0

    def _sweep(self) -> None:
        """Drop the deadlines that nobody waits for any more."""
        parked = self._parked
        self._deadlines = [due for due in self._deadlines if due[1] in parked]
        heapify(self._deadlines)

    def _propose(self, wait: _Wait, queue: str) -> None:
        self._proposed[wait] = None
        wait.asked_queue = queue
        self._lines.ask(wait, queue)
        self._submit(wait.request, wait, wait.tag)

    def answered(self, wait: _Wait, answered: Answered) -> bool:
        """Take the answer to a proposed wait; False if there is nothing to pass on."""
        del self._proposed[wait]
        self._lines.unask(wait, wait.asked_queue)
        if answered.answer != _NOTHING:
            return True
        wait.empty_revision = answered.revision
        if not wait.is_dropped:
            self._park(wait)
        return False

    def _end(self, wait: _Wait, answer: JobsReserved | Refusal) -> None:
        self._unpark(wait)
        wait.sink.answer(wait.tag, Answered(answer, self._machine.revision))
        wait.sink.flush()

    def expire(self, monotonic_ms: int) -> None:
        """Answer the waits that are over with nothing."""
        while self._deadlines and self._deadlines[0][0] <= monotonic_ms:
            wait = self._parked.get(heappop(self._deadlines)[1])
            if wait is not None:
                self._end(wait, _NOTHING)

    def refuse_all(self, refusal: Refusal) -> None:
        """Answer all at once: this member no longer leads."""
        for wait in list(self._parked.values()):
            self._end(wait, refusal)

    def drop(self, sink: AnswerSink) -> None:
        """Forget the waits of a sink that is gone."""
        for wait in list(self._by_sink.get(sink, ())):
            self._unpark(wait)
        for wait in self._proposed:
            if wait.sink is sink:
                wait.is_dropped = True

    def leases_closed(self, leases: Sequence[int]) -> None:
        """Have apply say why a wait whose lease ended cannot be served."""
        for lease in leases:
            for wait in list(self._by_lease.get(lease, ())):
                self._unpark(wait)
                self._propose(wait, wait.names[0])

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
        "jobs_max",
        "names",
        "number",
        "request",
        "sink",
        "tag",
        "types",
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
        queues = command.queues
        self.names: tuple[str, ...] = (queues[0][0],)
        if len(queues) > 1:
            self.names = tuple(dict.fromkeys([name for name, _ in queues]))
        self.types = command.types
        self.jobs_max = command.jobs_max
        self.number = 0
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


_K = TypeVar("_K")


def _discard(index: dict[_K, dict[_Wait, None]], key: _K, wait: _Wait) -> None:
    waits = index[key]
    del waits[wait]
    if not waits:
        del index[key]
