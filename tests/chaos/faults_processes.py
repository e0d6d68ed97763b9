"""Nodes that end or stand still: kill -9, all at once, at a point, SIGSTOP, restarts.

Source: RELIABILITY.md section 5 (kill -9 at random points, all nodes at once,
SIGSTOP / SIGCONT, rolling restart).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar, Final

from tests.chaos.fault import Broken, Fault, variant
from tests.chaos.shim import Point

if TYPE_CHECKING:
    import random

    from tests.chaos.world import Who, World

__all__ = ["PROCESS_FAULTS"]

_SERVE_S: Final = 60.0
"""15 are meant; how long it took is not judged on a machine that others use."""
_REACH_POINT_S: Final = 10.0
_REACHED_AT_MOST: Final = 20
#: The state is synced about once a second, with its checkpoints.
_STATE_SYNCED_AT_MOST: Final = 5
_STATE_SYNCS: Final = frozenset({Point.BEFORE_STATE_SYNC, Point.AFTER_STATE_SYNC})


class _Kill(Fault):
    """Kill a node, and start it again."""

    row = "kill -9 at random points"
    lasts_s = (0.0, 4.0)
    who: ClassVar[Who]
    _node: int | None = None

    async def inject(self, world: World, rng: random.Random) -> None:
        self._node = await asyncio.to_thread(world.take, rng, self.who, self.name)
        if self._node is not None:
            await asyncio.to_thread(world.end, self._node)
            self.has_happened = True

    async def heal(self, world: World) -> None:
        node, self._node = self._node, None
        if node is not None:
            await asyncio.to_thread(world.ensure_running, node)
            await asyncio.to_thread(_see_it_serve, world, node)
            world.give_back(node)


def _see_it_serve(world: World, node: int) -> None:
    """Assert that who was killed is back soon, if the others are there at all."""
    if world.wait_until_answers(node, _SERVE_S):
        return
    if not world.taken_but(node) and not world.ground.is_shaped:
        raise Broken(f"node {node} does not answer {_SERVE_S} s after its start")


class _KillAll(Fault):
    """Kill all nodes in one moment."""

    name = "kill_all"
    row = "all nodes kill -9 at once"
    lasts_s = (0.0, 1.0)
    may_be_combined = False

    def __init__(self) -> None:
        self._nodes: list[int] = []

    async def inject(self, world: World, rng: random.Random) -> None:
        del rng  # there is nothing to choose
        self._nodes = world.take_all(self.name)
        await asyncio.to_thread(world.end, *self._nodes)
        self.has_happened = bool(self._nodes)

    async def heal(self, world: World) -> None:
        for node in self._nodes:
            await asyncio.to_thread(world.ensure_running, node)
            world.give_back(node)
        self._nodes = []


class _CrashAt(Fault):
    """End a node at a point of its work, as if by kill -9."""

    row = "kill -9 at random points"
    lasts_s = (_REACH_POINT_S, _REACH_POINT_S)
    point: ClassVar[Point]
    _node: int | None = None
    _crashes = 0

    async def inject(self, world: World, rng: random.Random) -> None:
        who: Who = rng.choice(("leader", "follower"))
        self._node = await asyncio.to_thread(world.take, rng, who, self.name)
        if self._node is not None:
            world.expect_end(self._node)
            page = world.pages[self._node]
            self._crashes = page["crashes"]
            often = self.point not in _STATE_SYNCS
            at_most = _REACHED_AT_MOST if often else _STATE_SYNCED_AT_MOST
            page.crash_at(self.point, rng.randint(1, at_most))

    async def heal(self, world: World) -> None:
        node, self._node = self._node, None
        if node is not None:
            # Who has nothing to do does not come to the point.
            self.has_happened = world.pages[node]["crashes"] > self._crashes
            await asyncio.to_thread(world.end, node)
            await asyncio.to_thread(world.ensure_running, node)
            await asyncio.to_thread(_see_it_serve, world, node)
            world.give_back(node)


class _Pause(Fault):
    """Stop a node where it is; it does not know when it goes on."""

    row = "SIGSTOP / SIGCONT"
    lasts_s = (0.1, 20.0)
    who: ClassVar[Who]
    _node: int | None = None

    async def inject(self, world: World, rng: random.Random) -> None:
        self._node = await asyncio.to_thread(world.take, rng, self.who, self.name)
        if self._node is not None:
            world.pause(self._node)
            self.has_happened = True

    async def heal(self, world: World) -> None:
        node, self._node = self._node, None
        if node is not None:
            world.resume(node)
            world.give_back(node)


class _PauseAll(Fault):
    """Stop all nodes, as a machine does that stops all its virtual ones."""

    name = "pause_all"
    row = "SIGSTOP / SIGCONT"
    lasts_s = (0.1, 5.0)
    may_be_combined = False

    def __init__(self) -> None:
        self._nodes: list[int] = []

    async def inject(self, world: World, rng: random.Random) -> None:
        self._nodes = world.take_all(self.name)
        rng.shuffle(self._nodes)
        for node in self._nodes:
            if world.is_running(node):
                world.pause(node)
                self.has_happened = True

    async def heal(self, world: World) -> None:
        for node in self._nodes:
            world.resume(node)
            world.give_back(node)
        self._nodes = []


class _RollingRestart(Fault):
    """Stop each node cleanly, and start it again; the next when it serves."""

    name = "rolling_restart"
    row = "rolling restart"
    lasts_s = (0.0, 1.0)

    def __init__(self) -> None:
        self._node: int | None = None

    async def inject(self, world: World, rng: random.Random) -> None:
        nodes = [*world.members]
        rng.shuffle(nodes)
        for node in nodes:
            if node in world.taken or not world.is_running(node):
                continue
            self._node = world.take_this(node, self.name)
            # One that has only begun to start does not listen to signals yet.
            await asyncio.to_thread(_see_it_serve, world, node)
            world.expect_end(node)
            code = await asyncio.to_thread(world.terminate, node)
            if code != 0:
                raise Broken(f"node {node} was stopped and ended with code {code}")
            self.has_happened = True
            await self.heal(world)

    async def heal(self, world: World) -> None:
        node, self._node = self._node, None
        if node is not None:
            await asyncio.to_thread(world.ensure_running, node)
            await asyncio.to_thread(_see_it_serve, world, node)
            world.give_back(node)


_CRASHES: Final = tuple(
    variant(_CrashAt, f"crash_{point.name.lower()}", point=point) for point in Point
)

PROCESS_FAULTS: Final[tuple[type[Fault], ...]] = (
    variant(_Kill, "kill_leader", who="leader"),
    variant(_Kill, "kill_follower", who="follower"),
    variant(_Kill, "kill_any", who="any"),
    _KillAll,
    *_CRASHES,
    variant(_Pause, "pause_leader", who="leader"),
    variant(_Pause, "pause_follower", who="follower"),
    _PauseAll,
    _RollingRestart,
)
