"""The ready jobs of one queue: who is next, of all types or of some.

Rules: the order is priority, then enqueue, as one number (``jobs.order_of``). A lane
per type keeps its jobs sorted; a heap of hints finds the first of all lanes. A hint is
at most its lane's head, or it is garbage; it is judged when it surfaces. So the answer
follows from the jobs alone, however the index came to be.

Source: SEMANTICS.md section 6 (Reserve).
"""

from heapq import heapify, heappop, heappush, heapreplace
from typing import Final

from raftd.statemachine.queues.jobs import ORDER_MASK
from raftd.statemachine.queues.line import Line

__all__ = ["ReadyJobs"]

_EMPTY_LANES_MAX: Final = 64
"""An empty lane is kept for the next job, unless there are many."""


class ReadyJobs:
    """An index of ready jobs by (type, order)."""

    __slots__ = ("_heads", "_hints", "_lanes")

    def __init__(self) -> None:
        self._lanes: dict[str, Line] = {}
        self._heads: list[tuple[int, str]] | None = None
        """A heap; None = to be built when there is more than one lane."""
        self._hints: dict[str, int] = {}
        """The hint of each lane that counts."""

    def __len__(self) -> int:
        return sum(len(lane) for lane in self._lanes.values())

    def add(self, order: int, type_: str) -> None:
        """Put a job in."""
        lane = self._lanes.get(type_)
        if lane is None:
            lane = self._lanes[type_] = Line()
        lane.add(order)
        heads = self._heads
        if heads is not None:
            hint = self._hints.get(type_)
            if hint is None or order < hint:
                self._hint(heads, order, type_)

    def remove(self, order: int, type_: str) -> None:
        """Take a job out."""
        lane = self._lanes[type_]
        lane.remove(order)
        if not lane and len(self._lanes) > _EMPTY_LANES_MAX:
            del self._lanes[type_]

    def first(self, types: tuple[str, ...] = ()) -> int | None:
        """Return the order of the next job of these types (empty: of any)."""
        lanes = self._lanes
        if types:
            found = [
                first
                for type_ in types
                if (lane := lanes.get(type_)) is not None
                and (first := lane.first()) is not None
            ]
            return min(found, default=None)
        if len(lanes) == 1:
            for lane in lanes.values():
                return lane.first()
        return self._first_of_all()

    def count(self, types: tuple[str, ...]) -> int:
        """Return how many jobs of these types are ready."""
        lanes = self._lanes
        return sum(len(lanes[type_]) for type_ in types if type_ in lanes)

    def oldest(self) -> int | None:
        """Return the lowest id of all ready jobs, whatever their priority."""
        found: list[int] = []
        for lane in self._lanes.values():
            order = lane.first()
            while order is not None:
                found.append(order & ORDER_MASK)
                order = next(lane.above(order | ORDER_MASK), None)
        return min(found, default=None)

    def _first_of_all(self) -> int | None:
        heads = self._heads
        if heads is None:
            heads = self._build()
        lanes, hints = self._lanes, self._hints
        while heads:
            order, type_ = heads[0]
            if hints.get(type_) != order:
                heappop(heads)
                continue
            lane = lanes.get(type_)
            head = None if lane is None else lane.first()
            if head is None:
                heappop(heads)
                del hints[type_]
                continue
            if head == order:
                return order
            heapreplace(heads, (head, type_))
            hints[type_] = head
        return None

    def _build(self) -> list[tuple[int, str]]:
        heads = [
            (first, type_)
            for type_, lane in self._lanes.items()
            if (first := lane.first()) is not None
        ]
        heapify(heads)
        self._heads = heads
        self._hints = {type_: order for order, type_ in heads}
        return heads

    def _hint(self, heads: list[tuple[int, str]], order: int, type_: str) -> None:
        if len(heads) > 2 * len(self._lanes) + _EMPTY_LANES_MAX:
            self._heads = None
            return
        heappush(heads, (order, type_))
        self._hints[type_] = order
