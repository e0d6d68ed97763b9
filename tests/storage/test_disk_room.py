"""Room is held, given back and counted; files that change hands are told."""

import errno
import os
from pathlib import Path

import pytest

from raftd.storage.ballast import Ballast, disk_space, free_bytes
from raftd.storage.errors import DiskFailed, DiskFull, translate_errors
from raftd.storage.file_watch import FileWatch
from tests.storage.tools import entries, open_node, write

MIB = 1024 * 1024


def test_a_ballast_takes_room_and_gives_it_back(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "ballast", 3 * MIB)
    assert not ballast.is_full
    assert ballast.fill()
    assert ballast.is_full
    found = (tmp_path / "ballast").stat()
    assert found.st_blocks * 512 >= 3 * MIB
    assert found.st_mode & 0o077 == 0
    assert ballast.fill()
    ballast.release()
    ballast.release()
    assert not ballast.is_full
    assert not (tmp_path / "ballast").exists()


def test_a_sparse_file_is_no_ballast(tmp_path: Path) -> None:
    path = tmp_path / "ballast"
    with path.open("wb") as file:
        file.truncate(MIB)
    ballast = Ballast(path, MIB)
    assert not ballast.is_full
    assert ballast.fill()
    assert ballast.is_full


@pytest.mark.parametrize("size_bytes", [0, MIB, 5 * MIB])
def test_a_ballast_of_another_size_is_made_to_fit(
    tmp_path: Path, size_bytes: int
) -> None:
    assert Ballast(tmp_path / "ballast", 2 * MIB).fill()
    ballast = Ballast(tmp_path / "ballast", size_bytes)
    assert not ballast.is_full
    assert ballast.fill()
    assert ballast.is_full
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert sizes == ([size_bytes] if size_bytes else [])


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_ballast_without_room_takes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    ballast = Ballast(tmp_path / "ballast", MIB)
    assert not ballast.fill()
    assert not ballast.is_full
    assert not (tmp_path / "ballast").exists()


def test_another_error_of_a_ballast_is_raised(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "none" / "ballast", MIB)
    with pytest.raises(DiskFailed, match="No such file or directory"):
        ballast.fill()


def test_free_room_is_what_the_system_says(tmp_path: Path) -> None:
    free, total = disk_space(tmp_path)
    assert 0 < free <= total
    assert abs(free_bytes(tmp_path) - free) < total // 10
    with pytest.raises(DiskFailed, match="Cannot look at"):
        free_bytes(tmp_path / "none")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_the_systems_want_of_room_is_ours(tmp_path: Path, code: int) -> None:
    with (
        pytest.raises(DiskFull, match=r"no space is left on the disk\.$"),
        translate_errors(tmp_path, "write"),
    ):
        raise OSError(code, os.strerror(code))


NAMES = ("log.db", "log.db-wal", "state.db", "state.db-wal")


@pytest.mark.parametrize("name", NAMES)
async def test_a_file_that_is_taken_away_or_replaced_is_told(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    async with open_node(tmp_path) as stores:
        await stores.log.write(write(entries(1, 9), hard_state=(1, None)))
        assert stores.files_replaced() is None
        path.rename(tmp_path / "elsewhere")
        sentence = stores.files_replaced()
        assert sentence == (
            f"{path} was taken from under the running node: No such file or directory."
        )
        path.write_bytes((tmp_path / "elsewhere").read_bytes())
        assert stores.files_replaced() == (
            f"{path} was replaced by another file under the running node."
        )
        (tmp_path / "elsewhere").replace(path)
        assert stores.files_replaced() is None


async def test_work_and_merges_replace_no_file(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await stores.log.write(write(entries(1, 9000), hard_state=(1, None)))
        await stores.bind_cluster(
            bytes(16), {stores.identity.node_id: bytes(range(16))}
        )
        assert await stores.state.merge()
        await stores.log.write(write(entries(9001, 9002)))
        assert stores.files_replaced() is None


def test_what_is_not_there_cannot_be_watched(tmp_path: Path) -> None:
    with pytest.raises(DiskFailed, match="Cannot look at"):
        FileWatch([tmp_path / "none"])
