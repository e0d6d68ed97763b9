"""A data directory opens for its owner alone, and says in one sentence why not."""

import os
import shutil
import stat
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from raftd.consensus.types import HardState, Index, NodeId, Term
from raftd.storage.chunks import pack
from raftd.storage.directory import DirectoryLock
from raftd.storage.errors import (
    DamagedFiles,
    DirectoryInUse,
    DiskFailed,
    ForeignFiles,
    NewerFormat,
    StorageError,
)
from raftd.storage.open import open_stores
from raftd.storage.types import InstallMark
from tests.storage.tools import (
    CLUSTER,
    CLUSTER_ID,
    INCARNATION,
    NODE,
    PEERS,
    copy_directory,
    entries,
    install,
    meta,
    open_node,
    row,
    run_sql,
    snapshot_files,
    write,
)

OTHER = b"\xee" * 16


async def make_bound(directory: Path) -> Path:
    """Make a node with a log, a state and a cluster."""
    async with open_node(directory) as stores:
        await stores.bind_cluster(CLUSTER_ID, PEERS)
        await stores.log.write(write(entries(1, 9), hard_state=(1, 2), commit=9))
        await stores.state.checkpoint(meta(5), pack([row(1, b"v")]))
        await stores.log.cut_prefix(3)
    return directory


async def refuse(directory: Path, error: type[StorageError], sentence: str) -> None:
    """Expect one sentence, and that nothing was touched."""
    before = snapshot_files(directory)
    with pytest.raises(error, match=sentence) as caught:
        async with open_node(directory):
            pass
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    assert snapshot_files(directory) == before


async def test_a_new_directory_is_private_and_carries_the_identity(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "a" / "node-1"
    async with open_node(directory) as stores:
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stores.identity.incarnation == INCARNATION
        assert not stores.identity.is_bound
        assert stores.recovery.is_new
    async with open_node(directory) as stores:
        assert not stores.recovery.is_new


async def test_incarnations_are_random_unless_given(tmp_path: Path) -> None:
    made = set()
    for name in ("one", "two"):
        stores = await open_stores(tmp_path / name, node_id=NODE, cluster_name=CLUSTER)
        made.add(stores.identity.incarnation)
        await stores.close()
    assert [len(incarnation) for incarnation in made] == [16, 16]


async def test_the_cluster_is_kept_and_binding_repeats(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await stores.bind_cluster(CLUSTER_ID, PEERS)
        await stores.bind_cluster(CLUSTER_ID, PEERS)
    async with open_node(tmp_path) as stores:
        assert stores.identity.cluster_id == CLUSTER_ID
        assert stores.identity.peers == PEERS
        assert stores.log.identity == stores.identity
        more = PEERS | {NodeId(4): OTHER}
        await stores.bind_cluster(CLUSTER_ID, more)
        assert stores.log.identity.peers == more
        with pytest.raises(ForeignFiles, match="belongs to cluster 1011"):
            await stores.bind_cluster(OTHER, PEERS)


async def test_a_half_done_binding_is_completed(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await stores.bind_cluster(CLUSTER_ID, PEERS)
        old_log = shutil.copy(tmp_path / "log.db", tmp_path / "old")
        more = PEERS | {NodeId(4): OTHER}
        await stores.bind_cluster(CLUSTER_ID, more)
    shutil.move(old_log, tmp_path / "log.db")
    async with open_node(tmp_path) as stores:
        assert stores.log.identity.peers == more


async def test_a_first_start_cut_short_is_completed(tmp_path: Path) -> None:
    async with open_node(tmp_path):
        pass
    (tmp_path / "log.db").unlink()
    (tmp_path / "log.db.new").write_bytes(b"half a file")
    async with open_node(tmp_path) as stores:
        assert stores.recovery.is_new
        assert stores.log.identity == stores.identity


async def test_two_opens_of_one_directory(tmp_path: Path) -> None:
    async with open_node(tmp_path):
        with pytest.raises(DirectoryInUse, match=f"process {os.getpid()}"):
            async with open_node(tmp_path):
                pass
    async with open_node(tmp_path):
        pass


def test_another_process_is_told_who_has_the_directory(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path;"
        "from raftd.storage.directory import DirectoryLock;"
        "lock = DirectoryLock(Path(sys.argv[1])); print('held', flush=True);"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(DirectoryInUse, match=rf"raftd \(process {holder.pid}\)\."):
            DirectoryLock(tmp_path)
        holder.kill()
        holder.wait()
    DirectoryLock(tmp_path).release()


async def test_another_owner_is_named(tmp_path: Path) -> None:
    await make_bound(tmp_path)
    before = snapshot_files(tmp_path)
    with pytest.raises(ForeignFiles, match="belongs to node 1, not to node 2"):
        await open_stores(tmp_path, node_id=NodeId(2), cluster_name=CLUSTER)
    with pytest.raises(ForeignFiles, match='cluster "test", not to "prod"'):
        await open_stores(tmp_path, node_id=NODE, cluster_name="prod")
    assert snapshot_files(tmp_path) == before


async def make_other(directory: Path) -> Path:
    stores = await open_stores(directory, node_id=NODE, cluster_name=CLUSTER)
    await stores.close()
    return directory


@pytest.mark.parametrize("name", ["log.db", "state.db"])
async def test_files_of_two_directories_are_not_mixed(
    tmp_path: Path, name: str
) -> None:
    mine = await make_bound(tmp_path / "mine")
    other = await make_other(tmp_path / "other")
    shutil.copy(other / name, mine / name)
    await refuse(mine, ForeignFiles, "were not made together")


async def test_the_two_kinds_of_file_are_told_apart(tmp_path: Path) -> None:
    await make_bound(tmp_path)
    shutil.copy(tmp_path / "state.db", tmp_path / "log.db")
    await refuse(tmp_path, ForeignFiles, r"log\.db is not a raftd log database")


def make_text(path: Path) -> None:
    path.write_text("not a database at all\n" * 50)


def make_empty(path: Path) -> None:
    path.write_bytes(b"")


def make_other_database(path: Path) -> None:
    path.unlink()
    run_sql(path, "CREATE TABLE t (a)")


def make_newer(path: Path) -> None:
    patch(path, 60, struct.pack(">I", 3))


def patch(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def change_schema(path: Path) -> None:
    run_sql(path, "CREATE TABLE more (a)")


def drop_identity(path: Path) -> None:
    run_sql(path, "DELETE FROM meta WHERE name = 'identity'")


def alter_identity(path: Path) -> None:
    run_sql(path, "UPDATE meta SET crc = crc + 1 WHERE name = 'identity'")


@pytest.mark.parametrize("name", ["log.db", "state.db"])
@pytest.mark.parametrize(
    ("spoil", "error", "sentence"),
    [
        (make_text, ForeignFiles, "is not a raftd database"),
        (make_empty, ForeignFiles, "is not a raftd database"),
        (make_other_database, ForeignFiles, r"is not a raftd \w+ database"),
        (make_newer, NewerFormat, "has format 3, written by a later raftd"),
        (change_schema, DamagedFiles, "its tables are not raftd's"),
        (drop_identity, DamagedFiles, "identity record is missing"),
        (alter_identity, DamagedFiles, "checksum of its identity record"),
    ],
)
async def test_spoiled_files_are_refused(
    tmp_path: Path,
    name: str,
    spoil: Callable[[Path], None],
    error: type[StorageError],
    sentence: str,
) -> None:
    await make_bound(tmp_path)
    spoil(tmp_path / name)
    await refuse(tmp_path, error, name.replace(".", r"\.") + ".*" + sentence)


@pytest.mark.parametrize("name", ["log.db", "state.db"])
async def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    await make_bound(tmp_path)
    (tmp_path / name).unlink()
    await refuse(tmp_path, DamagedFiles, rf"{name} is missing beside")


async def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskFailed, match="Not a directory"):
        async with open_node(tmp_path / "file" / "data"):
            pass


async def test_a_state_beyond_its_log_is_damage(tmp_path: Path) -> None:
    await make_bound(tmp_path)
    old_log = shutil.copy(tmp_path / "log.db", tmp_path.parent / "old-log.db")
    async with open_node(tmp_path) as stores:
        await stores.log.write(write(entries(10, 20), commit=20))
        await stores.state.checkpoint(meta(15), [])
    shutil.move(old_log, tmp_path / "log.db")
    await refuse(tmp_path, DamagedFiles, "ends at entry 9.* entries up to 15")


async def test_a_state_older_than_its_log_is_damage(tmp_path: Path) -> None:
    await make_bound(tmp_path)
    old_state = shutil.copy(tmp_path / "state.db", tmp_path.parent / "old-state.db")
    async with open_node(tmp_path) as stores:
        await stores.state.checkpoint(meta(9), [])
        await stores.log.cut_prefix(8)
    shutil.move(old_state, tmp_path / "state.db")
    await refuse(tmp_path, DamagedFiles, "begins after entry 8.* reaches only 5")


async def test_a_state_of_another_history_is_damage(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await stores.log.write(write(entries(1, 9), hard_state=(3, 2), commit=9))
        await stores.state.checkpoint(meta(5, term=2), [])
    await refuse(tmp_path, DamagedFiles, "entry 5 has term 1, .* one of term 2")


async def test_an_install_cut_short_is_finished(tmp_path: Path) -> None:
    mark = InstallMark(OTHER, HardState(Term(4), NodeId(3)))
    directory = await make_bound(tmp_path / "node")
    async with open_node(directory) as stores:
        await install(stores, meta(50, 4, install=mark), [row(9, b"v")])
        copy_directory(directory, tmp_path / "crashed")
        await stores.log.reset(Index(50), Term(4), mark)
    for left in (directory, tmp_path / "crashed"):
        async with open_node(left) as stores:
            recovered = stores.recovery.log
            assert (recovered.first_index, recovered.last_index) == (51, 50)
            assert (recovered.previous_term, recovered.commit) == (4, 50)
            assert recovered.hard_state == mark.hard_state
            await stores.log.write(write(entries(51, 52, term=4), commit=50))
        async with open_node(left) as stores:
            assert stores.recovery.log.tail == entries(51, 52, term=4)


async def test_an_install_never_lowers_the_term(tmp_path: Path) -> None:
    mark = InstallMark(OTHER, HardState(Term(4), NodeId(3)))
    async with open_node(tmp_path) as stores:
        await stores.log.write(write(hard_state=(6, 1)))
        await install(stores, meta(50, 4, install=mark), [])
        await stores.log.reset(Index(50), Term(4), mark)
    async with open_node(tmp_path) as stores:
        assert stores.recovery.log.hard_state == HardState(Term(6), NodeId(1))
