"""The production parts of one life of a node, wired as ``raftd.server.app`` does it.

Rules: only disk, links and clocks are not production code. What happens on the parts'
way is shown to the watcher.

Source: DESIGN.md section 3; ``raftd.server.app``, whose place this takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from raftd.node.checkpoints import Checkpoints
from raftd.node.driver import Driver
from raftd.node.member_sight import CHANGES_LEVEL
from raftd.node.members import Members
from raftd.node.roster import Roster
from raftd.node.snapshots_in import SnapshotsIn
from raftd.node.snapshots_out import SnapshotsOut
from raftd.statemachine.limits import DEFAULT_LIMITS
from tests.sim.loop import SimLoop
from tests.sim.options import Options
from tests.sim.ports import (
    DiskPort,
    Files,
    LogPort,
    PeerPort,
    SimClock,
    StatePort,
)
from tests.sim.watcher import WatchedCore, Watcher

__all__ = ["Farewell", "Parts"]


class Farewell:
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


class Parts:
    """See the module's rules; made on the loop of the life."""

    def __init__(
        self,
        options: Options,
        watcher: Watcher,
        files: Files,
        peers: PeerPort,
        clock: SimClock,
        loop: SimLoop,
        farewell: Farewell,
        rng: Random,
    ) -> None:
        """Wire them, from what is on disk."""
        self._watcher: Final = watcher
        self._peers: Final = peers
        disk = files.disk
        machine = disk.load_machine()
        self.on_roster: Callable[[Roster], None] = lambda _: None
        self._news = asyncio.Event()
        core = WatchedCore(options.config(peers.node_id), disk.persisted(rng), rng)
        core.watch = watcher.on_ready
        core.on_tick = lambda: watcher.on_tick(self.driver.replica)
        log, state = LogPort(files, loop), StatePort(files, loop)
        self.driver: Final = Driver(
            core,
            machine,
            log=log,
            disk=DiskPort(disk),
            peers=peers,
            clock=clock,
            settings=options.settings(),
        )
        self.driver.write_here = log.write_here
        watcher.on_loaded(machine.applied_index, disk.roster)
        self._keep_state(files, log, state)
        SnapshotsOut(self.driver, peers, state)
        self.driver.replica.roster = disk.roster
        self.driver.on_applied = lambda entry: watcher.on_applied(
            self.driver.replica, entry
        )
        self.driver.on_roster = self._on_roster
        self.members = self._care(options, farewell) if options.is_managed else None

    def _keep_state(self, files: Files, log: LogPort, state: StatePort) -> None:
        driver, disk = self.driver, files.disk
        replica, marks = driver.replica, driver.replica.marks
        self._checkpoints = checkpoints = Checkpoints(
            replica, log, state, self._on_checkpoint, driver.fail
        )
        checkpoints.checkpoint_index = disk.state_index
        if disk.state_index:
            marks.note_stored(disk.state_index, disk.meta.digest)
        self.snapshots_in = SnapshotsIn(
            driver, log, state, DEFAULT_LIMITS, checkpoints.note_installed
        )
        checkpoints.wait_room = driver.guard.wait_room
        driver.on_mark = checkpoints.take
        driver.on_durable = checkpoints.note_durable
        driver.on_installed = self._on_installed
        marks.may_mark = lambda: checkpoints.is_idle
        marks.may_send_snapshots = lambda: replica.roster.level >= CHANGES_LEVEL

    def _care(self, options: Options, farewell: Farewell) -> Members:
        self.driver.on_soft = lambda _: self._tell_news()
        return Members(
            self.driver.replica,
            self._peers,
            self._peers.shown_by_itself(),
            options.settings(),
            farewell=farewell,
            wake=self.driver.wake,
            changed=self._wait_news,
            fail=self.driver.fail,
        )

    def start(self, *, begins_full: bool) -> None:
        """Set them going."""
        if begins_full:
            self.driver.guard.begin_full()
        self.driver.start()
        if self.members is not None:
            self.members.start()

    # --- what they tell each other ----------------------------------------------

    async def _wait_news(self) -> None:
        await self._news.wait()

    def _tell_news(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _on_checkpoint(self, index: int, digest: bytes) -> None:
        self.driver.replica.marks.note_stored(index, digest)
        self.snapshots_in.note_checkpoint()
        self._watcher.on_digest(index, digest)

    def _on_roster(self, roster: Roster) -> None:
        self._watcher.on_roster(self.driver.replica, roster)
        self.on_roster(roster)
        self._tell_news()

    def _on_installed(self, index: int) -> None:
        self._checkpoints.replace()
        self._watcher.on_installed(self.driver.replica, index)
