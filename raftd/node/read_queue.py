"""Linearizable reads: asked in batches, answered when their index is applied.

Rules: all reads that arrive in one turn share one confirmation; a read whose leader
was lost is asked again at the next tick, until its asker gives up (closes its sink).

Source: RELIABILITY.md rule 33; Raft thesis section 6.4.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import Any, Final

from raftd.consensus.core import Core
from raftd.node.service import Answered, AnswerSink
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Refusal

__all__ = ["Query", "ReadQueue"]

Query = Callable[[Machine], Any]
_Read = tuple[Query, AnswerSink, int]


class ReadQueue:
    """Reads by how far they are: new, asked, confirmed."""

    __slots__ = ("_asked", "_confirmed", "_core", "_ctx", "_failed", "_machine", "_new")

    def __init__(self, core: Core, machine: Machine) -> None:
        self._core: Final = core
        self._machine: Final = machine
        self._ctx = 0
        self._new: list[_Read] = []
        self._failed: list[_Read] = []
        self._asked: Final[dict[int, list[_Read]]] = {}
        self._confirmed: Final[list[tuple[int, int, list[_Read]]]] = []

    def add(self, query: Query, sink: AnswerSink, tag: int) -> None:
        """Queue a read; the query's value comes to the sink as its answer."""
        self._new.append((query, sink, tag))

    def ask(self) -> None:
        """Ask the core for all new reads at once."""
        if not self._new:
            return
        self._ctx += 1
        self._asked[self._ctx] = self._new
        self._new = []
        self._core.read_index(self._ctx)

    def retry(self) -> None:
        """Ask again for those that lost their leader, once there is one."""
        if self._failed and self._core.leader is not None:
            self._new.extend(self._failed)
            self._failed = []

    def take(self, reads: Iterable[tuple[int, int]], failed: Iterable[int]) -> None:
        """Take in what the core found out."""
        for ctx, index in reads:
            heapq.heappush(self._confirmed, (index, ctx, self._asked.pop(ctx)))
        for ctx in failed:
            self._failed.extend(self._asked.pop(ctx))

    def run(self, touched: dict[AnswerSink, None]) -> None:
        """Answer all whose index is applied."""
        confirmed, machine = self._confirmed, self._machine
        while confirmed and confirmed[0][0] <= machine.applied_index:
            _, _, reads = heapq.heappop(confirmed)
            for query, sink, tag in reads:
                sink.answer(tag, Answered(query(machine), machine.revision))
                touched[sink] = None

    def refuse_waiting(self, refusal: Refusal, touched: dict[AnswerSink, None]) -> None:
        """Answer all that wait for an index that will not be applied here soon."""
        confirmed, self._confirmed[:] = self._confirmed[:], []
        for _, _, reads in confirmed:
            for _, sink, tag in reads:
                sink.answer(tag, Answered(refusal, self._machine.revision))
                touched[sink] = None

    def drop(self, sink: AnswerSink) -> None:
        """Forget the reads of a sink that is gone."""
        self._new = [read for read in self._new if read[1] is not sink]
        self._failed = [read for read in self._failed if read[1] is not sink]
        in_the_core = [
            *self._asked.values(),
            *(reads for _, _, reads in self._confirmed),
        ]
        for reads in in_the_core:  # which gives each number back, with reads or not
            reads[:] = [read for read in reads if read[1] is not sink]
