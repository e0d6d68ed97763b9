"""Two heaps of deadlines: the lease clock's and the wall clock's.

Rules: a heap entry is a hint (deadline, rank, timer id); the truth is the module's own
``timer_deadline``. An entry whose deadline was moved later is pushed again when it
surfaces, one whose timer is gone is dropped. So a renewal costs no heap operation, and
heaps rebuilt from rows fire the same timers in the same order as those that grew.
A deadline moved *earlier* needs another ``arm``.

Source: DESIGN.md section 5 (apply order).
"""

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

__all__ = ["TimerHeap", "TimerId", "Timers"]

TimerId = tuple[int, int | str]
"""A kind, numbered within its module, and what it is about. Ids of one kind have one
type, so ids of a module compare."""

_Entry = tuple[int, int, TimerId]
_DeadlineOf = Callable[[TimerId], int | None]


class TimerHeap:
    """Deadlines on one clock, in the order (deadline, rank, id)."""

    __slots__ = ("_deadline_of", "_heap", "_rising")

    def __init__(self, deadline_of: dict[int, _DeadlineOf]) -> None:
        self._heap: list[_Entry] = []
        self._rising: Final[deque[_Entry]] = deque()
        """Entries in their order: a part of the same heap, in cheaper form."""
        self._deadline_of: Final = deadline_of

    def arm(self, deadline_ms: int, rank: int, timer: TimerId) -> None:
        """Fire ``timer`` of module ``rank`` at ``deadline_ms``, if it still says so."""
        heappush(self._heap, (deadline_ms, rank, timer))

    def arm_rising(self, deadline_ms: int, rank: int, timer: TimerId) -> None:
        """Do the same where deadlines mostly come in their order.

        To leave a heap of 100 000 costs 1 us more than to leave a line.
        """
        entry = (deadline_ms, rank, timer)
        rising = self._rising
        if not rising or rising[-1] <= entry:
            rising.append(entry)
        else:
            heappush(self._heap, entry)

    def peek(self) -> _Entry | None:
        """Return the earliest true deadline, without taking it."""
        while (entry := self._first()) is not None:
            deadline_ms, rank, timer = entry
            actual_ms = self._deadline_of[rank](timer)
            if actual_ms == deadline_ms:
                return entry
            self._drop(entry)
            if actual_ms is not None and actual_ms > deadline_ms:
                heappush(self._heap, (actual_ms, rank, timer))
        return None

    def due(self, now_ms: int) -> tuple[int, TimerId] | None:
        """Return rank and id of the earliest timer due at ``now_ms``."""
        heap, rising = self._heap, self._rising
        if (not heap or heap[0][0] > now_ms) and (not rising or rising[0][0] > now_ms):
            return None
        entry = self.peek()
        if entry is None or entry[0] > now_ms:
            return None
        return entry[1], entry[2]

    def _first(self) -> _Entry | None:
        heap, rising = self._heap, self._rising
        if not rising:
            return heap[0] if heap else None
        if not heap or rising[0] <= heap[0]:
            return rising[0]
        return heap[0]

    def _drop(self, first: _Entry) -> None:
        if self._rising and self._rising[0] is first:
            self._rising.popleft()
        else:
            heappop(self._heap)


class Timers:
    """The heap of each clock; a kind of timer belongs to one clock for ever."""

    __slots__ = ("_deadline_of", "lease", "wall")

    def __init__(self) -> None:
        self._deadline_of: Final[dict[int, _DeadlineOf]] = {}
        self.lease: Final = TimerHeap(self._deadline_of)
        self.wall: Final = TimerHeap(self._deadline_of)

    def register(self, rank: int, deadline_of: _DeadlineOf) -> None:
        """Tell whom to ask for the true deadline of a module's timers."""
        self._deadline_of[rank] = deadline_of
