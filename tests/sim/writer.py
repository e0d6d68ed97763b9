"""The writer of a simulated node: one write at a time, late, stalled or quick.

Rules: writes end in order; those that queue up behind one under way are merged as
``raftd.node.driver`` merges them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Final

from raftd.consensus.messages import Message
from raftd.consensus.ready import Write
from tests.sim.disk import Disk
from tests.sim.world import World

__all__ = ["After", "Writer"]

After = Callable[[int, str, Callable[[], None]], None]
"""Has something happen later, unless the node has crashed by then."""

_CALM_US: Final = 500


class Writer:
    """Brings a node's writes to its disk."""

    def __init__(
        self,
        world: World,
        disk: Disk,
        rng: Random,
        write_us: int,
        after: After,
        on_stored: Callable[[Write, Sequence[Message]], None],
    ) -> None:
        self._world: Final = world
        self._disk: Final = disk
        self._rng: Final = rng
        self._mean_us = write_us
        self._after: Final = after
        self._on_stored: Final = on_stored
        self._stalled_until_us = 0
        self._number = 0

    def put(self, write: Write, send_after: Sequence[Message]) -> None:
        """Begin a write behind those under way."""
        self._disk.pending.append((write, send_after))
        self._work()

    def stall(self, until_us: int) -> None:
        """Let nothing that begins before an instant end before it."""
        self._stalled_until_us = until_us

    def calm(self) -> None:
        """Work well from here on; what is under way ends soon."""
        self._mean_us = _CALM_US
        self._stalled_until_us = 0
        if self._disk.is_working:
            self._finish_after(_CALM_US)

    def crash(self) -> None:
        """Forget what is under way: the disk keeps what it keeps."""
        self._stalled_until_us = 0
        self._disk.crash(self._rng)

    def _work(self) -> None:
        if not self._disk.begin():
            return
        delay_us = int(self._rng.expovariate(1 / self._mean_us))
        delay_us += max(0, self._stalled_until_us - self._world.now_us)
        self._finish_after(delay_us)

    def _finish_after(self, delay_us: int) -> None:
        self._number += 1
        self._after(delay_us, "stored", partial(self._finish, self._number))

    def _finish(self, number: int) -> None:
        if number != self._number:
            return  # it was told to end earlier
        write, send_after = self._disk.finish()
        self._on_stored(write, send_after)
        self._work()
