"""How long the newest log writes took, for status and for leaders with slow disks."""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["SyncTimes"]

_NEWEST: Final = 512


class SyncTimes:
    """The newest write times."""

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds: Final[deque[float]] = deque(maxlen=_NEWEST)

    def add(self, seconds: float) -> None:
        """Take note of one write."""
        self._seconds.append(seconds)

    def p50_us(self) -> int:
        """Return the median in microseconds, 0 without any."""
        if not self._seconds:
            return 0
        return int(sorted(self._seconds)[len(self._seconds) // 2] * 1e6)

    def max_us(self) -> int:
        """Return the worst in microseconds, 0 without any."""
        return int(max(self._seconds, default=0.0) * 1e6)
