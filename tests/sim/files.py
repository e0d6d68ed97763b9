"""How quick and how sound the disk of one node is.

Rules: a transaction takes its time, and only its end makes it durable; a crash keeps
any of those under way. A full disk refuses and nothing has happened; a bad one fails,
and what was under way is there or not. A transaction that the node's own loop carries
out keeps the loop from everything else for as long as it takes: what a crash finds
under way was followed by nothing.

Source: RELIABILITY.md section 6 (disk); ``raftd.storage.log_here``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Final

from raftd.storage.errors import DiskFailed, DiskFull
from tests.sim.disk import Disk
from tests.sim.loop import SimLoop
from tests.sim.world import World

__all__ = ["Files"]

_CALM_US: Final = 500
_HERE_US_MAX: Final = 3000
"""What takes longer is followed by a rest."""
_HERE_STALLED: Final = 0.05
"""So seldom the loop did not rest when the disk began to be slow."""


class Files:
    """How quick and how sound one disk is, and what is under way on it."""

    def __init__(
        self, world: World, disk: Disk, rng: Random, write_us: int, here: float
    ) -> None:
        self.disk: Final = disk
        self.rng: Final = rng
        self.is_bad = False
        """The next transaction fails, and the node with it."""
        self.on_point: Callable[[str], bool] = _goes_on
        """Told what is about to begin, and what has just ended; whether it crashes."""
        self._world: Final = world
        self._mean_us = write_us
        self._here: Final = here
        self._cut_off: Callable[[], object] | None = None
        """What the loop was at when it was struck."""
        self._stalled_until_us = 0
        self._under_way: Final[list[tuple[SimLoop, asyncio.Future[None]]]] = []

    def stall(self, until_us: int) -> None:
        """Let nothing that begins before an instant end before it."""
        self._stalled_until_us = until_us

    def calm(self) -> None:
        """Work well from here on; what is under way ends soon."""
        self._mean_us = _CALM_US
        self._stalled_until_us = 0
        self.is_bad = False
        for loop, future in self._under_way:
            loop.finish_soon(_CALM_US, "stored", future)

    def crash(self) -> None:
        """Forget what is under way: the disk keeps what it keeps."""
        self._stalled_until_us = 0
        self.is_bad = False
        self._under_way.clear()
        if self._cut_off is not None:
            self.disk.under_way.append(self._cut_off)
            self._cut_off = None
        self.disk.crash(self.rng)

    async def carry_out(
        self, loop: SimLoop, name: str, size_bytes: int, store: Callable[[], object]
    ) -> None:
        """Carry out one transaction.

        Raises:
            DiskFull: Nothing has happened.
            DiskFailed: It may have.
        """
        if loop.is_dead:
            raise asyncio.CancelledError
        self._cut_off = None
        self.on_point(f"{name} begins")
        disk = self.disk
        disk.under_way.append(store)
        delay_us = int(self.rng.expovariate(1 / self._mean_us))
        delay_us += max(0, self._stalled_until_us - self._world.now_us)
        future = loop.after(delay_us, "stored")
        pair = (loop, future)
        self._under_way.append(pair)
        await future
        self._under_way.remove(pair)
        disk.under_way.remove(store)
        if self.is_bad:
            self.is_bad = False
            if self.rng.random() < 0.5:
                store()
            raise DiskFailed("Cannot sync: the disk is bad.")
        if not disk.take_room(size_bytes):
            raise DiskFull("Cannot write: no space is left on the disk.")
        store()
        self.on_point(f"{name} ends")

    def carry_out_here(
        self, loop: SimLoop, name: str, size_bytes: int, store: Callable[[], object]
    ) -> bool:
        """Carry out one transaction while the loop waits, if it may; now and then.

        Returns:
            Whether it was carried out; else nothing has happened.

        Raises:
            DiskFailed: It may have.
        """
        rng = self.rng
        left_us = self._stalled_until_us - self._world.now_us
        if loop.is_dead or not self._here:
            return False
        if rng.random() >= (self._here if left_us <= 0 else _HERE_STALLED):
            return False
        if self.on_point(f"{name} begins"):
            self._cut_off = store
            loop.hold(0)
            return False
        if self.is_bad:
            self.is_bad = False
            if rng.random() < 0.5:
                store()
            raise DiskFailed("Cannot sync: the disk is bad.")
        if not self.disk.take_room(size_bytes):
            return False
        store()
        loop.hold(max(0, left_us) + rng.randrange(_HERE_US_MAX))
        self.on_point(f"{name} ends")
        return True


def _goes_on(_: str) -> bool:
    return False
