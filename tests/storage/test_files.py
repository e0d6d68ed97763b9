"""What is there at start is written once more and synced before it is trusted."""

import os
from pathlib import Path

import pytest

from raftd.storage.errors import DiskFailed
from raftd.storage.files import rewrite_bytes, wal_path
from tests.storage.tools import copy_directory, entries, open_node, write

Call = tuple[str, str]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Names of the files written and synced by this process, in order."""
    seen: list[Call] = []
    real_write, real_sync = os.pwrite, os.fsync

    def name_of(handle: int) -> str:
        return Path(f"/proc/self/fd/{handle}").readlink().name

    def pwrite(handle: int, data: bytes, offset: int) -> int:
        seen.append(("write", name_of(handle)))
        # As short as the system may make it.
        return real_write(handle, data[:100_000], offset)

    def fsync(handle: int) -> None:
        seen.append(("sync", name_of(handle)))
        real_sync(handle)

    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(os, "fsync", fsync)
    return seen


async def test_a_crashed_log_is_written_again_before_it_is_trusted(
    tmp_path: Path, calls: list[Call]
) -> None:
    running, node = tmp_path / "running", tmp_path / "node"
    async with open_node(running) as stores:
        await stores.log.write(write(entries(1, 9), hard_state=(1, None)))
        await stores.log.write(write(entries(10, 10000)))
        copy_directory(running, node)
    calls.clear()
    async with open_node(node) as stores:
        assert stores.recovery.log.last_index == 10_000
        assert calls.count(("write", "log.db-wal")) > 2
        assert ("sync", "log.db-wal") in calls
        # And SQLite moved all of it into the file, which syncs once more.
        assert wal_path(node / "log.db").stat().st_size == 0


def test_rewriting_changes_no_byte(tmp_path: Path, calls: list[Call]) -> None:
    path = tmp_path / "file"
    data = os.urandom(1_234_567)
    path.write_bytes(data)
    rewrite_bytes(path)
    assert path.read_bytes() == data
    assert calls[-1] == ("sync", "file")


def test_nothing_is_rewritten_where_nothing_is(tmp_path: Path) -> None:
    rewrite_bytes(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_sync_that_fails_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"data")

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DiskFailed, match=r"Cannot rewrite .*file: Input/output error"):
        rewrite_bytes(path)
