"""Timers that go off when a test says so, and not when a busy machine gets there.

Who must be in time for a limit is in time however long its process stood still, and
who must not be is too late at once.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final

import pytest

__all__ = ["Timers"]

_LIMITS_S: Final = itertools.count(86_400.0)
"""Each tells the timers of one limit from all others."""

_Timer = tuple[asyncio.TimerHandle, Callable[..., object], tuple[Any, ...]]


class Timers:
    """Those that the running loop is asked for because of one limit.

    Args:
        patch: Undoes it.
        limit: A constant, in seconds, by the path of its module and its name.
    """

    def __init__(self, patch: pytest.MonkeyPatch, limit: str) -> None:
        self._limit_s: Final = next(_LIMITS_S)
        self._timers: Final[list[_Timer]] = []
        self._is_new: Final = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._call_later: Final = loop.call_later
        patch.setattr(limit, self._limit_s)
        patch.setattr(loop, "call_later", self._note)

    def _note(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        timer = self._call_later(delay, callback, *args, context=context)
        if delay == self._limit_s:
            self._timers.append((timer, callback, args))
            self._is_new.set()
        return timer

    async def go_off(self, count: int) -> None:
        """Wait until so many were set, in all; those not cancelled go off."""
        while len(self._timers) < count:
            self._is_new.clear()
            await self._is_new.wait()
        for timer, callback, args in self._timers:
            if not timer.cancelled():
                timer.cancel()
                callback(*args)
