"""A crash at any byte of any operation leaves what was before it or what is after it.

An image of the directory is taken at every statement. Between two of them, what a crash
can leave is worked out: the first bytes of what changed, or any blocks of it, because a
disk orders nothing before a sync.
"""

import random
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from raftd.storage.chunks import pack
from raftd.storage.open import Stores
from tests.storage.test_crash import crashes
from tests.storage.test_refused_writes import (
    CHUNKS,
    OPERATIONS,
    STAGED,
    Operation,
    make_node,
    recover,
    stage_other,
)
from tests.storage.tools import (
    copy_directory,
    meta,
    open_node,
    row,
    snapshot_files,
    write,
)

BLOCK_BYTES = 512
WAL_HEADER_BYTES = 32


def tear(before: bytes, after: bytes, chance: random.Random) -> Iterator[bytes]:
    """Make what may be in a file that was being changed from one to the other."""
    size = max(len(before), len(after))
    old, new = before.ljust(size, b"\0"), after.ljust(size, b"\0")
    changed = [
        at
        for at in range(0, size, BLOCK_BYTES)
        if old[at : at + BLOCK_BYTES] != new[at : at + BLOCK_BYTES]
    ]
    for _ in range(2):
        cut = chance.choice(changed) + chance.randrange(BLOCK_BYTES)
        yield new[:cut] + before[cut:]
    mixed = bytearray(old)
    for at in chance.sample(changed, k=(len(changed) + 1) // 2):
        mixed[at : at + BLOCK_BYTES] = new[at : at + BLOCK_BYTES]
    yield bytes(mixed)


def torn_images(
    before: Path, after: Path, target: Path, chance: random.Random
) -> Iterator[Path]:
    """Make what a crash may leave between two images, one file changing at a time."""
    old, new = snapshot_files(before), snapshot_files(after)
    for name in sorted(new):
        if old.get(name, b"") == new[name] or not new[name]:
            continue  # emptied only after all of it is safe elsewhere
        was = old.get(name, b"")
        if name.endswith("-wal"):
            # SQLite syncs the header, which no sector border splits, before the rest.
            was = new[name][:WAL_HEADER_BYTES] + was[WAL_HEADER_BYTES:]
        for data in [was, *tear(was, new[name], chance)]:
            torn = copy_directory(before, target / str(chance.random()))
            (torn / name).write_bytes(data)
            yield torn


async def large_checkpoint(stores: Stores) -> None:
    """Take a checkpoint that SQLite begins to write before its commit."""
    rows = (row(key, b"v" * 1_000_000) for key in range(4))
    await stores.state.checkpoint(meta(9), pack(rows))


@pytest.mark.parametrize("operation", [*OPERATIONS, stage_other, large_checkpoint])
async def test_a_torn_operation_is_old_or_new(
    tmp_path: Path, operation: Operation
) -> None:
    node = await make_node(tmp_path / "node")
    chance = random.Random(operation.__name__)
    async with open_node(node) as stores:
        # Something in both write-ahead logs to begin with.
        await stores.state.stage(STAGED, 1, CHUNKS[1:1])
        await stores.log.write(write(commit=10, hard_state=(1, 2)))
        with crashes(node, tmp_path / "images") as taken:
            await operation(stores)
    count = 0
    for before, after in pairwise(taken):
        if snapshot_files(before) == snapshot_files(after):
            continue
        expected = [
            await recover(copy_directory(image, tmp_path / "whole" / str(count) / at))
            for at, image in (("before", before), ("after", after))
        ]
        for image in torn_images(before, after, tmp_path / "torn", chance):
            count += 1
            assert await recover(image) in expected
    assert count > 0


INSTALLER = """
import asyncio, sys
from itertools import count
from pathlib import Path
from raftd.consensus.types import HardState, Index, Term
from raftd.storage.types import InstallMark
from tests.storage.tools import install, meta, open_node, row

async def main():
    async with open_node(Path(sys.argv[1])) as stores:
        for number in count(int(sys.argv[2])):
            mark = InstallMark(b"install %d" % number, HardState(Term(1)))
            rows = [row(key, b"%d" % number * 500) for key in range(200)]
            await install(stores, meta(number, install=mark), rows)
            await stores.log.reset(Index(number), Term(1), mark)
            print(number, flush=True)

asyncio.run(main())
"""


async def test_installs_survive_kill_9(tmp_path: Path) -> None:
    node = tmp_path / "node"
    number = 100
    for lines in (1, 4, 2, 3):
        with subprocess.Popen(
            [sys.executable, "-c", INSTALLER, str(node), str(number + 1)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        ) as installer:
            assert installer.stdout is not None
            for _ in range(lines):
                answered = int(installer.stdout.readline())
            installer.kill()
            rest = installer.stdout.read().split(b"\n")[:-1]
            answered = max([answered, *map(int, rest)])
        async with open_node(node) as stores:
            assert stores.state.meta is not None
            number = stores.state.meta.applied_index
            assert number in (answered, answered + 1)
            assert stores.log.last_index == number
            values = {value for _, _, value in stores.state.load()}
            assert values == {b"%d" % number * 500}
