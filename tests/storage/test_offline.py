"""A directory made around a given state opens like one that grew there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from raftd.consensus.types import HardState, Index, NodeId, Term
from raftd.storage.chunks import pack
from raftd.storage.directory import DirectoryLock
from raftd.storage.errors import DamagedFiles, DirectoryInUse, ForeignFiles
from raftd.storage.identity import Identity
from raftd.storage.offline import create_directory
from tests.storage.test_state_store import MARK
from tests.storage.tools import (
    CLUSTER,
    CLUSTER_ID,
    INCARNATION,
    NODE,
    entries,
    install,
    meta,
    newest,
    open_node,
    row,
    snapshot_files,
    write,
)

IDENTITY = Identity(CLUSTER, NODE, INCARNATION, CLUSTER_ID, {NODE: INCARNATION})
ROWS = [row(key, b"v" * 900) for key in range(300)]


def create(directory: Path, *, applied: int = 70, term: int = 4) -> None:
    hard_state = HardState(Term(term + 1), NodeId(1))
    create_directory(
        directory, IDENTITY, meta(applied, term), pack(ROWS), hard_state=hard_state
    )


@pytest.mark.parametrize("is_made_before", [False, True])
async def test_the_node_goes_on_behind_the_state(
    tmp_path: Path, *, is_made_before: bool
) -> None:
    node = tmp_path / "node"
    if is_made_before:
        (node / "lost+found").mkdir(parents=True)
    create(node)
    async with open_node(node) as stores:
        assert stores.identity == stores.log.identity == IDENTITY
        assert not stores.recovery.is_new
        found = stores.recovery.log
        assert (found.first_index, found.last_index, found.commit) == (71, 70, 70)
        assert (found.previous_term, found.hard_state) == (4, HardState(Term(5), NODE))
        assert stores.recovery.checkpoint == meta(70, 4)
        assert newest(list(stores.state.load())) == newest(ROWS)
        await stores.log.write(write(entries(71, 72, term=5), commit=71))
        await stores.state.checkpoint(meta(71, 5), pack([row(1, None)]))
        assert await stores.state.merge()
    async with open_node(node) as stores:
        assert stores.recovery.log.last_index == 72
        assert len(newest(list(stores.state.load()))) == 299


async def test_a_state_without_rows_or_entries_can_be_made(tmp_path: Path) -> None:
    create_directory(
        tmp_path / "node", IDENTITY, meta(0, 0), [], hard_state=HardState()
    )
    async with open_node(tmp_path / "node") as stores:
        assert stores.recovery.checkpoint == meta(0, 0)
        assert stores.recovery.log.last_index == 0


@pytest.mark.parametrize("name", ["log.db", "state.db-wal", "notes.txt", "ballast"])
def test_a_directory_that_holds_anything_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("anything")
    before = snapshot_files(tmp_path)
    with pytest.raises(ForeignFiles, match=rf"is not empty: it holds {name}\.$"):
        create(tmp_path)
    assert snapshot_files(tmp_path) == before
    assert not (tmp_path / "lock").exists()


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    with pytest.raises(DirectoryInUse):
        create(tmp_path)
    lock.release()
    create(tmp_path)


async def test_what_broke_off_holds_no_node_and_can_be_made_again(
    tmp_path: Path,
) -> None:
    def broken() -> Iterator[bytes]:
        yield from pack(ROWS)
        raise KeyError("the backup is damaged")

    for _ in range(2):
        with pytest.raises(KeyError):
            create_directory(
                tmp_path, IDENTITY, meta(70), broken(), hard_state=HardState(Term(1))
            )
        assert not (tmp_path / "state.db").exists()
        assert not (tmp_path / "log.db").exists()
    create(tmp_path)
    async with open_node(tmp_path) as stores:
        assert len(newest(list(stores.state.load()))) == len(ROWS)


async def test_a_crash_before_the_last_step_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(_: Path, target: Path) -> Path:
        raise KeyboardInterrupt(target)

    rename = Path.rename
    monkeypatch.setattr(
        Path,
        "rename",
        lambda path, target: (crash if target.name == "state.db" else rename)(
            path, target
        ),
    )
    with pytest.raises(KeyboardInterrupt):
        create(tmp_path)
    monkeypatch.undo()
    with pytest.raises(DamagedFiles, match=r"state\.db is missing"):
        async with open_node(tmp_path):
            pass


async def test_the_first_roster_is_a_checkpoint_at_index_0(tmp_path: Path) -> None:
    """Nothing can bring it back, so it is in the file itself when it is answered."""
    node = tmp_path / "node"
    async with open_node(node) as stores:
        await stores.state.checkpoint(meta(0, 0), [])
        assert stores.state.meta == meta(0, 0)
        assert list(stores.state.load()) == []
        with stores.state.open_snapshot() as reader:
            assert (reader.count, reader.bytes, reader.read(0, 9)) == (0, 0, [])
        assert (node / "state.db-wal").stat().st_size == 0
    async with open_node(node) as stores:
        assert stores.recovery.checkpoint == meta(0, 0)
        assert stores.recovery.log.last_index == 0
        await stores.log.write(write(entries(1, 3), hard_state=(1, 1), commit=3))
        await stores.state.checkpoint(meta(2), pack([row(1, b"v")]))
    async with open_node(node) as stores:
        assert stores.recovery.checkpoint == meta(2)


async def test_a_snapshot_is_installed_over_the_first_roster(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await stores.state.checkpoint(meta(0, 0), [])
        await install(stores, meta(90, 2, install=MARK), [row(3, b"new")])
        await stores.log.reset(Index(90), Term(2), MARK)
    async with open_node(tmp_path) as stores:
        assert stores.recovery.log.first_index == 91
        assert newest(list(stores.state.load())) == {(1, b"\0\0\0\3"): b"new"}
