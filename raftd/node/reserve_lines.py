"""Who waits for a job, by queue: found without a look at those who wait for others.

Rules: a queue has a lane for each selection of types that somebody waits for; in a
lane who came first is first, and between lanes, too. What proposals under way have
asked of a queue or lane is not given away twice.

Source: SEMANTICS.md section 6 (Reserve).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from heapq import merge
from typing import Final, Generic, Protocol, TypeVar

from raftd.statemachine.machine import Machine

__all__ = ["Line", "Lines", "Standing"]

Types = tuple[str, ...]


class Standing(Protocol):
    """What a line needs to know of one who waits."""

    names: tuple[str, ...]
    """Of queues, none twice."""
    types: Types
    jobs_max: int
    number: int
    """The place in time, from 1; 0 = stands in no line now."""
    empty_revision: int
    """Nothing was there for it as of this revision."""


_W = TypeVar("_W", bound=Standing)


class _Lane(Generic[_W]):
    """Who waits for the same types of one queue."""

    __slots__ = ("asked", "waits")

    def __init__(self) -> None:
        self.asked = 0
        # A dict would be searched for its first from where its first once was.
        self.waits: Final[OrderedDict[int, _W]] = OrderedDict()


class Line(Generic[_W]):
    """Who waits for one queue.

    Attributes:
        asked: Jobs that proposals under way ask of it, at the most.
        length: How many wait.
    """

    __slots__ = ("asked", "lanes", "length")

    def __init__(self) -> None:
        self.asked = 0
        self.length = 0
        self.lanes: Final[dict[Types, _Lane[_W]]] = {}

    def lane(self, types: Types) -> _Lane[_W]:
        """Return the lane of a selection of types."""
        lane = self.lanes.get(types)
        if lane is None:
            lane = self.lanes[types] = _Lane()
        return lane


class Lines(Generic[_W]):
    """The lines of all queues that somebody waits for or has asked of."""

    def __init__(self, machine: Machine) -> None:
        """Wait on a machine's queues."""
        self._machine: Final = machine
        self._lines: Final[dict[str, Line[_W]]] = {}
        self._due: dict[str, None] = {}
        """To be looked at, besides those of which the machine says so."""

    def is_free(self, wait: _W, name: str) -> bool:
        """Tell whether one who comes now gets a job and passes nobody who waits."""
        line = self._lines.get(name)
        count = self._machine.queues.ready_count(name, wait.types)
        if line is None or not count:
            return bool(count)
        return not line.length and count > line.asked

    def join(self, wait: _W) -> None:
        """Have one stand at the end of the lines of its queues."""
        for name in wait.names:
            line = self._line(name)
            if not line.length:
                self._machine.queues.awaited.add(name)
            line.length += 1
            line.lane(wait.types).waits[wait.number] = wait
            self._due[name] = None

    def leave(self, wait: _W) -> None:
        """Take one out of all its lines."""
        for name in wait.names:
            line = self._lines[name]
            line.length -= 1
            del line.lanes[wait.types].waits[wait.number]
            self._tidy(name, line, wait.types)

    def ask(self, wait: _W, name: str) -> None:
        """Count what is asked of a queue for one who stands in no line now."""
        line = self._line(name)
        line.asked += wait.jobs_max
        line.lane(wait.types).asked += wait.jobs_max

    def unask(self, wait: _W, name: str) -> None:
        """Count it no longer: it was answered."""
        line = self._lines[name]
        line.asked -= wait.jobs_max
        line.lanes[wait.types].asked -= wait.jobs_max
        if line.length:
            self._due[name] = None
        self._tidy(name, line, wait.types)

    def take_due(self) -> dict[str, None]:
        """Return the queues that are to be looked at."""
        due = self._due
        stirred = self._machine.queues.awaited.take()
        if stirred:
            due.update(stirred)
        if due:
            self._due = {}
        return due

    def next(self, name: str) -> list[_W]:
        """Return the first who wait for a queue and could get something now."""
        line = self._lines.get(name)
        if line is None or not line.length:
            return []
        queues = self._machine.queues
        room = queues.ready_count(name) - line.asked
        chosen: list[_W] = []
        if room <= 0:
            return chosen
        lanes = [
            self._next_in(lane, count - lane.asked, name)
            for types, lane in line.lanes.items()
            if lane.waits and (count := queues.ready_count(name, types)) > lane.asked
        ]
        for _, wait in merge(*lanes):
            chosen.append(wait)
            room -= wait.jobs_max
            if room <= 0:
                break
        return chosen

    def _next_in(
        self, lane: _Lane[_W], room: int, name: str
    ) -> Iterator[tuple[int, _W]]:
        revision = self._machine.revision
        for number, wait in lane.waits.items():
            if wait.empty_revision == revision:
                self._due[name] = None  # nothing has changed since: not now
                continue
            yield number, wait
            room -= wait.jobs_max
            if room <= 0:
                return

    def _line(self, name: str) -> Line[_W]:
        line = self._lines.get(name)
        if line is None:
            line = self._lines[name] = Line()
        return line

    def _tidy(self, name: str, line: Line[_W], types: Types) -> None:
        """Forget what is empty."""
        lane = line.lanes[types]
        if not lane.waits and not lane.asked:
            del line.lanes[types]
        if not line.length:
            self._machine.queues.awaited.discard(name)
            if not line.asked:
                del self._lines[name]
