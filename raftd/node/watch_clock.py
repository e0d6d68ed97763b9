"""One timer for all watches that are idle, however many there are.

Rules: who began to idle first is rung first, after four fifths of the one period of
all, and not later than at its end. Those who began together are rung in small groups, a
few milliseconds apart: each ring makes a message, and the loop has other work, too. So
they are apart from then on.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final, Protocol

__all__ = ["Idle", "WatchClock"]

_QUIET_SHARE: Final = 0.8
"""Of the period; the rest is for ringing all, if all are due together."""
_GROUPS: Final = 40
_GROUP_MIN: Final = 16
"""So many are rung together, or so large a part of all."""


class Idle(Protocol):
    """One who waits for something to happen."""

    def ring(self) -> None:
        """Nothing has happened for most of a period."""


class WatchClock:
    """See the module's rules; for use on one loop."""

    __slots__ = ("_idle", "_pause_s", "_quiet_s", "_timer")

    def __init__(self, period_s: float) -> None:
        """Ring nobody yet.

        Args:
            period_s: How long anybody may idle.
        """
        self._quiet_s: Final = _QUIET_SHARE * period_s
        self._pause_s: Final = (period_s - self._quiet_s) / _GROUPS
        # A dict would be searched for its first from where its first once was.
        self._idle: Final[OrderedDict[Idle, float]] = OrderedDict()
        """From when on to be rung, rising."""
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, idle: Idle) -> None:
        """Ring within a period, unless it ends before."""
        loop = asyncio.get_running_loop()
        due_s = self._idle[idle] = loop.time() + self._quiet_s
        if self._timer is None:
            self._timer = loop.call_at(due_s, self._ring, loop)

    def end(self, idle: Idle) -> None:
        """Do not ring; may be called twice. The timer looks again when it is due."""
        self._idle.pop(idle, None)

    def __len__(self) -> int:
        """Return how many idle."""
        return len(self._idle)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        idle = self._idle
        now_s = loop.time()
        for _ in range(max(_GROUP_MIN, len(idle) // _GROUPS + 1)):
            first = next(iter(idle), None)
            if first is None:
                return
            if idle[first] > now_s:
                break
            del idle[first]
            first.ring()
        if idle:
            due_s = max(idle[next(iter(idle))], now_s + self._pause_s)
            self._timer = loop.call_at(due_s, self._ring, loop)
