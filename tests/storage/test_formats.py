"""Files of format 1 are read and lifted; those of a later format are left alone."""

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from raftd.storage.chunks import pack
from raftd.storage.errors import DamagedFiles, NewerFormat
from raftd.storage.files import IDENTITY, META_UPSERT, encode_meta
from raftd.storage.identity import FORMAT_VERSION, Identity
from tests.storage.tools import (
    CLUSTER_ID,
    PEERS,
    copy_directory,
    entries,
    meta,
    newest,
    open_node,
    row,
    run_sql,
    snapshot_files,
    write,
)

FILES = ("log.db", "state.db")


async def make_node(directory: Path) -> Identity:
    async with open_node(directory) as stores:
        await stores.bind_cluster(CLUSTER_ID, PEERS)
        await stores.log.write(write(entries(1, 9), hard_state=(1, None), commit=9))
        await stores.state.checkpoint(meta(5), pack([row(1, b"v")]))
        return stores.identity


def set_format(path: Path, identity: Identity, version: int) -> None:
    """Have a file say another format in both places, as the raftd of that did."""
    run_sql(path, f"PRAGMA user_version={version}")
    changed = msgspec.structs.replace(identity, format_version=version)
    run_sql(path, META_UPSERT, encode_meta(IDENTITY, changed))


def format_in(path: Path) -> int:
    return int.from_bytes(path.read_bytes()[60:64], "big")


@pytest.mark.parametrize("names", [FILES, ("log.db",), ("state.db",)])
async def test_format_1_is_read_and_lifted(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    node = tmp_path / "node"
    identity = await make_node(node)
    for name in names:
        set_format(node / name, identity, 1)
    async with open_node(node) as stores:
        assert stores.identity == stores.log.identity == identity
        assert stores.recovery.checkpoint == meta(5)
        assert newest(list(stores.state.load())) == {(1, b"\0\0\0\1"): b"v"}
        assert [format_in(node / name) for name in FILES] == [2, 2]
        crashed = copy_directory(node, tmp_path / "crashed")
    async with open_node(crashed) as stores:
        assert stores.identity.format_version == FORMAT_VERSION == 2


def spoil_header(path: Path, identity: Identity) -> None:
    data = bytearray(path.read_bytes())
    data[63] = 3
    path.write_bytes(data)


def spoil_identity(path: Path, identity: Identity) -> None:
    changed = msgspec.structs.replace(identity, format_version=3)
    run_sql(path, META_UPSERT, encode_meta(IDENTITY, changed))


def spoil_write_ahead_log(path: Path, identity: Identity) -> None:
    """Leave it as a later raftd does that lifted the file and was killed."""
    wal = path.with_name(path.name + "-wal")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA user_version=3")
        image = path.read_bytes(), wal.read_bytes()
    path.write_bytes(image[0])
    wal.write_bytes(image[1])
    assert format_in(path) == 2


@pytest.mark.parametrize("spoil", [spoil_header, spoil_identity, spoil_write_ahead_log])
@pytest.mark.parametrize("name", FILES)
async def test_a_later_format_is_told_and_nothing_touched(
    tmp_path: Path, name: str, spoil: object
) -> None:
    identity = await make_node(tmp_path)
    assert callable(spoil)
    spoil(tmp_path / name, identity)
    before = snapshot_files(tmp_path)
    for _ in range(2):
        with pytest.raises(NewerFormat, match=rf"{name} has format 3, .* up to 2\.$"):
            async with open_node(tmp_path):
                pass
        assert snapshot_files(tmp_path) == before


async def test_there_is_no_format_0(tmp_path: Path) -> None:
    identity = await make_node(tmp_path)
    set_format(tmp_path / "log.db", identity, 0)
    with pytest.raises(DamagedFiles, match="there is no format 0"):
        async with open_node(tmp_path):
            pass
