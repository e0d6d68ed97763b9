"""The clock that claims are judged by: it goes on while the machine sleeps.

``CLOCK_BOOTTIME`` where it exists, else the monotonic clock. Never the wall clock.
Source: SEMANTICS.md section 1 (time).
"""

from __future__ import annotations

import time
from typing import Final

__all__ = ["boottime_s", "margin_s", "to_ms"]

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boottime_s() -> float:
    """Return seconds since the machine started, sleep included."""
    return time.clock_gettime(_CLOCK)


def margin_s(ttl_s: float) -> float:
    """Return how long before the end of a ttl its holder must count it as lost."""
    return max(0.1, ttl_s / 10)


def to_ms(seconds: float) -> int:
    """Round up, so that a positive wait never becomes "do not wait"."""
    return -int(-seconds * 1000 // 1)
