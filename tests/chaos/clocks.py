"""Clocks that jump and drift, as the nodes are shown them.

Clocks of the nodes begin at different times in every world (``unshare -T``), so nothing
may compare one node's monotonic time with another's. What is bent here is what a node
sees of its own.

Source: RELIABILITY.md section 5 (wall clock, drift, monotonic base), rules 35 and 38.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar, Final

from tests.chaos.fault import Broken, Fault, variant

if TYPE_CHECKING:
    import random

    from tests.chaos.world import World

__all__ = ["CLOCK_FAULTS"]

_ROW: Final = "wall clock ± 1 h, drift"
_HOUR_MS: Final = 3_600_000
_DRIFT_PPM: Final = 40_000
_JUMPS_S: Final = (0.05, 1.0)


class _Clock(Fault):
    """Something about the clocks of some nodes."""

    row = _ROW
    lasts_s = (2.0, 20.0)

    def __init__(self) -> None:
        self._nodes: list[int] = []

    async def inject(self, world: World, rng: random.Random) -> None:
        self._nodes = rng.sample(world.members, rng.randint(1, len(world.members)))
        for node in self._nodes:
            await self.bend(world, node, rng)
            self.has_happened = True

    async def heal(self, world: World) -> None:
        nodes, self._nodes = self._nodes, []
        for node in nodes:
            world.bend_clock(node, wall_shift_ms=0)
        for node, status in (await asyncio.to_thread(world.statuses, nodes)).items():
            if "differs" in status.trouble:
                raise Broken(f"node {node}: {status.trouble}")

    async def bend(self, world: World, node: int, rng: random.Random) -> None:
        """Let it happen to one node."""
        raise NotImplementedError


class _WallJump(_Clock):
    """Wall time jumps; it jumps back in the end."""

    sign: ClassVar[int]

    async def bend(self, world: World, node: int, rng: random.Random) -> None:
        shift_ms = self.sign * rng.randint(1, _HOUR_MS)
        world.bend_clock(node, wall_shift_ms=shift_ms)


class _WallJumps(_Clock):
    """Wall time jumps to and fro."""

    name = "wall_clock_to_and_fro"
    lasts_s = (0.5, 2.0)

    async def bend(self, world: World, node: int, rng: random.Random) -> None:
        for _ in range(rng.randint(2, 6)):
            shift_ms = rng.randint(-_HOUR_MS, _HOUR_MS)
            world.bend_clock(node, wall_shift_ms=shift_ms)
            await asyncio.sleep(rng.uniform(*_JUMPS_S))


class _Drift(_Clock):
    """All clocks of a node run faster or slower than time."""

    name = "clock_drift"
    most_ppm: ClassVar[int]

    async def bend(self, world: World, node: int, rng: random.Random) -> None:
        rate_ppm = rng.randint(-self.most_ppm, self.most_ppm)
        world.bend_clock(node, rate_ppm=rate_ppm)


CLOCK_FAULTS: Final[tuple[type[Fault], ...]] = (
    variant(_WallJump, "wall_clock_ahead", sign=1),
    variant(_WallJump, "wall_clock_behind", sign=-1),
    _WallJumps,
    variant(_Drift, "clock_drift", most_ppm=_DRIFT_PPM),
)
