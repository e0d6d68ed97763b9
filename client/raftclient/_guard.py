"""Tells the body of an ``async with`` that what it holds is lost.

The task that runs the body is cancelled, and at the end of the block the cancellation
becomes the error that says why, as ``asyncio.timeout`` does it.

Source: DESIGN.md section 9.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from raftclient._held import Claim
    from raftclient.errors import RaftError

__all__ = ["BodyGuard"]


class BodyGuard:
    """Watches one claim for one block; made inside the task that runs it.

    Args:
        claim: What the block depends on.
        loop: The one that runs here; to ask for it takes a system call.
    """

    def __init__(self, claim: Claim, loop: asyncio.AbstractEventLoop) -> None:
        task = asyncio.current_task(loop)
        assert task is not None, "a block is run by a task"
        self._claim: Final = claim
        self._task: Final = task
        self._cancelling: Final = task.cancelling()
        self._loop: Final = loop
        self._is_inside = True
        self._has_cancelled = False
        claim.on_lost(self._tell_loop)

    def leave(self, exc_type: type[BaseException] | None) -> RaftError | None:
        """End the watch; returns the error that the block ends with, if it is ours."""
        self._is_inside = False
        self._claim.forget(self._tell_loop)
        if self._has_cancelled and self._task.uncancel() > self._cancelling:
            return None  # somebody else wants the task to end, too
        if exc_type is None or (
            self._has_cancelled and issubclass(exc_type, asyncio.CancelledError)
        ):
            return self._claim.error() if self._claim.is_lost() else None
        return None

    def _tell_loop(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nothing is left to cancel
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._is_inside:
            self._has_cancelled = True
            self._task.cancel(f"{self._claim.what} is lost")
