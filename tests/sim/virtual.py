"""What the production code is given in place of real time while a run lasts.

Rules: every look at a clock is one at the running loop's; long work takes a little
time at each look. Pieces are small and patience is short, so that much happens in few
events. Everything is as it was after the run.

Source: RELIABILITY.md section 6.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import Any, Final

from raftd.node import (
    caretaker,
    checkpoints,
    driver,
    log_cut,
    pace,
    snapshots_in,
    snapshots_out,
    state_loading,
    write_queue,
)
from raftd.storage import chunks
from tests.sim.loop import SimLoop

__all__ = ["virtual"]


class _Time:
    """Stands in for the ``time`` module."""

    @staticmethod
    def perf_counter() -> float:
        """Return the time of the node that runs."""
        return asyncio.get_running_loop().time()


class _BusyTime:
    """Stands in for the ``time`` module where long work is measured."""

    @staticmethod
    def perf_counter() -> float:
        """Return time of which a little has passed."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop), "only what is simulated runs"
        return loop.busy_time()


class _Collector:
    """Stands in for the ``gc`` module."""

    @staticmethod
    def freeze() -> None:
        """Leave it: many states come and go in one process here."""


_PATCHES: Final[tuple[tuple[Any, str, Any], ...]] = (
    (caretaker, "time", _Time),
    (driver, "time", _Time),
    (write_queue, "time", _Time),
    (pace, "time", _BusyTime),
    (snapshots_in, "gc", _Collector),
    (state_loading, "_FEED_ROWS", 8),
    (state_loading, "_PIECE_ROWS", 40),
    (snapshots_out, "_CALL_S", 1.0),
    (snapshots_out, "_PATIENCE_S", 4.0),
    (checkpoints, "_STEP_ROWS", 4),
    (log_cut, "_SAMPLE_BYTES", 200),
)


@contextlib.contextmanager
def virtual(chunk_bytes: int) -> Iterator[None]:
    """Run the body with simulated time and small chunks."""
    patches = (*_PATCHES, (chunks, "CHUNK_BYTES", chunk_bytes))
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in patches]
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        for owner, name, value in patches:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
        logging.disable(level)
