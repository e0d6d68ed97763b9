"""What the stores do on a disk that is really full, scenario by scenario.

Each works in an empty directory of a few megabytes, fills what is left of the disk with
a file that it can take away again, and asserts what the stores do meanwhile. As a
program, `python -m tests.storage.full_disk NAME DIRECTORY`, this runs one of them and
ends with exit code 0 only if all of that was so.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path

import pytest

from raftd.consensus.types import HardState, Index, NodeId, Term
from raftd.storage.ballast import Ballast, free_bytes
from raftd.storage.chunks import pack
from raftd.storage.errors import DiskFailed, DiskFull
from raftd.storage.log_writer import STATEMENT_ROWS_MAX
from raftd.storage.open import Stores
from raftd.storage.types import InstallMark
from tests.storage.tools import (
    copy_directory,
    entries,
    entry,
    meta,
    newest,
    open_node,
    row,
    write,
)

MIB = 1024 * 1024
OFFER = b"offer"
CHUNKS = list(pack(row(key, b"v" * 2000) for key in range(1000)))


class Filler:
    """Takes what is left of the disk, to the last byte."""

    def __init__(self, disk: Path) -> None:
        self._path = disk / "filler"

    def fill(self, *, spare_bytes: int = 0) -> None:
        room = free_bytes(self._path.parent) - spare_bytes
        with self._path.open("ab") as file:
            file.truncate(file.tell())
            os.posix_fallocate(file.fileno(), file.tell(), max(room, 1))

    def remove(self) -> None:
        self._path.unlink()


def copy_elsewhere(node: Path) -> Path:
    """What a crash would leave, on the disk around this one."""
    around = node.parent.parent
    return copy_directory(node, around / f"copy {len(list(around.iterdir()))}")


async def refused(call: Callable[[], Awaitable[None]]) -> None:
    with pytest.raises(DiskFull, match=r"no space is left on the disk\.$"):
        await call()


async def log_to_the_brim(disk: Path) -> None:
    """Entries, until there is no room; again with room; nothing lost, nothing extra."""
    node, filler = disk / "node", Filler(disk)
    async with open_node(node) as stores:
        log = stores.log
        await log.write(write(hard_state=(1, 2)))
        filler.fill(spare_bytes=MIB)
        added = [entry(1)]
        try:
            for number in count(1):
                added = [entry(number, payload=bytes([number % 256]) * 3000)]
                await log.write(write(added, commit=number - 1))
        except DiskFull:
            pass
        last = log.last_index
        assert 20 < last == added[0].index - 1
        await refused(lambda: log.write(write(added, commit=last)))
        assert log.read(Index(last), Index(last + 1), 1)[0].index == last
        crashed = copy_elsewhere(node)
        async with open_node(crashed) as found:
            assert found.recovery.log.last_index == last
            assert found.recovery.log.hard_state == HardState(Term(1), NodeId(2))
            assert found.recovery.log.removed_count == 0
        filler.remove()
        await log.write(write(added, commit=last))
        await log.write(write(entries(last + 2, last + 9), commit=last))
    async with open_node(node) as stores:
        assert stores.recovery.log.last_index == last + 9
        assert stores.recovery.log.commit == last


async def many_entries_at_once(disk: Path) -> None:
    """More entries than one statement takes are all there or none."""
    node, filler = disk / "node", Filler(disk)
    last = 3 + STATEMENT_ROWS_MAX * 2
    added = [entry(index, payload=b"x" * 200) for index in range(4, last + 1)]
    changed = write(added, hard_state=(2, None))
    async with open_node(node) as stores:
        await stores.log.write(write(entries(1, 3), hard_state=(1, 2)))
        for spare_bytes in (0, 100_000, 300_000):
            filler.fill(spare_bytes=spare_bytes)
            await refused(lambda: stores.log.write(changed))
            async with open_node(copy_elsewhere(node)) as found:
                assert found.recovery.log.last_index == 3
                assert found.recovery.log.hard_state.term == 1
            filler.remove()
        await stores.log.write(changed)
        async with open_node(copy_elsewhere(node)) as found:
            assert found.recovery.log.last_index == last
            assert found.recovery.log.hard_state.term == 2


async def fold_without_room(disk: Path) -> None:
    """While the write-ahead log cannot be folded, writes go on until it is full."""
    node, filler = disk / "node", Filler(disk)
    async with open_node(node) as stores:
        await stores.log.write(write(hard_state=(1, 2)))
        last = 0
        while True:
            payload = b"x" * 400_000
            last += 1
            try:
                await stores.log.write(write([entry(last, payload=payload)]))
            except DiskFull:
                break
            if last == 30:  # soon 16 MiB
                filler.fill(spare_bytes=12 * MIB)
        assert last > 42, "it was due to be folded by then"
        filler.remove()
        for at in range(last, last + 10):
            await stores.log.write(write([entry(at, payload=payload)]))
    async with open_node(node) as stores:
        assert stores.recovery.log.last_index == last + 9


async def rows(stores: Stores) -> int:
    return len(newest(list(stores.state.load())))


async def merge(stores: Stores) -> None:
    assert await stores.state.merge()


async def checkpoint_without_room(disk: Path) -> None:
    """A checkpoint that finds no room leaves the old one, and is taken later."""
    node, filler = disk / "node", Filler(disk)
    async with open_node(node) as stores:
        await stores.log.write(write(entries(1, 9), hard_state=(1, 2), commit=9))
        await stores.state.checkpoint(meta(5), pack([row(1, b"old")]))
        for spare_bytes in (0, 50_000, 1_000_000):
            filler.fill(spare_bytes=spare_bytes)
            await refused(lambda: stores.state.checkpoint(meta(9), CHUNKS))
            assert stores.state.meta == meta(5)
            assert await rows(stores) == 1
            async with open_node(copy_elsewhere(node)) as found:
                assert found.recovery.checkpoint == meta(5)
                assert await rows(found) == 1
            filler.remove()
        await stores.state.checkpoint(meta(9), CHUNKS)
        filler.fill(spare_bytes=1_000_000)
        await refused(lambda: merge(stores))
        assert await rows(stores) == 1000
        filler.remove()
        assert await stores.state.merge()
    async with open_node(node) as stores:
        assert stores.recovery.checkpoint == meta(9)
        assert await rows(stores) == 1000


async def staging_without_room(disk: Path) -> None:
    """Staging stops where room does, goes on there, and installs at the end."""
    node, filler = disk / "node", Filler(disk)
    mark = InstallMark(b"install", HardState(Term(2), NodeId(3)))
    installed = meta(90, 2, install=mark)
    async with open_node(node) as stores:
        state = stores.state
        await stores.log.write(write(entries(1, 9), hard_state=(1, 2), commit=9))
        await state.checkpoint(meta(5), pack([row(1, b"old")]))
        filler.fill(spare_bytes=MIB)
        staged = 0
        while True:
            try:
                await state.stage(OFFER, staged, CHUNKS[staged : staged + 4])
            except DiskFull:
                break
            staged += 4
        assert await state.staged(OFFER) == staged
        async with open_node(copy_elsewhere(node)) as found:
            assert await found.state.staged(OFFER) == staged
            assert found.recovery.checkpoint == meta(5)
        filler.remove()
        await state.stage(OFFER, staged, CHUNKS[staged:])
        filler.fill()
        done = 0
        while state.meta != installed:
            try:
                await state.install(OFFER, len(CHUNKS), installed)
            except DiskFull:
                done += 1
                assert await rows(stores) == 1
                filler.remove()
                filler.fill(spare_bytes=4096 * done)
        filler.remove()
        await stores.log.reset(Index(90), Term(2), mark)
    async with open_node(node) as stores:
        assert stores.recovery.checkpoint == installed
        assert stores.recovery.log.last_index == 90
        assert await rows(stores) == 1000


async def ballast_gives_room(disk: Path) -> None:
    """What the ballast held is enough to go on, and is taken back afterwards."""
    node = disk / "node"
    ballast = Ballast(disk / "ballast", MIB)
    assert not ballast.is_full
    assert ballast.fill()
    assert ballast.is_full
    filler = Filler(disk)
    async with open_node(node) as stores:
        await stores.log.write(write(entries(1, 3), hard_state=(1, 2)))
        filler.fill()
        big = entry(4, payload=b"x" * 200_000)
        await refused(lambda: stores.log.write(write([big])))
        ballast.release()
        ballast.release()
        assert not ballast.is_full
        await stores.log.write(write([big]))
        assert not ballast.fill(), "the entry took some of it"
        assert not ballast.is_full
        assert free_bytes(disk) > MIB // 2, "a ballast that has no room takes none"
        filler.remove()
        assert ballast.fill()
    async with open_node(node) as stores:
        assert stores.recovery.log.last_index == 4


async def start_without_room(disk: Path) -> None:
    """A start on a full disk says so and loses nothing."""
    node, filler = disk / "node", Filler(disk)
    async with open_node(node) as stores:
        await stores.log.write(write(entries(1, 300), hard_state=(1, 2)))
    filler.fill()
    with pytest.raises(DiskFailed, match=r"no space is left .*\.$"):
        async with open_node(node):
            pass
    filler.remove()
    async with open_node(node) as stores:
        assert stores.recovery.log.last_index == 300


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (
        log_to_the_brim,
        many_entries_at_once,
        fold_without_room,
        checkpoint_without_room,
        staging_without_room,
        ballast_gives_room,
        start_without_room,
    )
}

if __name__ == "__main__":
    asyncio.run(SCENARIOS[sys.argv[1]](Path(sys.argv[2])))
