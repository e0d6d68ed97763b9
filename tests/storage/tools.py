"""Small makers and helpers shared by the storage tests: real files, real stores."""

import shutil
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from raftd.consensus.ready import Write
from raftd.consensus.types import Entry, EntryKind, HardState, Index, NodeId, Term
from raftd.storage.chunks import Row, pack
from raftd.storage.open import Stores, open_stores
from raftd.storage.types import NO_DIGEST, CheckpointMeta, InstallMark

NODE = NodeId(1)
CLUSTER = "test"
INCARNATION = bytes(range(16))
CLUSTER_ID = bytes(range(16, 32))
PEERS = {NodeId(1): INCARNATION, NodeId(2): bytes(16), NodeId(3): b"\xff" * 16}


def open_node(directory: Path, *, tail_bytes_max: int = 1 << 20) -> "_Opening":
    return _Opening(directory, tail_bytes_max)


class _Opening:
    """Opens as `await` or as `async with`."""

    def __init__(self, directory: Path, tail_bytes_max: int) -> None:
        self._directory = directory
        self._tail_bytes_max = tail_bytes_max
        self._stores: Stores | None = None

    async def __aenter__(self) -> Stores:
        self._stores = await open_stores(
            self._directory,
            node_id=NODE,
            cluster_name=CLUSTER,
            make_incarnation=lambda: INCARNATION,
            tail_bytes_max=self._tail_bytes_max,
        )
        return self._stores

    async def __aexit__(self, *_: object) -> None:
        assert self._stores is not None
        await self._stores.close()


def entry(index: int, term: int = 1, payload: bytes | None = None) -> Entry:
    text = f"entry {index} of term {term}".encode() if payload is None else payload
    return Entry(Index(index), Term(term), EntryKind.NORMAL, text)


def entries(first: int, last: int, term: int = 1) -> tuple[Entry, ...]:
    return tuple(entry(index, term) for index in range(first, last + 1))


def write(
    added: Sequence[Entry] = (),
    *,
    commit: int = 0,
    hard_state: tuple[int, int | None] | None = None,
    truncate_from: int | None = None,
) -> Write:
    state = None
    if hard_state is not None:
        term, vote = hard_state
        state = HardState(Term(term), None if vote is None else NodeId(vote))
    cut = None if truncate_from is None else Index(truncate_from)
    return Write(1, state, cut, tuple(added), Index(commit))


def meta(
    applied: int, term: int = 1, *, install: InstallMark | None = None
) -> CheckpointMeta:
    return CheckpointMeta(
        Index(applied), Term(term), NO_DIGEST, b"membership", b"extra", install
    )


def row(key: int, value: bytes | None, table: int = 1) -> Row:
    return (table, key.to_bytes(4, "big"), value)


def newest(rows: Sequence[Row]) -> dict[tuple[int, bytes], bytes]:
    """What a state machine has after loading."""
    state: dict[tuple[int, bytes], bytes] = {}
    for table, key, value in rows:
        if value is None:
            state.pop((table, key), None)
        else:
            state[table, key] = value
    return state


async def checkpoint(stores: Stores, rows: Sequence[Row], applied: int) -> None:
    await stores.state.checkpoint(meta(applied), pack(rows))


async def install(stores: Stores, mark: CheckpointMeta, rows: Sequence[Row]) -> None:
    """Stage a snapshot, chunk by chunk, and make it the state."""
    assert mark.install is not None
    offer_id = mark.install.install_id
    chunks = list(pack(rows))
    await stores.state.stage(offer_id, 0, [])
    for number, chunk in enumerate(chunks):
        await stores.state.stage(offer_id, number, [chunk])
    await stores.state.install(offer_id, len(chunks), mark)


def copy_directory(source: Path, target: Path) -> Path:
    """Take what a crash at this moment would leave: no shared memory file."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*-shm"))
    return target


def snapshot_files(directory: Path) -> dict[str, bytes]:
    """Everything but the shared memory and the lock, which any look may change."""
    return {
        path.name: path.read_bytes()
        for path in sorted(directory.iterdir())
        if not path.name.endswith("-shm") and path.name != "lock"
    }


def run_sql(
    path: Path, sql: str, parameters: Sequence[object] = ()
) -> list[tuple[Any, ...]]:
    """Look into a file, or alter it, behind the store's back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        return db.execute(sql, parameters).fetchall()


@asynccontextmanager
async def crashed(directory: Path, target: Path) -> AsyncIterator[Stores]:
    """Lend stores, and leave in `target` what a crash at the end would leave."""
    async with open_node(directory) as stores:
        yield stores
        copy_directory(directory, target)
