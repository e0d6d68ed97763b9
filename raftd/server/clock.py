"""The real clocks of a node."""

from __future__ import annotations

import time

__all__ = ["SystemClock"]


class SystemClock:
    """See ``raftd.node.ports.Clock``."""

    def monotonic_ms(self) -> int:
        """Milliseconds that never go back."""
        return time.monotonic_ns() // 1_000_000

    def wall_ms(self) -> int:
        """Milliseconds since 1970."""
        return time.time_ns() // 1_000_000
