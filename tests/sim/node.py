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

from raftd.consensus.core import Core
from raftd.consensus.messages import Message
from raftd.consensus.ready import Ready
from raftd.consensus.types import NodeId, Role
from raftd.node.checkpoints import Checkpoints
from raftd.node.driver import Driver
from raftd.node.errors import NodeFailed
from raftd.node.member_sight import CHANGES_LEVEL
from raftd.node.member_words import MemberChange
from raftd.node.members import Members
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
from raftd.node.snapshots_in import SnapshotsIn
from raftd.node.snapshots_out import SnapshotsOut
from raftd.statemachine.answers import AppliedEntry
from raftd.statemachine.limits import DEFAULT_LIMITS
from raftd.storage.errors import DamagedFiles, DiskFailed, StorageError
from tests.sim.clock import NodeClock
from tests.sim.configs import is_quorum
from tests.sim.disk import Disk
from tests.sim.invariants import Invariants, Life
from tests.sim.loop import SimLoop
from tests.sim.network import Network
from tests.sim.options import Options
from tests.sim.ports import (
    DiskPort,
    Files,
    LogPort,
    PeerPort,
    SimClock,
    StatePort,
    shown_by,
)
from tests.sim.world import SimFailure, World

__all__ = ["SimNode"]

_REMOVED: Final = "removed"
_WISH_S: Final = 5.0


class _WatchedCore(Core):
    """The production core, watched at its only door out."""

    __slots__ = ("on_tick", "watch")

    watch: Callable[[Core, Ready], None]
    on_tick: Callable[[], None]

    def tick(self) -> None:
        """Let one tick pass, and look at what the last one did."""
        self.on_tick()
        super().tick()

    def ready(self) -> Ready:
        """Take all that became due, and show it."""
        ready = super().ready()
        self.watch(self, ready)
        return ready


class _Farewell:
    """Keeps who is to be told of its removal; see ``raftd.transport.greeting``."""

    def __init__(self, on_tell: Callable[[Sequence[int]], None]) -> None:
        self.has_knocked = False
        self.told: tuple[int, ...] = ()
        self._on_tell: Final = on_tell

    def tell(self, removed: Sequence[int]) -> None:
        """Tell these from now on."""
        self.told = tuple(removed)
        self.has_knocked = False
        self._on_tell(removed)


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
        self.disk: Final = Disk(roster)
        # Of all nodes, to be looked at only.
        self._disks: Final = disks
        disks[node_id] = self.disk
        self.files: Final = Files(
            world, self.disk, world.rng(f"disk/{node_id}"), options.write_us
        )
        self.life = Life(node_id)
        self.on_roster: Callable[[Roster], None] = _ignore
        self.on_farewell: Callable[[Sequence[int]], None] = _ignore
        self.is_out = False
        """Removed, or its disk is damaged: it never comes back."""
        self._is_calm = False
        self._driver: Driver | None = None
        self._loop: SimLoop | None = None

    # --- life -------------------------------------------------------------------

    def start(self) -> None:
        """Start, or start again, from what is on disk."""
        assert self._driver is None, "it runs"
        if self.is_out:
            return
        disk = self.disk
        try:
            if disk.is_damaged:
                raise DamagedFiles("log.db is damaged.")
            disk.recover()
        except StorageError:
            self.is_out = True
            self._world.note(f"n{self.node_id} is damaged")
            return
        self._world.note(f"n{self.node_id} starts")
        self._network.running[self.node_id] = None
        self.life = Life(self.node_id)
        self._loop = loop = SimLoop(
            self._world,
            f"n{self.node_id}",
            self.clock,
            self._rng,
            0 if self._is_calm else self._options.turn_lag_us,
        )
        loop.enter(self._build)

    def _build(self) -> None:
        """Wire the parts, as the composition root does; on the loop."""
        disk, options, loop = self.disk, self._options, self._loop
        assert loop is not None, "start makes one"
        machine, roster = disk.load_machine(), disk.roster
        self._invariants.on_loaded(self.life, machine.applied_index, roster)
        if disk.state_index:
            self._on_digest(disk.state_index, disk.meta.digest)
        persisted = disk.persisted(self._rng)
        core = _WatchedCore(options.config(self.node_id), persisted, self._rng)
        core.watch = self._on_ready
        core.on_tick = self._on_tick
        log, state = LogPort(self.files, loop), StatePort(self.files, loop)
        peers = PeerPort(self.node_id, self._network, loop, self._on_send)
        driver = self._driver = Driver(
            core,
            machine,
            log=log,
            disk=DiskPort(disk),
            peers=peers,
            clock=SimClock(self._world, self.clock),
            settings=options.settings(),
        )
        driver.failed.add_done_callback(self._on_failed)
        replica = driver.replica
        self._checkpoints = checkpoints = Checkpoints(
            replica, log, state, self._on_checkpoint, driver.fail
        )
        checkpoints.checkpoint_index = disk.state_index
        if disk.state_index:
            replica.marks.note_stored(disk.state_index, disk.meta.digest)
        self._snapshots_in = SnapshotsIn(
            driver, log, state, DEFAULT_LIMITS, checkpoints.note_installed
        )
        SnapshotsOut(driver, peers, state)
        checkpoints.wait_room = driver.guard.wait_room
        driver.on_mark = checkpoints.take
        driver.on_durable = checkpoints.note_durable
        driver.on_installed = self._on_installed
        driver.on_applied = self._on_applied
        marks = replica.marks
        marks.may_mark = lambda: checkpoints.is_idle
        marks.may_send_snapshots = lambda: replica.roster.level >= CHANGES_LEVEL
        replica.roster = roster
        driver.on_roster = self._on_roster
        if disk.is_full:
            DiskPort(disk).release_ballast()
            driver.guard.begin_full()
        driver.start()
        self._manage(driver, peers)

    def _manage(self, driver: Driver, peers: PeerPort) -> None:
        self._farewell = _Farewell(self.on_farewell)
        self._news = asyncio.Event()
        self._members: Members | None = None
        if not self._options.is_managed:
            return
        self._members = Members(
            driver.replica,
            peers,
            shown_by(self.node_id),
            self._options.settings(),
            farewell=self._farewell,
            wake=driver.wake,
            changed=self._wait_news,
            fail=driver.fail,
        )
        driver.on_soft = lambda _: self._tell_news()
        self._members.start()

    async def _wait_news(self) -> None:
        await self._news.wait()

    def _tell_news(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def crash(self) -> None:
        """Lose all but the disk, and of what was being written some."""
        assert self._loop is not None, "it runs"
        self.files.crash()
        self._loop.kill()
        self._driver = self._loop = None
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

    def ban(self) -> None:
        """Hear from a peer that this node was removed."""
        driver, loop = self._driver, self._loop
        if driver is not None and loop is not None:
            loop.call_soon(driver.fail, f"this member was {_REMOVED}", None)
            loop.poke()

    @property
    def replica(self) -> Replica | None:
        """The replica of this life, None if it is down."""
        return self._driver.replica if self._driver is not None else None

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
        driver, loop = self._driver, self._loop
        if driver is not None and loop is not None:
            loop.call_soon(_act, driver, action)
            loop.poke()

    def wish(self, wish: MemberChange) -> None:
        """Ask the manager for a member change."""
        loop = self._loop
        if loop is not None:
            loop.call_soon(self._wish, loop, wish)
            loop.poke()

    def _wish(self, loop: SimLoop, wish: MemberChange) -> None:
        members = self._members
        assert members is not None, "the run is managed"

        async def run() -> None:
            told = await members.change(wish, _WISH_S)
            self._world.note(f"n{self.node_id} is asked {wish}: {told}")

        loop.create_task(run())

    def knock(self, src: int) -> bool:
        """Somebody who was removed came; tell whether he is told so."""
        if src in self._farewell.told:
            return True
        self._farewell.has_knocked = True
        return False

    def receive(self, message: Message) -> None:
        """Take in a peer's message."""
        driver, loop = self._driver, self._loop
        if driver is not None and loop is not None:
            loop.call_soon(driver.receive, (message,))
            loop.poke()

    def serve(self, peer: int, request: bytes, answer: Callable[[bytes], None]) -> None:
        """Take in a peer's call."""
        loop = self._loop
        if loop is not None:
            loop.call_soon(self._serve, loop, peer, request, answer)
            loop.poke()

    def _serve(
        self, loop: SimLoop, peer: int, request: bytes, answer: Callable[[bytes], None]
    ) -> None:
        async def run() -> None:
            call = decode_call(request)
            assert isinstance(call, OfferSnapshot | SendChunks | FinishSnapshot)
            with contextlib.suppress(StorageError):  # the node is ending
                told = await self._snapshots_in.answer(NodeId(peer), call)
                answer(encode(told))

        loop.create_task(run())

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
        driver, loop = self._driver, self._loop
        if driver is not None and loop is not None:
            loop.call_soon(driver.link_down, NodeId(peer), is_gone)
            loop.poke()

    def transfer(self, peer: int) -> None:
        """Hand leadership over, if it leads."""
        self.do(lambda replica: replica.core.transfer(NodeId(peer)))

    # --- what is seen -------------------------------------------------------------

    def _on_ready(self, core: Core, ready: Ready) -> None:
        self._invariants.on_ready(self.life, core, ready)
        if core.role is Role.LEADER:
            self._check_leader(core, ready)

    def _check_leader(self, core: Core, ready: Ready) -> None:
        """Check that disks have what this leader was elected by, and commits."""
        life, members = self.life, core.membership
        if ready.soft is not None and ready.soft.role is Role.LEADER:
            votes = [
                n
                for n, disk in self._disks.items()
                if disk.voted(core.term, core.node_id)
            ]
            if not is_quorum(members, votes):
                raise SimFailure(f"n{self.node_id} is elected by {votes} of {members}")
            life.led_commit = core.commit_index
        if core.commit_index > life.led_commit:
            life.led_commit = index = core.commit_index
            term = core.term_at(index)
            having = [n for n, disk in self._disks.items() if disk.has(index, term)]
            if not is_quorum(members, having):
                raise SimFailure(f"{index} is committed by {having} of {members}")

    def _on_send(self, message: Message) -> None:
        self._invariants.on_sent(self.disk, message)

    def _on_tick(self) -> None:
        replica = self.replica
        assert replica is not None, "it ticks"
        cap_ms = 2 * self._options.heartbeat_ms
        if replica.core.membership != replica.roster.membership:
            raise SimFailure(f"n{self.node_id}: core and roster have other members")
        term = replica.core.term if replica.may_propose else 0
        self._invariants.on_tick(self.life, term, replica.clock.now_ms, cap_ms)

    def _on_applied(self, entry: AppliedEntry) -> None:
        replica = self.replica
        assert replica is not None, "it applies"
        self._invariants.on_applied(self.life, replica.machine, entry)

    def _on_checkpoint(self, index: int, digest: bytes) -> None:
        replica = self.replica
        assert replica is not None, "it took it"
        replica.marks.note_stored(index, digest)
        self._on_digest(index, digest)

    def _on_digest(self, index: int, digest: bytes) -> None:
        self._invariants.on_digest(self.node_id, index, digest)

    def _on_roster(self, roster: Roster) -> None:
        replica = self.replica
        assert replica is not None, "it applies"
        self._invariants.on_roster(self.life, replica.machine.applied_index, roster)
        self.on_roster(roster)
        self._tell_news()

    def _on_installed(self, index: int) -> None:
        self._checkpoints.replace()
        replica = self.replica
        assert replica is not None, "it installs"
        self._invariants.on_installed(self.life, index, replica.marks.digest)


def _ignore(_: object) -> None:
    return


def _act(driver: Driver, action: Callable[[Replica], object]) -> None:
    action(driver.replica)
    driver.wake()
