"""A simulated node: the production driver and all that hangs on it, life by life.

Rules: everything is production code but the disk, the links and the clocks, wired as
``raftd.server.app`` wires it. What is under way when a node crashes is forgotten but
for its disk. A paused node loses nothing: all that came meanwhile is there at once when
it goes on. A node whose disk fails ends; one that was removed ends for good.

Source: DESIGN.md section 3; ``raftd.server.app``, whose place this takes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from raftd.consensus.messages import Message
from raftd.consensus.types import NodeId, Role
from raftd.node.driver import Driver
from raftd.node.errors import NodeFailed
from raftd.node.member_words import MemberChange
from raftd.node.peer_calls import (
    FinishSnapshot,
    OfferSnapshot,
    SendChunks,
    decode_call,
    encode,
)
from raftd.node.read_queue import Query
from raftd.node.replica import Replica
from raftd.node.roster import Roster
from raftd.node.service import AnswerSink
from raftd.storage.errors import DiskFailed, StorageError
from tests.sim.clock import NodeClock
from tests.sim.disk import Disk
from tests.sim.invariants import Invariants
from tests.sim.loop import SimLoop
from tests.sim.network import Network
from tests.sim.options import Options
from tests.sim.parts import Farewell, Parts
from tests.sim.ports import (
    DiskPort,
    Files,
    PeerPort,
    SimClock,
)
from tests.sim.real_files import RealDisk
from tests.sim.watcher import Watcher
from tests.sim.world import SimFailure, World

__all__ = ["SimNode"]

_REMOVED: Final = "removed"
_WISH_S: Final = 5.0


class SimNode:
    """One node through all its lives."""

    def __init__(
        self,
        world: World,
        node_id: int,
        options: Options,
        network: Network,
        invariants: Invariants,
        roster: Roster,
        disks: dict[int, Disk],
    ) -> None:
        """Make a node with a blank disk that knows a first roster."""
        self.node_id: Final = node_id
        self._world: Final = world
        self._options: Final = options
        self._network: Final = network
        self._invariants: Final = invariants
        self._rng: Final = world.rng(f"node/{node_id}")
        self.clock: Final = NodeClock(world.rng(f"clock/{node_id}"), options.drift_ppm)
        self.disk: Final = (
            RealDisk(node_id, roster, world.rng(f"real/{node_id}"))
            if options.files == "real"
            else Disk(roster)
        )
        # Of all nodes, to be looked at only.
        self._disks: Final = disks
        disks[node_id] = self.disk
        self.files: Final = Files(
            world,
            self.disk,
            world.rng(f"disk/{node_id}"),
            options.write_us,
            options.here,
        )
        self.on_roster: Callable[[Roster], None] = _ignore
        self.on_farewell: Callable[[Sequence[int]], None] = _ignore
        self.is_out = False
        """Removed, or its disk is damaged: it never comes back."""
        self._is_calm = False
        self._wishes: list[asyncio.Task[None]] = []
        self._parts: Parts | None = None
        self._loop: SimLoop | None = None

    # --- life -------------------------------------------------------------------

    def start(self) -> None:
        """Start, or start again, from what is on disk."""
        assert self._parts is None, "it runs"
        if self.is_out:
            return
        disk = self.disk
        try:
            disk.look()
            disk.recover()
        except StorageError:
            self.is_out = True
            self._world.note(f"n{self.node_id} is damaged")
            return
        self._world.note(f"n{self.node_id} starts")
        self._network.running[self.node_id] = None
        self._loop = loop = SimLoop(
            self._world,
            f"n{self.node_id}",
            self.clock,
            self._rng,
            0 if self._is_calm else self._options.turn_lag_us,
        )
        loop.enter(self._build)

    def _build(self) -> None:
        """Make the parts and set them going; on the loop."""
        loop, options, disk = self._loop, self._options, self.disk
        assert loop is not None, "start makes one"
        watcher = Watcher(self._invariants, self.node_id, self._disks, options)
        peers = PeerPort(self.node_id, self._network, loop, watcher.on_send)
        self._farewell = Farewell(self.on_farewell)
        clock = SimClock(self._world, self.clock)
        self._parts = parts = Parts(
            options, watcher, self.files, peers, clock, loop, self._farewell, self._rng
        )
        parts.on_roster = self.on_roster
        parts.driver.failed.add_done_callback(self._on_failed)
        begins_full = disk.is_full
        if begins_full:
            DiskPort(disk).release_ballast()
        parts.start(begins_full=begins_full)

    def crash(self) -> None:
        """Lose all but the disk, and of what was being written some."""
        assert self._loop is not None, "it runs"
        self.files.crash()
        self._loop.kill()
        self._parts = self._loop = None
        self._network.running.pop(self.node_id, None)
        self.clock.restart()

    def pause(self) -> None:
        """Stand still; nothing is lost."""
        if self._loop is not None:
            self._loop.is_paused = True

    def resume(self) -> None:
        """Go on, with everything that came meanwhile."""
        if self._loop is not None and self._loop.is_paused:
            self._loop.resume()

    def stall(self, until_us: int) -> None:
        """Let the disk finish nothing that it begins before an instant."""
        self.files.stall(until_us)

    def calm(self) -> None:
        """Have it work well from here on."""
        self._is_calm = True
        self.disk.clean()
        self.files.calm()
        self.clock.calm()
        if self._loop is not None:
            self._loop.lag_us = 0
        # A change that somebody forced might find that who is left does not suffice.
        for wish in self._wishes:
            wish.cancel()

    def ban(self) -> None:
        """Hear from a peer that this node was removed."""
        parts, loop = self._parts, self._loop
        if parts is not None and loop is not None:
            loop.call_soon(parts.driver.fail, f"this member was {_REMOVED}", None)
            loop.poke()

    @property
    def replica(self) -> Replica | None:
        """The replica of this life, None if it is down."""
        return self._parts.driver.replica if self._parts is not None else None

    @property
    def is_up(self) -> bool:
        """Whether it runs and is not paused."""
        return self._loop is not None and not self._loop.is_paused

    @property
    def is_leader(self) -> bool:
        """Whether it believes to lead."""
        return self.replica is not None and self.replica.core.role is Role.LEADER

    def _on_failed(self, failed: asyncio.Future[NodeFailed]) -> None:
        error = failed.result()
        cause = error.__cause__
        if isinstance(cause, DiskFailed):
            self._world.note(f"n{self.node_id} ends: {error}")
        elif cause is None and _REMOVED in str(error):
            self._world.note(f"n{self.node_id} was removed")
            self.is_out = True
        else:
            failure = SimFailure(f"n{self.node_id} ends: {error}")
            failure.__cause__ = cause
            self._world.fail(cause if isinstance(cause, SimFailure) else failure)
            return
        self._world.after(0, f"n{self.node_id} ends", self._end, self._loop)

    def _end(self, loop: SimLoop) -> None:
        if loop is self._loop:
            self.crash()
            if self._is_calm:
                self.start()

    # --- inputs -----------------------------------------------------------------

    def do(self, action: Callable[[Replica], object]) -> None:
        """Do something with the replica and have a turn; later if it is paused."""
        parts, loop = self._parts, self._loop
        if parts is not None and loop is not None:
            loop.call_soon(_act, parts.driver, action)
            loop.poke()

    def wish(self, wish: MemberChange) -> None:
        """Ask the manager for a member change."""
        loop = self._loop
        if loop is not None:
            loop.call_soon(self._wish, loop, wish)
            loop.poke()

    def _wish(self, loop: SimLoop, wish: MemberChange) -> None:
        if self._is_calm:
            return  # asked during a pause; see calm
        parts = self._parts
        members = parts.members if parts is not None else None
        assert members is not None, "the run is managed"

        async def run() -> None:
            told = await members.change(wish, _WISH_S)
            self._world.note(f"n{self.node_id} is asked {wish}: {told}")

        self._wishes = [each for each in self._wishes if not each.done()]
        self._wishes.append(loop.create_task(run()))

    def knock(self, src: int) -> bool:
        """Somebody who was removed came; tell whether he is told so."""
        if src in self._farewell.told:
            return True
        self._farewell.has_knocked = True
        return False

    def receive(self, message: Message) -> None:
        """Take in a peer's message."""
        parts, loop = self._parts, self._loop
        if parts is not None and loop is not None:
            loop.call_soon(parts.driver.receive, (message,))
            loop.poke()

    def serve(self, peer: int, request: bytes, answer: Callable[[bytes], None]) -> None:
        """Take in a peer's call."""
        parts, loop = self._parts, self._loop
        if parts is not None and loop is not None:
            loop.call_soon(_serve, loop, parts, NodeId(peer), request, answer)
            loop.poke()

    def submit(self, request: msgspec.Raw, sink: AnswerSink, tag: int) -> None:
        """Take in a client's write."""
        self.do(lambda replica: replica.submit(request, sink, tag))

    def read(self, query: Query, sink: AnswerSink, tag: int) -> None:
        """Take in a client's linearizable read."""
        self.do(lambda replica: replica.reads.add(query, sink, tag))

    def renew(self, session: int, done: Callable[[Sequence[int] | None], None]) -> None:
        """Take in a client's renewal."""
        self.do(lambda replica: replica.renew((session,), done))

    def link_down(self, peer: int, *, is_gone: bool) -> None:
        """A link broke; ``is_gone``: by the other process's end."""
        parts, loop = self._parts, self._loop
        if parts is not None and loop is not None:
            loop.call_soon(parts.driver.link_down, NodeId(peer), is_gone)
            loop.poke()

    def transfer(self, peer: int) -> None:
        """Hand leadership over, if it leads."""
        self.do(lambda replica: replica.core.transfer(NodeId(peer)))


def _serve(
    loop: SimLoop,
    parts: Parts,
    peer: NodeId,
    request: bytes,
    answer: Callable[[bytes], None],
) -> None:
    async def run() -> None:
        call = decode_call(request)
        assert isinstance(call, OfferSnapshot | SendChunks | FinishSnapshot)
        with contextlib.suppress(StorageError):  # the node is ending
            told = await parts.snapshots_in.answer(peer, call)
            answer(encode(told))

    loop.create_task(run())


def _ignore(_: object) -> None:
    return


def _act(driver: Driver, action: Callable[[Replica], object]) -> None:
    action(driver.replica)
    driver.wake()
