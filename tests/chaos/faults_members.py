"""Members that change, leaders that hand over, nodes of two releases, snapshots.

Source: RELIABILITY.md section 5 (membership churn, transfer under load, version mix,
snapshot during faults).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

from raftclient import RaftError
from tests.chaos.fault import Broken, Fault, Want
from tests.chaos.membership import (
    add_member,
    operator,
    remove_member,
    replace_member,
    settle_members,
)
from tests.chaos.shim import Point

if TYPE_CHECKING:
    import random

    from tests.chaos.world import World

__all__ = ["MEMBER_FAULTS"]

_CHURN: Final = "membership churn"
_MEMBERS: Final = (3, 5)
_TRANSFER_S: Final = 8.0
_OFFERED_S: Final = 10.0
_AWAY_S: Final = (1.0, 4.0)
_POLL_S: Final = 0.005
_WRITES_MAX: Final = 12
_POINTS: Final = (
    *(Point.BEFORE_STATE_WRITE, Point.AFTER_STATE_WRITE),
    *(Point.BEFORE_STATE_SYNC, Point.AFTER_STATE_SYNC),
    *(Point.BEFORE_LOG_WRITE, Point.AFTER_LOG_SYNC),
)


def _is_quiet(world: World) -> bool:
    """Tell whether nothing is wrong at present, as far as one can see."""
    return not world.taken and not world.ground.is_shaped


class _Churn(Fault):
    """Add a member, remove one (also the leader), or replace one that is gone."""

    name = "membership_churn"
    row = _CHURN
    lasts_s = (0.5, 5.0)

    async def inject(self, world: World, rng: random.Random) -> None:
        least, most = _MEMBERS
        kinds = ["replace"]
        if len(world.members) > least:
            kinds.append("remove")
        if len(world.members) < most:
            kinds.append("add")
        kind = rng.choice(kinds)
        if kind == "add":
            self.has_happened = await add_member(world) is not None
            return
        is_alone = _is_quiet(world)
        node = await asyncio.to_thread(
            world.take, rng, rng.choice(("leader", "follower")), self.name
        )
        if node is None:
            return
        try:
            if kind == "remove":
                done = await remove_member(world, node, is_alone=is_alone)
            else:
                await asyncio.to_thread(world.end, node)
                done = await replace_member(world, node) is not None
            self.has_happened = done
        finally:
            world.give_back(node)

    async def heal(self, world: World) -> None:
        await settle_members(world)


class _Transfer(Fault):
    """Hand leadership over to somebody, also to who cannot be reached."""

    name = "transfer"
    row = "transfer under load"
    lasts_s = (1.0, 3.0)

    async def inject(self, world: World, rng: random.Random) -> None:
        target = rng.choice(world.members)
        with contextlib.suppress(RaftError, TimeoutError):
            async with asyncio.timeout(_TRANSFER_S), operator(world) as client:
                await client.cluster.transfer(target)
                self.has_happened = True

    async def heal(self, world: World) -> None:
        """There is nothing to take back."""


class _TransferToStopped(Fault):
    """Hand leadership over to a process that stands still: the leader goes on."""

    name = "transfer_to_stopped"
    row = "transfer under load"
    lasts_s = (0.1, 2.0)
    _node: int | None = None

    async def inject(self, world: World, rng: random.Random) -> None:
        node = await asyncio.to_thread(world.take, rng, "follower", self.name)
        if node is None:
            return
        self._node = node
        world.pause(node)
        self.has_happened = True
        with contextlib.suppress(RaftError, TimeoutError):
            async with asyncio.timeout(_TRANSFER_S), operator(world) as client:
                told = await client.cluster.transfer(node)
                raise Broken(f"node {told.leader} is said to lead, and stands still")

    async def heal(self, world: World) -> None:
        node, self._node = self._node, None
        if node is not None:
            world.resume(node)
            world.give_back(node)


class _Snapshot(Fault):
    """Keep a node away until it needs a snapshot, and kill an end of that transfer."""

    name = "snapshot_killed"
    row = "snapshot during faults"
    wants = frozenset({Want.SHORT_LOG})
    lasts_s = (0.5, 2.0)
    _nodes: tuple[int, ...] = ()

    async def inject(self, world: World, rng: random.Random) -> None:
        node = await asyncio.to_thread(world.take, rng, "follower", self.name)
        if node is None:
            return
        self._nodes = (node,)
        await asyncio.to_thread(world.end, node)
        await asyncio.sleep(rng.uniform(*_AWAY_S))
        await asyncio.to_thread(world.start, node)
        if not await asyncio.to_thread(_is_offered, world, node):
            return
        self.has_happened = True
        how = rng.choice(("sender", "receiver", "point"))
        if how == "point":
            # While it is being staged, loaded, or put in place of what there was.
            world.expect_end(node)
            count = rng.randint(1, _WRITES_MAX)
            world.pages[node].crash_at(rng.choice(_POINTS), count)
        elif how == "sender":
            sender = await asyncio.to_thread(world.take, rng, "leader", self.name)
            if sender is not None:
                self._nodes = (node, sender)
                await asyncio.to_thread(world.end, sender)
        else:
            await asyncio.to_thread(world.end, node)

    async def heal(self, world: World) -> None:
        nodes, self._nodes = self._nodes, ()
        for node in nodes:
            world.pages[node].crash_nowhere()
            await asyncio.to_thread(world.ensure_running, node)
            world.give_back(node)


def _is_offered(world: World, node: int) -> bool:
    """Wait until a node begins to get a snapshot; look often, it is soon over."""
    end_s = time.monotonic() + _OFFERED_S
    while "snapshot_offered" not in world.said(node):
        if time.monotonic() > end_s:
            return False
        time.sleep(_POLL_S)
    return True


class _VersionMix(Fault):
    """Upgrade some nodes of the release before; in the end, all of them."""

    name = "version_mix"
    row = "version mix"
    wants = frozenset({Want.RELEASE_BEFORE})
    lasts_s = (5.0, 15.0)
    is_once = True
    may_be_combined = False

    async def inject(self, world: World, rng: random.Random) -> None:
        old = sorted(world.previous)
        for node in rng.sample(old, rng.randint(1, max(1, len(old) - 1))):
            await asyncio.to_thread(world.upgrade, node)
            self.has_happened = True
        # Whoever leads then: a node of either release may come to.
        leader = await asyncio.to_thread(world.leader)
        if leader and rng.random() < 0.5:
            await asyncio.to_thread(world.end, leader)
            await asyncio.to_thread(world.ensure_running, leader)
            await asyncio.to_thread(world.wait_for_leader)

    async def heal(self, world: World) -> None:
        for node in sorted(world.previous):
            await asyncio.to_thread(world.upgrade, node)
            await asyncio.to_thread(world.wait_until_answers, node)


MEMBER_FAULTS: Final[tuple[type[Fault], ...]] = (
    *(_Churn, _Transfer, _TransferToStopped, _Snapshot, _VersionMix),
)
