"""Processes on hosts: who runs, on which loops, and what it listens with.

Rules: a host has one process at a time. Ending it ends its loops and its connections;
pausing it stops all its threads alike.

Source: RELIABILITY.md section 6.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final

from tests.service.loop import ServiceLoop
from tests.sim.clock import NodeClock
from tests.sim.world import World

if TYPE_CHECKING:
    from tests.service.apps import ServiceApp
    from tests.service.listeners import Listener
    from tests.service.server import MemoryServer
    from tests.service.wires import Wire

__all__ = ["Host"]


class Host:
    """One machine with at most one process that matters."""

    def __init__(
        self, world: World, name: str, drift_ppm: int, *, is_shuffled: bool
    ) -> None:
        self.world: Final = world
        self.name: Final = name
        self.rng: Final[Random] = world.rng(f"host/{name}")
        self.clock: Final = NodeClock(world.rng(f"clock/{name}"), drift_ppm)
        self.loops: Final[list[ServiceLoop]] = []
        self.server: MemoryServer | None = None
        """Listens for gRPC, if anything does."""
        self.listeners: Final[dict[int, Listener]] = {}
        """Listen for plain connections, each at its port."""
        self.wires: Final[dict[Wire, None]] = {}
        """Connections that end with the process."""
        self.app: ServiceApp | None = None
        """The node whose process it is, if it is one."""
        self.life = 0
        self._is_shuffled: Final = is_shuffled

    @property
    def is_up(self) -> bool:
        """Whether a process runs or stands still."""
        return bool(self.loops)

    @property
    def is_paused(self) -> bool:
        """Whether a process stands still."""
        return self.is_up and self.loops[0].is_paused

    def boot(self, lag_us: int, *threads: str) -> list[ServiceLoop]:
        """Begin a process with a loop for each thread."""
        assert not self.loops, "it runs"
        self.life += 1
        for thread in threads:
            self.loops.append(
                ServiceLoop(
                    self.world,
                    f"{self.name}{thread}",
                    self.clock,
                    self.rng,
                    lag_us,
                    self,
                    is_shuffled=self._is_shuffled,
                )
            )
        return self.loops

    def kill(self) -> None:
        """End the process at once."""
        loops = list(self.loops)
        self.loops.clear()
        for loop in loops:
            loop.is_dead = True
        wires = list(self.wires)
        self.wires.clear()
        for wire in wires:
            wire.lose_end(self)
        for loop in loops:
            loop.kill()
        self.server = None  # what was starting may have listened just now
        self.listeners.clear()
        self.clock.restart()

    def pause(self) -> None:
        """Stand still; nothing is lost."""
        for loop in self.loops:
            loop.is_paused = True

    def resume(self) -> None:
        """Go on, with everything that came meanwhile."""
        for loop in list(self.loops):
            if loop.is_paused:
                loop.resume()
