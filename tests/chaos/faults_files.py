"""Files that are harmed, removed or exchanged, and disks that lost their power.

A harmed file is told at start, or later, in one sentence; what it held is never served.
The node is then replaced by a new one, as docs/disaster.md has it, also if it did not
notice: harm may lie where nobody has read yet.

Rules: files of one node at a time are harmed, when nobody else is in trouble and the
others have what it had: else what was lost was lost, and no bug. Power may go wherever
and whenever it likes.

Source: RELIABILITY.md section 5 (power loss; corrupted byte, page, file; deleted or
swapped data directory), rules 46, 49 and 50.
"""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING, ClassVar, Final

from tests.chaos.disks import HARMS, harm
from tests.chaos.fault import Broken, Fault, Want, variant
from tests.chaos.membership import replace_member, settle_members

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable
    from pathlib import Path

    from tests.chaos.world import Who, World

__all__ = ["FILE_FAULTS"]

_FILES: Final = ("log.db", "log.db-wal", "state.db", "state.db-wal")
_CORRUPT: Final = "corrupted byte / page / truncated file"
_AWAY: Final = "deleted / swapped data dir"
_CAUGHT_UP_S: Final = 20.0
_TELLS_S: Final = 5.0
_ENDS_S: Final = 20.0


class _OnFiles(Fault):
    """Something about the files of one node, which is replaced in the end."""

    lasts_s = (0.0, 3.0)
    may_be_combined = False
    node: int | None = None

    async def inject(self, world: World, rng: random.Random) -> None:
        if len(world.members) < 3:
            return
        who: Who = rng.choice(("leader", "follower"))
        self.node = await asyncio.to_thread(world.take, rng, who, self.name)
        if self.node is None:
            return
        if not await asyncio.to_thread(world.others_have_all, self.node, _CAUGHT_UP_S):
            world.give_back(self.node)
            self.node = None
            return
        await asyncio.to_thread(self.harm, world, self.node, rng)
        self.has_happened = True

    async def heal(self, world: World) -> None:
        node, self.node = self.node, None
        if node is None:
            await settle_members(world)
            return
        try:
            await asyncio.to_thread(self.before_replacing, world, node)
        finally:
            await asyncio.to_thread(world.end, node)
            await replace_member(world, node)
            world.give_back(node)

    def harm(self, world: World, node: int, rng: random.Random) -> None:
        """Let it happen."""
        raise NotImplementedError

    def before_replacing(self, world: World, node: int) -> None:
        """See what must be so."""


class _Corrupt(_OnFiles):
    """Harm one file of a node that does not run, and start it."""

    row = _CORRUPT
    how: ClassVar[str]

    def harm(self, world: World, node: int, rng: random.Random) -> None:
        world.end(node)
        folder = world.files(node)
        files = [folder / name for name in _FILES if (folder / name).exists()]
        harm(rng.choice(files), self.how, rng)
        world.start(node)
        world.expect_end(node)

    def before_replacing(self, world: World, node: int) -> None:
        code = world.wait_for_end(node, _TELLS_S)
        if code is not None:
            sentence = world.see_one_sentence(node, code)
            if not any(name in sentence for name in _FILES):
                raise Broken(f"node {node} names no file: {sentence}")
            return
        status = world.statuses([node]).get(node)
        if status is not None and "differs" in status.trouble:
            raise Broken(f"node {node} serves what was harmed: {status.trouble}")


class _Deleted(_OnFiles):
    """Remove all files of a node: it does not come back as who it was."""

    name = "deleted_data"
    row = _AWAY
    _is_at_work = False

    def harm(self, world: World, node: int, rng: random.Random) -> None:
        self._is_at_work = rng.random() < 0.5
        world.expect_end(node)
        if not self._is_at_work:
            world.end(node)
        _remove(_files_in(world.files(node)))
        if not self._is_at_work:
            world.start(node)
            world.expect_end(node)

    def before_replacing(self, world: World, node: int) -> None:
        code = world.wait_for_end(node, _ENDS_S)
        if code is None:
            raise Broken(f"node {node} goes on although its files were removed")
        sentence = world.see_one_sentence(node, code)
        if not self._is_at_work and "member replace" not in sentence:
            raise Broken(f"node {node} lost its disk and does not say so: {sentence}")


class _Swapped(Fault):
    """Start two nodes on each other's files: both refuse, by the id in them."""

    name = "swapped_data"
    row = _AWAY
    lasts_s = (0.0, 1.0)
    may_be_combined = False

    def __init__(self) -> None:
        self._nodes: list[int] = []
        self._is_swapped = False

    async def inject(self, world: World, rng: random.Random) -> None:
        for _ in range(2):
            node = await asyncio.to_thread(world.take, rng, "any", self.name)
            if node is not None:
                self._nodes.append(node)
        if len(self._nodes) < 2:
            return
        await asyncio.to_thread(world.end, *self._nodes)
        await asyncio.to_thread(self._swap, world)
        for node in self._nodes:
            await asyncio.to_thread(world.start, node)
            world.expect_end(node)
        for node in self._nodes:
            code = await asyncio.to_thread(world.wait_for_end, node, _ENDS_S)
            if code is None:
                raise Broken(f"node {node} serves with the files of {self._nodes}")
            sentence = world.see_one_sentence(node, code)
            if "belongs to" not in sentence:
                raise Broken(f"node {node} does not say whose files: {sentence}")
        self.has_happened = True

    async def heal(self, world: World) -> None:
        nodes, self._nodes = self._nodes, []
        await asyncio.to_thread(world.end, *nodes)
        if self._is_swapped:
            self._nodes = nodes
            await asyncio.to_thread(self._swap, world)
            self._nodes = []
        for node in nodes:
            await asyncio.to_thread(world.ensure_running, node)
            world.give_back(node)

    def _swap(self, world: World) -> None:
        one, other = map(world.files, self._nodes)
        aside = world.ground.seen(world.folder) / "aside"
        for source, target in ((one, aside), (other, one), (aside, other)):
            target.mkdir(exist_ok=True)
            for file in _files_in(source):
                shutil.move(file, target / file.name)
        self._is_swapped = not self._is_swapped


def _files_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name != "lost+found"]


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


class _PowerLoss(Fault):
    """Cut the power: what was not synced is gone, whole or in part."""

    row = "power loss"
    wants = frozenset({Want.UNSYNCED})
    lasts_s = (0.0, 3.0)
    are_all: ClassVar[bool]

    def __init__(self) -> None:
        self._nodes: list[int] = []

    async def inject(self, world: World, rng: random.Random) -> None:
        if self.are_all:
            self._nodes = world.take_all(self.name)
        else:
            who: Who = rng.choice(("leader", "follower"))
            node = await asyncio.to_thread(world.take, rng, who, self.name)
            self._nodes = [] if node is None else [node]
        await asyncio.to_thread(world.lose_power, rng, *self._nodes)
        self.has_happened = bool(self._nodes)

    async def heal(self, world: World) -> None:
        nodes, self._nodes = self._nodes, []
        for node in nodes:
            await asyncio.to_thread(world.ensure_running, node)
            world.give_back(node)


FILE_FAULTS: Final[tuple[type[Fault], ...]] = (
    *(variant(_Corrupt, f"corrupt_{how}", how=how) for how in HARMS),
    *(_Deleted, _Swapped),
    variant(_PowerLoss, "power_loss", are_all=False),
    variant(_PowerLoss, "power_loss_all", are_all=True, may_be_combined=False),
)
