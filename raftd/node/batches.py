"""Requests on their way into the log: queued, gathered, proposed, settled.

Rules: first come, first proposed; everything that arrived while the entries in flight
were being written goes into the next entry together.

Source: DESIGN.md section 3 step 3.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Final

import msgspec

from raftd.node.service import AnswerSink
from raftd.node.settings import ReplicaSettings

__all__ = ["Batches", "Proposed", "Renewed", "Target"]

Target = tuple[AnswerSink, int]
"""Who gets the answer, and under which tag."""

Renewed = tuple[tuple[int, ...], Callable[[Sequence[int] | None], None]]
"""Leases, and whom to tell that they count."""


@dataclasses.dataclass(frozen=True, slots=True)
class Proposed:
    """An entry on its way: applied only at exactly this place.

    Attributes:
        taken: How many requests had left the queue with it, ever.
    """

    index: int
    term: int
    targets: list[Target]
    renewed: list[Renewed]
    taken: int = 0


class Batches:
    """What waits for an entry, and the entries that are on their way."""

    __slots__ = (
        "_gone",
        "_in_flight",
        "_proposed",
        "_queue",
        "_queued_bytes",
        "_renewal_due_ms",
        "_renewals",
        "_renewed",
        "_settings",
        "_taken",
    )

    def __init__(self, settings: ReplicaSettings) -> None:
        self._settings: Final = settings
        self._queue: Final[deque[tuple[msgspec.Raw, Target]]] = deque()
        self._queued_bytes = 0
        self._renewals: dict[int, None] = {}
        self._renewed: list[Renewed] = []
        self._renewal_due_ms = 0
        self._proposed: Final[dict[int, list[Proposed]]] = {}
        self._in_flight = 0
        self._taken = 0
        self._gone: Final[dict[AnswerSink, int]] = {}

    def add(self, request: msgspec.Raw, target: Target) -> bool:
        """Queue a request; False if too much is waiting already."""
        size = len(memoryview(request))
        if (
            len(self._queue) >= self._settings.queued_requests_max
            or self._queued_bytes + size > self._settings.queued_bytes_max
        ):
            return False
        self._queued_bytes += size
        self._queue.append((request, target))
        return True

    def add_renewals(
        self,
        leases: Sequence[int],
        done: Callable[[Sequence[int] | None], None],
        monotonic_ms: int,
    ) -> None:
        """Queue renewals; they ride with the next entry, or make one soon."""
        if not self._renewed:
            self._renewal_due_ms = monotonic_ms + self._settings.renewal_delay_ms
        self._renewals.update(dict.fromkeys(leases))
        self._renewed.append((tuple(leases), done))

    @property
    def may_propose_more(self) -> bool:
        """Whether another entry may be on its way."""
        return self._in_flight < self._settings.batches_in_flight_max

    def is_due(self, monotonic_ms: int) -> bool:
        """Whether there is something that should not wait for company."""
        return bool(self._queue) or (
            bool(self._renewed) and monotonic_ms >= self._renewal_due_ms
        )

    def take(
        self,
    ) -> tuple[list[msgspec.Raw], list[Target], tuple[int, ...], list[Renewed]]:
        """Take the next entry's requests and all renewals."""
        queue, settings = self._queue, self._settings
        requests: list[msgspec.Raw] = []
        targets: list[Target] = []
        room_bytes = settings.batch_bytes_max
        while queue and len(requests) < settings.batch_requests_max:
            size = len(memoryview(queue[0][0]))
            if requests and size > room_bytes:
                break
            room_bytes -= size
            self._queued_bytes -= size
            request, target = queue.popleft()
            requests.append(request)
            targets.append(target)
        self._taken += len(requests)
        renewals, renewed = tuple(self._renewals), self._renewed
        self._renewals, self._renewed = {}, []
        return requests, targets, renewals, renewed

    def drop_queued(self) -> list[Target]:
        """Drop what was never proposed; renewals are told to ask again."""
        targets = [target for _, target in self._queue]
        self._taken += len(self._queue)
        self._queue.clear()
        self._queued_bytes = 0
        renewed, self._renewed, self._renewals = self._renewed, [], {}
        for _, done in renewed:
            done(None)
        return targets

    def start_term(self) -> None:
        """Begin a leadership: what older terms proposed no longer holds us up."""
        self._in_flight = 0

    @property
    def is_idle(self) -> bool:
        """Whether no entry of this leadership is on its way."""
        return not self._in_flight

    def note_proposed(
        self, index: int, term: int, targets: list[Target], renewed: list[Renewed]
    ) -> None:
        """Remember who waits for an entry."""
        proposed = Proposed(index, term, targets, renewed, self._taken)
        self._proposed.setdefault(index, []).append(proposed)
        self._in_flight += 1

    def forget(self, sink: AnswerSink) -> None:
        """Note that nobody is behind a sink any more, whatever is still on its way."""
        if self._queue or self._proposed:
            self._gone.pop(sink, None)
            self._gone[sink] = self._taken + len(self._queue)

    def is_gone(self, sink: AnswerSink) -> bool:
        """Tell whether nobody is behind this sink."""
        return sink in self._gone

    def note_answered(self, proposed: Proposed) -> None:
        """Nothing of an entry is on its way any more: let go of who left by then."""
        for sink in list(
            takewhile(lambda sink: self._gone[sink] <= proposed.taken, self._gone)
        ):
            del self._gone[sink]

    def settle(self, index: int, term: int) -> list[Proposed]:
        """Take all that was proposed at this index, by any leadership of ours.

        Args:
            index: Applied now.
            term: Of the entry applied; what was proposed under it is not in flight.
        """
        hits = self._proposed.pop(index, None)
        if hits is None:
            return []
        if hits[-1].term == term and self._in_flight:
            self._in_flight -= 1
        return hits

    def take_until(self, index: int) -> list[Proposed]:
        """Take all that was proposed up to an index: it is never applied here."""
        return [
            proposed
            for each in sorted(each for each in self._proposed if each <= index)
            for proposed in self._proposed.pop(each)
        ]

    def take_lost(self, index: int, term: int) -> Proposed | None:
        """Take what was proposed at (index, term), which is definitely lost."""
        hits = self._proposed.get(index, [])
        for proposed in hits:
            if proposed.term == term:
                hits.remove(proposed)
                if not hits:
                    del self._proposed[index]
                return proposed
        return None
