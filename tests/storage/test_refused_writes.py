"""No room means definitely not done, and the store goes on; anything else is final.

Every statement of every operation fails once. These tests plant the error that SQLite
would give; `test_small_disk` has SQLite find it on a disk that is really full.
"""

import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from raftd.consensus.types import Index, Term
from raftd.storage.chunks import pack, unpack
from raftd.storage.errors import DiskFull, StorageError
from raftd.storage.log_writer import STATEMENT_ROWS_MAX
from raftd.storage.open import Stores
from tests.storage.faults import failing_at
from tests.storage.test_state_store import MARK
from tests.storage.tools import (
    CLUSTER_ID,
    PEERS,
    copy_directory,
    entries,
    meta,
    newest,
    open_node,
    row,
    write,
)

Operation = Callable[[Stores], Awaitable[None]]
STAGED, OTHER = b"staged", b"other"
CHUNKS = list(pack(row(key, b"v" * 500) for key in range(1000)))


async def append(stores: Stores) -> None:
    await stores.log.write(write(entries(21, 30), commit=15))


async def append_many(stores: Stores) -> None:
    await stores.log.write(write(entries(21, 21 + 2 * STATEMENT_ROWS_MAX), commit=15))


async def vote_and_cut(stores: Stores) -> None:
    added = entries(15, 16, term=2)
    changed = write(added, commit=11, hard_state=(2, None), truncate_from=15)
    await stores.log.write(changed)


async def cut_prefix(stores: Stores) -> None:
    await stores.log.cut_prefix(4)


async def bind(stores: Stores) -> None:
    await stores.bind_cluster(CLUSTER_ID, PEERS)


async def checkpoint(stores: Stores) -> None:
    await stores.state.checkpoint(meta(9), CHUNKS)


async def stage_more(stores: Stores) -> None:
    await stores.state.stage(STAGED, 1, CHUNKS[1:3])


async def stage_other(stores: Stores) -> None:
    await stores.state.stage(OTHER, 0, CHUNKS[:2])


async def drop(stores: Stores) -> None:
    await stores.state.drop_staged()


async def install(stores: Stores) -> None:
    await stores.state.install(STAGED, 1, meta(90, 2, install=MARK))
    await stores.log.reset(Index(90), Term(2), MARK)


OPERATIONS = [
    append,
    append_many,
    vote_and_cut,
    cut_prefix,
    bind,
    checkpoint,
    stage_more,
    drop,
    install,
]


async def make_node(directory: Path) -> Path:
    """Make a log of 20 entries, a state at 5, and the first chunk of a snapshot."""
    async with open_node(directory) as stores:
        await stores.log.write(write(entries(1, 20), hard_state=(1, 2), commit=10))
        await stores.state.checkpoint(meta(5), pack([row(1, b"old")]))
        await stores.state.stage(STAGED, 0, CHUNKS[:1])
    return directory


@pytest.fixture
async def node(tmp_path: Path) -> Path:
    return await make_node(tmp_path / "node")


async def look(stores: Stores) -> tuple[Any, ...]:
    """Say everything that a start finds."""
    log = msgspec.structs.replace(stores.recovery.log, removed_count=0)
    staged = [await stores.state.staged(offer) for offer in (STAGED, OTHER)]
    rows = newest(list(stores.state.load()))
    return stores.identity, log, stores.recovery.checkpoint, rows, staged


async def recover(directory: Path) -> tuple[Any, ...]:
    async with open_node(directory) as stores:
        return await look(stores)


@pytest.mark.parametrize(
    ("operation", "is_undone"),
    [(operation, False) for operation in OPERATIONS]
    + [(append_many, True), (checkpoint, True), (install, True)],
)
async def test_without_room_nothing_is_done_and_all_can_be_done_again(
    node: Path, tmp_path: Path, operation: Operation, *, is_undone: bool
) -> None:
    before = await recover(node)
    done = copy_directory(node, tmp_path / "done")
    async with open_node(done) as stores:
        await operation(stores)
    after = await recover(done)
    refusals = 0
    for number in range(99):
        running = copy_directory(node, tmp_path / f"running {number}")
        crashed = tmp_path / f"crashed {number}"
        async with open_node(running) as stores:
            with failing_at(number, sqlite3.SQLITE_FULL, is_undone=is_undone) as fault:
                error = await failure_of(operation(stores))
            copy_directory(running, crashed)
            if error is not None:
                assert isinstance(error, DiskFull)
                refusals += 1
                await operation(stores)
        found = await recover(crashed)
        if error is None:  # or it struck what only tidies up
            assert found == after
        elif operation not in {install, bind}:  # these write to one file, then another
            assert found == before
        assert await recover(running) == after
        if not fault.has_struck:
            break
    else:
        pytest.fail("it never came to an end")
    assert refusals > 0


async def test_a_state_that_was_not_installed_is_still_staged(node: Path) -> None:
    async with open_node(node) as stores:
        with failing_at(1, sqlite3.SQLITE_FULL), pytest.raises(DiskFull):
            await stores.state.install(STAGED, 1, meta(90, 2, install=MARK))
        assert stores.state.meta == meta(5)
        assert await stores.state.staged(STAGED) == 1
        assert len(list(stores.state.load())) == 1


async def test_another_offer_without_room_leaves_either_or_none(node: Path) -> None:
    for number in range(99):
        async with open_node(node) as stores:
            with failing_at(number, sqlite3.SQLITE_FULL) as fault:
                try:
                    await stage_other(stores)
                except DiskFull:
                    left = [await stores.state.staged(at) for at in (STAGED, OTHER)]
                    assert left in ([1, 0], [0, 0])
                    await stage_other(stores)
            assert await stores.state.staged(OTHER) == 2
            rows = [row for chunk in CHUNKS[:2] for row in unpack(chunk)]
            assert list(stores.state.load_staged(OTHER)) == rows
            await stores.state.stage(STAGED, 0, CHUNKS[:1])
        if not fault.has_struck:
            break
    else:
        pytest.fail("it never came to an end")


async def lasting_error(stores: Stores) -> StorageError | None:
    """Ask both stores for the smallest thing."""
    try:
        await stores.state.sizes()
        await stores.log.write(write(commit=99))
    except StorageError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("operation", "code"),
    [(operation, sqlite3.SQLITE_IOERR_FSYNC) for operation in OPERATIONS]
    + [
        (append, sqlite3.SQLITE_IOERR_WRITE),
        (checkpoint, sqlite3.SQLITE_IOERR_SHMSIZE),
    ],
)
async def test_any_other_error_is_final(
    node: Path, tmp_path: Path, operation: Operation, code: int
) -> None:
    for number in range(99):
        running = copy_directory(node, tmp_path / f"running {number}")
        async with open_node(running) as stores:
            with failing_at(number, code) as fault:
                error = await failure_of(operation(stores))
            if error is None:
                assert not fault.has_struck, "an error was passed over"
                break
            assert not isinstance(error, DiskFull)
            assert await lasting_error(stores) is error, "the disk may seem well again"
            copy_directory(running, tmp_path / f"crashed {number}")
        await recover(tmp_path / f"crashed {number}")
    else:
        pytest.fail("it never came to an end")


async def failure_of(operation: Awaitable[None]) -> StorageError | None:
    try:
        await operation
    except StorageError as error:
        return error
    return None
