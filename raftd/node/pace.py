"""Long work on the loop, in slices.

Rules: a slice is short, and after it the loop goes on for a while, so that heartbeats
and writes hardly notice. A step of the work must itself be short.

Source: DESIGN.md section 6 ("never a long turn of the loop").
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["Pace", "collector_off"]


class Pace:
    """How one piece of long work lets others have their turns."""

    __slots__ = ("_begin_s", "_rest_share", "_slice_s")

    def __init__(self, *, slice_s: float, rest_share: float) -> None:
        """Begin the first slice.

        Args:
            slice_s: How long one is, but for its last step.
            rest_share: The loop's share afterwards: 1.0 is as long as the slice was.
        """
        self._slice_s: Final = slice_s
        self._rest_share: Final = rest_share
        self._begin_s = time.perf_counter()

    async def step(self) -> None:
        """Call after each step of the work."""
        used_s = time.perf_counter() - self._begin_s
        if used_s >= self._slice_s:
            await asyncio.sleep(used_s * self._rest_share)
            self._begin_s = time.perf_counter()


@contextmanager
def collector_off() -> Iterator[None]:
    """Keep the cyclic garbage collector away while many objects are made to stay."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
