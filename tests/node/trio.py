"""Three real drivers in one process, on disks that do what a test tells them.

Links hand messages over in order, a moment later. A disk may hang, be slow, fail its
sync, or run out of room; what it holds is counted in bytes, the ballast with it.
Time is that of a ``VirtualLoop``: no machine is so slow that somebody looks unfit.

Source: RELIABILITY.md section 5 (slow, hung and full disk, fsync EIO).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Final, Self

from raftd.consensus.config import Config
from raftd.consensus.core import Core
from raftd.consensus.messages import Message
from raftd.consensus.ready import Write
from raftd.consensus.state import Persisted
from raftd.consensus.types import Index, Membership, NodeId, Role, Term
from raftd.node.driver import Driver
from raftd.node.future_sink import FutureSink
from raftd.node.ports import DiskLook
from raftd.node.roster import LEVEL
from raftd.node.settings import ReplicaSettings
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.entry import AnyCommand, seal
from raftd.statemachine.schema.kv import PutKey
from raftd.storage.errors import DiskFailed, DiskFull
from raftd.storage.types import InstallMark

__all__ = [
    "BALLAST",
    "ELECTION_MS",
    "MARGIN",
    "Clock",
    "FaultyDisk",
    "Member",
    "Trio",
    "sync_failed",
]

TICK_MS: Final = 20
ELECTION_MS: Final = 400
BALLAST: Final = 8 << 20
MARGIN: Final = 2 << 20
_HEAD_BYTES: Final = 64
_LINK_S: Final = 0.001
_APART_S: Final = 1e-7


class FaultyDisk:
    """A log and the disk under it: ``LogPort`` and ``DiskPort``."""

    def __init__(self) -> None:
        self.ballast_bytes = BALLAST
        self.has_ballast = False
        self.free_bytes = 1 << 40
        self.delay_s = 0.0
        self.error: Exception | None = None
        self.writes: list[Write] = []
        self.refused = 0
        self._may_go_on = asyncio.Event()
        self._may_go_on.set()

    def hang(self) -> None:
        """Finish nothing from now on."""
        self._may_go_on.clear()

    def go_on(self) -> None:
        """Finish what waits, too."""
        self._may_go_on.set()

    def fill_up(self) -> None:
        """Have somebody else take all that is free."""
        self.free_bytes = 0

    # --- LogPort ----------------------------------------------------------------

    async def write(self, write: Write) -> None:
        if self.delay_s:
            await self._work()
        await self._may_go_on.wait()
        if self.error is not None:
            raise self.error
        size = _HEAD_BYTES + sum(len(entry.payload) for entry in write.entries)
        if size > self.free_bytes:
            self.refused += 1
            raise DiskFull("Cannot write log.db: no space is left on the disk.")
        self.free_bytes -= size
        self.writes.append(write)

    async def _work(self) -> None:
        """Be as slow as this disk is."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        timer = loop.call_later(self.delay_s, done.set_result, None)
        try:
            await done
        finally:
            timer.cancel()

    async def cut_prefix(self, upto: Index) -> None:
        raise AssertionError(f"nobody cuts up to {upto}")

    async def reset(self, index: Index, term: Term, mark: InstallMark) -> None:
        raise AssertionError(f"nobody installs {index}, {term}, {mark}")

    # --- DiskPort ---------------------------------------------------------------

    def look(self) -> DiskLook:
        return DiskLook(self.free_bytes, 1 << 41, self.has_ballast, replaced="")

    def fill_ballast(self) -> bool:
        if self.free_bytes < BALLAST:
            return False
        self.free_bytes -= BALLAST
        self.has_ballast = True
        return True

    def release_ballast(self) -> None:
        if self.has_ballast:
            self.has_ballast = False
            self.free_bytes += BALLAST


class Clock:
    """The loop's."""

    def monotonic_ms(self) -> int:
        return int(asyncio.get_running_loop().time() * 1000)

    def wall_ms(self) -> int:
        return self.monotonic_ms()


class Member:
    """One driver, its disk, and its links."""

    def __init__(self, trio: Trio, node_id: int, voters: tuple[NodeId, ...]) -> None:
        self.node_id: Final = NodeId(node_id)
        self.disk: Final = FaultyDisk()
        self.sent = 0
        self.is_cut_off = False
        self.trio: Final = trio
        core = Core(
            Config(
                node_id=self.node_id,
                heartbeat_ticks=2,
                election_ticks=ELECTION_MS // TICK_MS,
            ),
            Persisted(Membership(voters)),
            random.Random(node_id),
        )
        self.driver: Final = Driver(
            core,
            Machine(),
            log=self.disk,
            disk=self.disk,
            peers=self,
            clock=Clock(),
            settings=ReplicaSettings(
                tick_ms=TICK_MS, heartbeat_ms=2 * TICK_MS, election_ms=ELECTION_MS
            ),
        )

    @property
    def core(self) -> Core:
        return self.driver.replica.core

    @property
    def leads(self) -> bool:
        return self.core.role is Role.LEADER and self.driver.replica.may_propose

    def key(self, key: bytes) -> bytes | None:
        found = self.driver.replica.machine.kv.find(key)
        return None if found is None else found.value

    async def do(self, command: AnyCommand) -> object:
        """Carry out a command here; this member must lead, or it is refused."""
        sink = FutureSink()
        self.driver.replica.submit(seal(0, 0, 0, command), sink, 0)
        self.driver.wake()
        return (await sink.future).answer

    async def put(self, key: bytes, value: bytes = b"v") -> object:
        return await self.do(PutKey(key, value))

    async def read(self, key: bytes) -> object:
        """Read one key, linearizable."""
        sink = FutureSink()
        self.driver.replica.reads.add(lambda _: self.key(key), sink, 0)
        self.driver.wake()
        return (await sink.future).answer

    # --- PeerPort ---------------------------------------------------------------

    def send(self, peer: NodeId, messages: Sequence[Message]) -> None:
        self.sent += len(messages)
        self.trio.carry(self, peer, messages)

    def is_up(self, peer: NodeId) -> bool:
        return not self.is_cut_off and not self.trio[peer].is_cut_off

    def level(self, peer: NodeId) -> int:
        return LEVEL

    async def call(self, peer: NodeId, request: bytes, timeout_s: float) -> bytes:
        raise AssertionError("nothing is forwarded here")

    def serve(self, handler: Callable[[NodeId, bytes], Awaitable[bytes]]) -> None:
        raise AssertionError("nothing is forwarded here")


class Trio:
    """The members, by id from 1."""

    def __init__(self, size: int = 3) -> None:
        voters = tuple(NodeId(node_id) for node_id in range(1, size + 1))
        self._members = {voter: Member(self, voter, voters) for voter in voters}
        self._turn = asyncio.Event()
        self._arrival_s = 0.0

    def __getitem__(self, node_id: int) -> Member:
        return self._members[NodeId(node_id)]

    @property
    def members(self) -> list[Member]:
        return list(self._members.values())

    def others(self, member: Member) -> list[Member]:
        return [other for other in self.members if other is not member]

    def carry(self, src: Member, dst: NodeId, messages: Sequence[Message]) -> None:
        target = self._members[dst]
        if not src.is_cut_off and not target.is_cut_off:
            loop = asyncio.get_running_loop()
            # Timers of the same instant come in any order.
            self._arrival_s = max(loop.time() + _LINK_S, self._arrival_s + _APART_S)
            loop.call_at(self._arrival_s, target.driver.receive, tuple(messages))

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds; looked at after every turn of any member."""
        async with asyncio.timeout(30):
            while not holds():
                await self.turn()

    async def turn(self) -> None:
        """Wait until some member has had a turn."""
        self._turn.clear()
        await self._turn.wait()

    async def leader(self, *, but: Member | None = None) -> Member:
        """Wait until one leads (another than ``but``) and may propose."""
        found: list[Member] = []

        def look() -> bool:
            found[:] = [m for m in self.members if m.leads and m is not but]
            return bool(found)

        await self.until(look)
        return found[0]

    async def caught_up(self) -> None:
        """Wait until all have applied and stored what the leader has."""

        def look() -> bool:
            leading = [m.core for m in self.members if m.leads]
            return bool(leading) and all(
                m.core.applied_index == m.core.durable_index == leading[0].last_index
                for m in self.members
            )

        await self.until(look)
        machines = [m.driver.replica.machine for m in self.members]
        assert len({(m.revision, m.kv.count_all) for m in machines}) == 1

    def _on_turn(self, _: int) -> None:
        self._turn.set()

    async def __aenter__(self) -> Self:
        for member in self.members:
            member.driver.on_turn = self._on_turn
            member.driver.start()
            await member.driver.guard.look()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for member in self.members:
            await member.driver.stop()


def sync_failed() -> DiskFailed:
    """Make the error of a sync that failed."""
    return DiskFailed("Cannot write log.db: disk I/O error.")
