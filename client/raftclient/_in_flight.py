"""What gRPC still owes the loop of one client.

All loops of a process share gRPC's one queue of completions. One that comes for a loop
that was closed meanwhile is an error in the loop that happens to take it, with a
traceback in the log of somebody who did nothing wrong. Neither cancelling a call nor
closing its channel waits for its completions, so that is done here: a client ends
quietly if its loop may be closed right after ``close``.

Of a call that is answered by a stream, gRPC awaits the final status in a task of its
own, which no cancellation of ours reaches; the status comes with the last completions.
A plain unary call has no such task, and cancelled it cannot be waited for; this is why
unary methods, too, are called as streams of one answer.

Source: DESIGN.md section 9.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["InFlight"]

T = TypeVar("T")

SETTLE_S_MAX: Final = 1.0
"""Cancelled calls are over within milliseconds; nothing hangs if one is not."""


class InFlight:
    """The calls of one client whose final status is still to come."""

    def __init__(self) -> None:
        self._statuses: Final[set[asyncio.Task[Any]]] = set()

    def begin(self, make: Callable[[], T]) -> T:
        """Make a call that is answered by a stream; it counts until its status came."""
        loop = asyncio.get_running_loop()
        others: set[asyncio.Task[Any]] = set()

        def add_that_of_the_call() -> None:
            for task in asyncio.all_tasks(loop) - others:
                self._statuses.add(task)
                task.add_done_callback(self._statuses.discard)

        # Callbacks run in the order of their registration: between these two is just
        # the first step of the call, where gRPC makes the task that awaits the status.
        loop.call_soon(lambda: others.update(asyncio.all_tasks(loop)))
        call = make()
        loop.call_soon(add_that_of_the_call)
        return call

    async def settled(self) -> None:
        """Wait until calls that have been cancelled are over, in gRPC's eyes, too."""
        if self._statuses:
            await asyncio.wait(self._statuses, timeout=SETTLE_S_MAX)
