"""Disks that are slow, stand still, fail, or are full.

Source: RELIABILITY.md section 5 (slow, hung, full disk, fsync EIO), rules 14, 49, 51.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, ClassVar, Final

from tests.chaos.fault import Broken, Fault, variant
from tests.chaos.shim import Files

if TYPE_CHECKING:
    import random

    from tests.chaos.world import Who, World

__all__ = ["DISK_FAULTS"]

_LEADS_S: Final = 3.0
"""Three election timeouts: then another than the frozen one leads."""
_ENDS_S: Final = 5.0
_RESUMES_S: Final = 30.0
_ALARM_S: Final = 2.0
_STANDS_STILL_S: Final = 1.0
_SLOWEST_MS: Final = 400


class _OnDisk(Fault):
    """Something about the disk of one node."""

    who: ClassVar[Who] = "any"
    node: int | None = None
    began_s = 0.0

    async def inject(self, world: World, rng: random.Random) -> None:
        self.node = await asyncio.to_thread(world.take, rng, self.who, self.name)
        if self.node is not None:
            self.began_s = time.monotonic()
            await asyncio.to_thread(self.harm, world, self.node, rng)
            self.has_happened = True

    async def heal(self, world: World) -> None:
        node, self.node = self.node, None
        if node is None:
            return
        try:
            await asyncio.to_thread(self.before_mending, world, node)
        finally:
            await asyncio.to_thread(world.resume_disks, node)
        await asyncio.to_thread(self.after_mending, world, node)
        await asyncio.to_thread(world.ensure_running, node)
        world.give_back(node)

    def harm(self, world: World, node: int, rng: random.Random) -> None:
        """Let it happen."""
        raise NotImplementedError

    def before_mending(self, world: World, node: int) -> None:
        """See what must be so while it lasts."""

    def after_mending(self, world: World, node: int) -> None:
        """See what must be so after it."""


class _Slow(_OnDisk):
    """Every sync takes longer."""

    row = "slow disk"
    lasts_s = (5.0, 15.0)

    def harm(self, world: World, node: int, rng: random.Random) -> None:
        world.pages[node].slow_syncs(rng.randint(20, _SLOWEST_MS))


class _Hung(_OnDisk):
    """No sync of the log returns."""

    row = "hung disk (D state)"
    lasts_s = (1.0, 20.0)

    def harm(self, world: World, node: int, rng: random.Random) -> None:
        del rng
        world.pages[node].hang_syncs(Files.LOG)

    def before_mending(self, world: World, node: int) -> None:
        """Who has a sync that hangs leads no longer, if another can."""
        lasted_s = time.monotonic() - self.began_s
        is_met = bool(world.pages[node]["syncs_met"])
        if not is_met or lasted_s < _LEADS_S or world.taken_but(node):
            return
        if not world.ground.is_shaped and world.leader() == node:
            raise Broken(f"node {node} leads although its disk hangs for {lasted_s} s")


class _Frozen(_OnDisk):
    """The whole file system stands still, as a disk does that is gone."""

    row = "hung disk (D state)"
    lasts_s = (1.0, 20.0)

    def harm(self, world: World, node: int, rng: random.Random) -> None:
        del rng
        world.freeze(node)


class _FrozenMost(Fault):
    """The disks of a majority stand still: nothing new is agreed until they go on."""

    name = "freeze_majority"
    row = "hung disk (D state)"
    lasts_s = (2.0, 8.0)
    may_be_combined = False

    def __init__(self) -> None:
        self._nodes: list[int] = []
        self._last = 0
        """No entry behind this one was on a frozen disk in time."""

    async def inject(self, world: World, rng: random.Random) -> None:
        taken = world.take_all(self.name)
        self._nodes = rng.sample(taken, len(taken) // 2 + 1)
        for node in taken:
            if node not in self._nodes:
                world.give_back(node)
        for node in self._nodes:
            await asyncio.to_thread(world.freeze, node)
        # An entry that was written before may yet be agreed, by whoever comes back.
        found = await asyncio.to_thread(world.statuses, taken)
        if len(found) == len(taken):
            self._last = max(status.last_index for status in found.values())
            self.has_happened = True

    async def heal(self, world: World) -> None:
        nodes, self._nodes = self._nodes, []
        last, self._last = self._last, 0
        try:
            found = await asyncio.to_thread(world.statuses) if nodes else {}
        finally:
            for node in nodes:
                await asyncio.to_thread(world.thaw, node)
                await asyncio.to_thread(world.ensure_running, node)
                world.give_back(node)
        commit = max((status.commit_index for status in found.values()), default=0)
        if last and commit > last:
            raise Broken(
                f"entries {last + 1} to {commit} were agreed although the disks of"
                f" nodes {nodes} stood still"
            )


class _SyncFails(_OnDisk):
    """A sync fails: what is on the disk is not known, and the node ends."""

    row = "fsync EIO"
    lasts_s = (0.0, 2.0)

    def harm(self, world: World, node: int, rng: random.Random) -> None:
        del rng
        world.expect_end(node)
        world.pages[node].fail_syncs(Files.LOG)

    def before_mending(self, world: World, node: int) -> None:
        code = world.wait_for_end(node, _ENDS_S)
        self.has_happened = code is not None
        if code is not None:
            world.see_one_sentence(node, code)
        elif world.pages[node]["syncs_met"]:
            raise Broken(f"node {node} goes on although a sync has failed")


class _Full(_OnDisk):
    """A disk has no room left; when it has again, the node goes on by itself."""

    row = "full disk"
    lasts_s = (2.0, 10.0)
    _pid = 0

    def harm(self, world: World, node: int, rng: random.Random) -> None:
        del rng
        self._pid = world.pid(node)
        world.fill(node)

    def after_mending(self, world: World, node: int) -> None:
        if not world.is_running(node) or world.pid(node) != self._pid:
            raise Broken(f"node {node} ended: its disk was full, and is no more")
        end_s = time.monotonic() + _RESUMES_S
        while time.monotonic() < end_s:
            status = world.statuses([node]).get(node)
            if status is not None and not status.is_disk_full:
                return
            time.sleep(_ALARM_S / 10)
        raise Broken(f"node {node} finds its disk full, which it is no more")


class _WritesFindNoRoom(_Full):
    """The same, told by each write, beginning in the middle of anything."""

    def harm(self, world: World, node: int, rng: random.Random) -> None:
        del rng
        # One that has only begun to start writes what it must have, or ends.
        world.wait_until_answers(node, _ENDS_S)
        self._pid = world.pid(node)
        world.pages[node].fail_writes()


DISK_FAULTS: Final[tuple[type[Fault], ...]] = (
    variant(_Slow, "slow_disk_leader", who="leader"),
    variant(_Slow, "slow_disk_follower", who="follower"),
    variant(_Hung, "hung_sync_leader", who="leader"),
    variant(_Hung, "hung_sync_follower", who="follower"),
    variant(_Frozen, "frozen_disk_leader", who="leader"),
    variant(_Frozen, "frozen_disk_follower", who="follower"),
    _FrozenMost,
    variant(_SyncFails, "sync_error_leader", who="leader"),
    variant(_SyncFails, "sync_error_follower", who="follower"),
    variant(_Full, "full_disk_leader", who="leader"),
    variant(_Full, "full_disk_follower", who="follower"),
    variant(_WritesFindNoRoom, "no_room_for_writes"),
)
