"""Clients that count without a pause, and know to what they have counted.

Rules: a refusal that says "not applied" is waited out and the same count is tried
again; any other error ends the test. What was acknowledged is exactly what is there at
the end.

Source: RELIABILITY.md section 5 (codes DUR, XO).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

from cluster.processes import Processes
from raftclient import LimitExceeded, aio
from tests.e2e.tools import eventually_async

__all__ = ["Counts", "check_counts", "counting"]

PATIENCE_S = 60.0
_PAUSE_S = 0.05
_CLIENTS = 4
_PADDING = b"x" * 2000


class Counts:
    """What has been acknowledged, and refused."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.sentences: Counter[str] = Counter()
        self.is_over = False

    @property
    def total(self) -> int:
        """How much was counted, by all."""
        return sum(self.counts.values())

    async def go_on(self, wanted: int = 100) -> None:
        """Wait until so much more is counted."""
        until = self.total + wanted
        await eventually_async(lambda: self.total >= until, "the counting goes on")


async def _count(endpoints: str, name: str, counts: Counts) -> None:
    async with aio.connect(endpoints, timeout_s=PATIENCE_S) as client:
        while not counts.is_over:
            try:
                counted = await client.incr(f"counts/{name}")
                assert counted == counts.counts[name] + 1, "lost, or applied twice"
                counts.counts[name] = counted
                await client.put(f"padding/{name}", _PADDING)
            except LimitExceeded as refusal:
                counts.sentences[str(refusal)] += 1
                await asyncio.sleep(_PAUSE_S)


@contextlib.asynccontextmanager
async def counting(nodes: Processes) -> AsyncIterator[Counts]:
    """Count with some clients inside the block; the first error of any ends it."""
    counts = Counts()
    async with asyncio.TaskGroup() as group:
        for index in range(_CLIENTS):
            group.create_task(_count(nodes.endpoints, f"client{index}", counts))
        try:
            yield counts
        finally:
            counts.is_over = True


async def check_counts(nodes: Processes, counts: Counts) -> None:
    """Compare what is there with what was acknowledged."""
    async with aio.connect(nodes.endpoints, timeout_s=PATIENCE_S) as client:
        found = {kv.key: int(kv.value) async for kv in client.range(prefix="counts/")}
    assert found == {f"counts/{name}".encode(): n for name, n in counts.counts.items()}
