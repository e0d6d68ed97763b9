"""What peers have in common: servers that are loaded by a program of their own.

Rules: whatever goes wrong while a peer starts, nothing of it is left running. Servers
take ports that were free a moment ago; if one was taken since, all start anew.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Final

from tests.bench.peers.base import HOLD_S, PeerFailed, Run
from tests.bench.peers.program import Order, Program
from tests.bench.peers.servers import Servers

__all__ = ["Driven", "Roles"]

_TRIES: Final = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Roles:
    """Servers that serve.

    Attributes:
        leader: Its number from 0.
        pids: All of them, by what they do: "leader", "follower 1", ... or "server".
        endpoints: Those with which the load program is fastest.
    """

    leader: int
    pids: dict[str, int]
    endpoints: tuple[str, ...]


class Driven(ABC):
    """A peer as ``base.Peer`` wants it, but for its servers and its load program."""

    name: str = ""
    measures: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.version = ""
        self._servers: Servers | None = None
        self._program: Program | None = None
        self._runs = 0

    @abstractmethod
    async def find(self) -> list[str]:
        """Find what is installed, set ``version``, build the load program.

        Returns:
            The command that starts the load program.

        Raises:
            PeerMissing: Something is not there.
        """

    @abstractmethod
    async def launch(self, servers: Servers, folder: Path) -> None:
        """Choose ports and start the servers, with their data in a fresh folder."""

    @abstractmethod
    async def roles(self) -> Roles:
        """Wait until the servers serve; returns who does what."""

    async def heat(self) -> None:  # noqa: B027  # most need none
        """Load the servers until they are as fast as they get."""

    @property
    def is_started(self) -> bool:
        """Whether its servers were started and not stopped since."""
        return self._servers is not None and bool(self._servers.names)

    @property
    def servers(self) -> Servers:
        """Once they were started."""
        assert self._servers is not None, "start comes first"
        return self._servers

    @property
    def program(self) -> Program:
        """Once it was started."""
        assert self._program is not None, "start comes first"
        return self._program

    async def start(self, folder: Path) -> None:
        """See ``base.Peer``."""
        command = await self.find()
        try:
            await self._bring_up(folder)
            self._program = Program(command, folder / "load.log")
            await self._program.start()
            await self.heat()
        except BaseException:
            await self.stop()
            raise

    async def _bring_up(self, folder: Path) -> None:
        for number in range(1, _TRIES + 1):
            fresh = folder / str(number)
            self._servers = Servers(fresh)
            try:
                await self.launch(self._servers, fresh)
                await self.roles()
            except PeerFailed as failed:
                self._servers.stop()
                if number == _TRIES or "in use" not in str(failed):
                    raise
            else:
                return

    async def run(
        self, measure: str, tasks: int, *, warm_up_s: float, measured_s: float
    ) -> Run:
        """See ``base.Peer``."""
        assert measure in self.measures, f"{self.name} cannot run {measure}"
        self.servers.wake()
        roles = await self.roles()
        order = Order(
            measure=measure,
            endpoints=roles.endpoints,
            prefix=self.new_prefix(measure),
            tasks=tasks,
            warm_up_s=warm_up_s,
            measured_s=measured_s,
            hold_s=HOLD_S,
        )
        return await self.program.run(order, roles.pids)

    def new_prefix(self, measure: str) -> str:
        """Name a run as no other."""
        self._runs += 1
        return f"{measure}-{self._runs}"

    def rest(self) -> None:
        """See ``base.Peer``."""
        self.servers.rest()

    async def stop(self) -> None:
        """See ``base.Peer``."""
        if self._program is not None:
            await self._program.stop()
        if self._servers is not None:
            self._servers.stop()
