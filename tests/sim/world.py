"""Simulated time: one heap of events, one seed, one trace.

Rules: whatever happens is an event; events of one instant happen in the order in which
they were made. Every part draws from a generator of its own name, so that a draw more
in one part does not shift the others. Everything that happens goes into the trace
hash: equal seeds and equal code give equal hashes.

Source: RELIABILITY.md section 6.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, Final

__all__ = ["SimFailure", "World"]

_RECENT_MAX: Final = 200
_LAST: Final = 1 << 60
"""Behind whatever else happens at an instant."""

_Event = tuple[int, int, str, Callable[..., None], tuple[Any, ...]]


class SimFailure(AssertionError):
    """A promise was broken; the text says which."""


class World:
    """The clock, the events to come, and a record of those that were."""

    def __init__(self, seed: int) -> None:
        self.seed: Final = seed
        self.now_us = 0
        self.steps = 0
        self.on_line: Callable[[str], None] | None = None
        self._failure: BaseException | None = None
        self._heap: Final[list[_Event]] = []
        self._sequence = 0
        self._hash: Final = hashlib.blake2b(digest_size=16)
        self._recent: Final[deque[tuple[int, str, Callable[[], str] | None]]] = deque(
            maxlen=_RECENT_MAX
        )

    def rng(self, name: str) -> Random:
        """Return the generator of one part."""
        return Random(f"{self.seed}/{name}")

    def after(
        self, delay_us: int, label: str, action: Callable[..., None], *args: Any
    ) -> None:
        """Have something happen later; ``label`` names it in the trace."""
        assert delay_us >= 0, "nothing happens in the past"
        self._sequence += 1
        event = (self.now_us + delay_us, self._sequence, label, action, args)
        heapq.heappush(self._heap, event)

    def at_last(
        self, at_us: int, label: str, action: Callable[..., None], *args: Any
    ) -> None:
        """Have something happen at an instant, after all else that happens then."""
        assert at_us >= self.now_us, "nothing happens in the past"
        self._sequence += 1
        event = (at_us, _LAST + self._sequence, label, action, args)
        heapq.heappush(self._heap, event)

    @property
    def next_us(self) -> int:
        """When the next event happens."""
        return self._heap[0][0]

    def step(self) -> None:
        """Let the next event happen."""
        time_us, _, label, action, args = heapq.heappop(self._heap)
        self.now_us = time_us
        self.steps += 1
        self._record(label, None)
        action(*args)
        if self._failure is not None:
            raise self._failure

    def fail(self, error: BaseException) -> None:
        """End the run with this step, wherever it is in the production code."""
        if self._failure is None:
            self._failure = error

    def note(self, text: str) -> None:
        """Record what an event led to."""
        self._record(text, None)

    def mix(self, label: str, data: bytes, show: Callable[[], str]) -> None:
        """Record bytes; ``show`` is called only if somebody wants to read them."""
        self._hash.update(data)
        self._record(label, show)

    def _record(self, label: str, show: Callable[[], str] | None) -> None:
        self._hash.update(b"%d" % self.now_us + label.encode())
        self._recent.append((self.now_us, label, show))
        if self.on_line is not None:
            self.on_line(_line(self.now_us, label, show))

    @property
    def trace_hash(self) -> str:
        """Return a digest of all that has happened."""
        return self._hash.hexdigest()

    def recent(self) -> list[str]:
        """Return the last events, one a line."""
        return [_line(*entry) for entry in self._recent]


def _line(time_us: int, label: str, show: Callable[[], str] | None) -> str:
    detail = f" {show()}" if show is not None else ""
    return f"{time_us / 1000:>12.3f} ms  {label}{detail}"
