"""Who answers for a task that runs beside everything else: the node.

Rules: a task that ends with an error which nobody expected ends the node; work that
silently stopped would be told by nothing but what is missing later.

Source: ``driver`` (an error that is not an answer ends the node).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["Fail", "own"]

Fail = Callable[[str, BaseException | None], None]
"""Ends the node, with a sentence."""


def own(work: Coroutine[Any, Any, None], what: str, fail: Fail) -> asyncio.Task[None]:
    """Begin a task; the node ends with an error that comes out of it.

    Args:
        work: What it does.
        what: The same in words, to begin a sentence with.
        fail: Ends the node.
    """

    def ended(task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            fail(f"{what} broke off: {error!r}", error)

    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(ended)
    return task
