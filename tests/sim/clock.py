"""The two clocks of a simulated node: offset, drift, and steps of the wall clock.

Rules: monotonic time of different nodes, and of one node before and after a restart,
has nothing in common; its rate is off by at most ``DRIFT_PPM_MAX``.

Source: RELIABILITY.md section 6 (clock).
"""

from __future__ import annotations

from random import Random
from typing import Final

__all__ = ["DRIFT_PPM_MAX", "NodeClock"]

DRIFT_PPM_MAX: Final = 50_000
_MILLION: Final = 1_000_000
_EPOCH_MS: Final = 1_700_000_000_000
_OFFSET_US_MAX: Final = 10**12
_STEP_MS_MAX: Final = 3_600_000


class NodeClock:
    """What one node believes the time to be."""

    def __init__(self, rng: Random, drift_ppm: int) -> None:
        assert drift_ppm <= DRIFT_PPM_MAX
        self._rng: Final = rng
        self._rate_ppm: Final = _MILLION + rng.randint(-drift_ppm, drift_ppm)
        self._wall_offset_ms = rng.randint(-300, 300)
        self._offset_us = rng.randrange(_OFFSET_US_MAX)

    def restart(self) -> None:
        """Begin monotonic time elsewhere."""
        self._offset_us = self._rng.randrange(_OFFSET_US_MAX)

    def step_wall(self) -> None:
        """Set the wall clock to something else."""
        reach_ms = self._rng.choice([100, 5000, _STEP_MS_MAX])
        self._wall_offset_ms = self._rng.randint(-reach_ms, reach_ms)

    def calm(self) -> None:
        """Set the wall clock right, as a time service does."""
        self._wall_offset_ms = self._rng.randint(-50, 50)

    def monotonic_us(self, now_us: int) -> int:
        """Return monotonic time at a true instant."""
        return self._offset_us + now_us * self._rate_ppm // _MILLION

    def monotonic_ms(self, now_us: int) -> int:
        """Return monotonic time at a true instant."""
        return self.monotonic_us(now_us) // 1000

    def wall_ms(self, now_us: int) -> int:
        """Return wall time at a true instant."""
        elapsed_ms = now_us * self._rate_ppm // _MILLION // 1000
        return _EPOCH_MS + elapsed_ms + self._wall_offset_ms

    def true_us(self, own_us: int) -> int:
        """Return how long ``own_us`` of this clock truly last."""
        return own_us * _MILLION // self._rate_ppm
