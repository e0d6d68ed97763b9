"""The whole swarm: what a seed draws beyond ``draw_options``, over the whole ranges.

Rules: these draws have a generator of their own, so that a run of ``draw_options``
alone, which planted bugs are looked for with, stays what it was.

Source: RELIABILITY.md section 6 (swarm per seed).
"""

from __future__ import annotations

import dataclasses
from random import Random
from typing import Final

from tests.sim.options import TICK_MS, Options
from tests.sim.shapes import SHAPES

__all__ = ["widen"]

_TICK_US: Final = TICK_MS * 1000


def widen(options: Options, rng: Random) -> Options:
    """Draw once more, from everything there is.

    Args:
        options: Kept where nothing else is said here.
        rng: Used for nothing else.
    """
    election_ticks = rng.choice([5, 8, 12, 20, 30, 50])
    election_us = election_ticks * _TICK_US
    faults = tuple(fault for fault in options.faults if rng.random() < 0.8)
    return dataclasses.replace(
        options,
        size=rng.choice([1, 2, 3, 3, 3, 4, 5, 5, 7]),
        election_ticks=election_ticks,
        latency_us=_latency_us(rng, election_us),
        tail=rng.choice([0, 0, 0.02, 0.1]),
        loss=rng.choice([0, 0, 0, 0.02, 0.05, 0.2, 0.5]),
        duplicate=rng.choice([0, 0.1, 0.5]),
        replay=rng.choice([0, 0, 0.05, 0.2]),
        replay_late_us=rng.choice([0, election_us, 10 * election_us]),
        heal_drops=True,
        write_us=rng.choice([200, 5_000, 20_000, election_us // 20, election_us // 5]),
        fault_interval_us=_TICK_US * rng.choice([3, 10, 30, 80, 200, 200]),
        downtime_us=_TICK_US * rng.choice([1, 4, 15, 60]),
        faults=faults,
        shapes=tuple(shape for shape in sorted(SHAPES) if rng.random() < 0.5),
        clients=rng.choice([0, 1, 3, 6]),
        depth=rng.choice([1, 4, 16]),
        op_interval_us=rng.choice([5_000, 20_000, 50_000]),
        ttl_ms=rng.choice([1000, 1000, 3000, 10_000]),
        sleepy=rng.choice([0, 0, 0.01, 0.05]),
        workers=rng.choice([0, 0, 1, 2, 4]),
        candidates=rng.choice([0, 0, 2, 3]),
        lockers=rng.choice([0, 0, 2, 4]),
        goodbye=rng.choice([0, 0, 0.01, 0.05]),
        here=rng.choice([0, 0.5, 0.9]),
        upgrade_us=rng.choice([0, 0, 0, election_us, 10 * election_us]),
    )


def _latency_us(rng: Random, election_us: int) -> int:
    """Draw a mean latency, mostly one that lets much happen."""
    if rng.random() < 0.1:
        return int(_TICK_US * rng.uniform(0.1, 15))
    return rng.choice([500, 2_000, 5_000, 20_000, election_us // 20, election_us // 5])
