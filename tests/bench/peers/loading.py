"""What load programs in Python share: which operations count, and how they tell.

Rules: an operation counts if it ends within the measured time; one that ends later
counts only if there is no other, so that slow ones have a latency, too.
"""

from __future__ import annotations

import sys
import time

import msgspec

from tests.bench.measure import quantile
from tests.bench.peers.program import Done, Order

__all__ = ["LoadFailed", "Measured", "tell"]


class LoadFailed(Exception):
    """The server did not do as it was told, or not what it promises."""


class Measured:
    """The times of one run, and what took how long within them."""

    def __init__(self, order: Order) -> None:
        self.begin_s = time.perf_counter() + order.warm_up_s
        self.end_s = self.begin_s + order.measured_s
        self._took_s: list[float] = []

    @property
    def events(self) -> tuple[tuple[str, float], tuple[str, float]]:
        """What is to be told, and when."""
        return ("begin", self.begin_s), ("end", self.end_s)

    def note(self, began_s: float, now_s: float) -> None:
        """Take note of something that has just ended."""
        is_late = now_s >= self.end_s and bool(self._took_s)
        if now_s >= self.begin_s and not is_late:
            self._took_s.append(now_s - began_s)

    def done(self, acknowledged: int, found: int) -> Done:
        """Return what the run came to."""
        ordered = sorted(self._took_s)
        return Done(
            operations=len(ordered),
            p50_us=quantile(ordered, 0.50) * 1e6,
            p99_us=quantile(ordered, 0.99) * 1e6,
            acknowledged=acknowledged,
            found=found,
        )


def tell(answer: object) -> None:
    """Write one line to whoever gave the order."""
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()
