"""A stored state becomes a machine while the node goes on.

Rules: rows are read in a thread, a bounded piece at a time, so a disk that hangs keeps
nobody but the one who waits for the state; the machine is built on the loop, in slices.
The garbage collector is kept away meanwhile, or it would look again and again at what
is there to stay; who keeps the machine freezes it.

Source: DESIGN.md section 6 ("never a long turn of the loop").
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice
from typing import Final

from raftd.node.pace import Pace, collector_off
from raftd.statemachine.machine import Machine, MachineLoading
from raftd.statemachine.rows import Row

__all__ = ["load_state"]

_PIECE_ROWS: Final = 2048
"""Read in a thread at once,"""

_FEED_ROWS: Final = 256
"""and taken in in one step."""


async def load_state(
    loading: MachineLoading, rows: Iterator[Row], pace: Pace
) -> Machine:
    """Make a machine of rows; whatever reading them raises comes out of it.

    Args:
        loading: Has no rows yet.
        rows: Oldest first. They are asked for in one thread at a time, and not any
            more when this has ended, even if it was cancelled.
        pace: Says when others get their turns.
    """
    with collector_off():
        reading = _read(rows)
        try:
            while part := await asyncio.shield(reading):
                reading = _read(rows)
                for first in range(0, len(part), _FEED_ROWS):
                    loading.feed(part[first : first + _FEED_ROWS])
                    await pace.step()
        finally:
            await asyncio.gather(reading, return_exceptions=True)
        for _ in loading.steps():
            await pace.step()
    return loading.machine


def _read(rows: Iterator[Row]) -> asyncio.Task[list[Row]]:
    """Read the next piece; the last one is empty."""
    return asyncio.create_task(asyncio.to_thread(_piece_of, rows))


def _piece_of(rows: Iterator[Row]) -> list[Row]:
    return list(islice(rows, _PIECE_ROWS))
