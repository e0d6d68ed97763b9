"""Backups on the command line: a file that is there whole, or not at all."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftctl.exit_codes import ExitCode
from raftpb.v1 import cluster_pb2
from tests.cli.conftest import Ctl
from tests.cli.fake_cluster import FakeMember
from tests.cli.statuses import cluster_of, member

Message = cluster_pb2.StreamBackupResponse
FILE = b"rows" * 1000


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeMember]:
    with FakeMember() as fake:
        fake.looks = [cluster_of(member(1))]
        fake.backup = [
            Message(
                facts=cluster_pb2.BackupFacts(
                    cluster_name="shop", name="n1", version="0.2.0", state_bytes=4096
                )
            ),
            Message(chunk=FILE[:1000]),
            Message(chunk=FILE[1000:]),
            Message(
                end=cluster_pb2.BackupEnd(
                    bytes=len(FILE),
                    blake2b=hashlib.blake2b(FILE, digest_size=32).digest(),
                )
            ),
        ]
        monkeypatch.setenv("RAFTCTL_ENDPOINTS", fake.address)
        yield fake


def test_save_writes_the_file_and_says_of_what(
    offline: Ctl, fake: FakeMember, tmp_path: Path
) -> None:
    target = tmp_path / "b.backup"
    ran = offline("backup", "save", str(target))
    assert ran.code == ExitCode.OK
    assert ran.text == f"{target}: 3.9K of cluster shop, by n1\n"
    assert target.read_bytes() == FILE
    found = offline("backup", "save", str(target), "-o", "json").json
    assert found["size_bytes"] == len(FILE)
    assert found["blake2b"] == hashlib.blake2b(FILE, digest_size=32).hexdigest()
    assert (found["cluster"], found["member"]) == ("shop", "n1")
    assert [each.name for each in tmp_path.iterdir()] == ["b.backup"]


def test_progress_is_shown_on_a_terminal_only(fake: FakeMember, tmp_path: Path) -> None:
    shown, terminal = os.openpty()
    target = tmp_path / "shop.backup"
    done = subprocess.run(
        [sys.executable, "-m", "raftctl.main", "backup", "save", str(target)],
        stdout=subprocess.PIPE,
        stderr=terminal,
        check=True,
    )
    os.close(terminal)
    assert b"shop.backup" in os.read(shown, 65_536)
    os.close(shown)
    assert done.stdout.decode() == f"{target}: 3.9K of cluster shop, by n1\n"


@pytest.mark.parametrize(
    ("kept", "said"),
    [(slice(0, 3), "broke off after 4000 bytes"), (slice(0, 4, 3), "came out damaged")],
    ids=["no end", "a piece is missing"],
)
def test_a_stream_that_does_not_prove_itself_leaves_nothing(
    offline: Ctl, fake: FakeMember, tmp_path: Path, kept: slice, said: str
) -> None:
    fake.backup = fake.backup[kept]
    ran = offline("backup", "save", str(tmp_path / "b"))
    assert ran.code == ExitCode.UNAVAILABLE
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_one_sentence(
    offline: Ctl, fake: FakeMember, tmp_path: Path
) -> None:
    ran = offline("backup", "save", str(tmp_path / "no" / "b"))
    assert ran.code == ExitCode.ERROR
    assert ran.err.endswith("no such file or directory.\n")
    assert ran.err.count("\n") == 1


def test_a_pipe_or_device_is_not_replaced_by_a_backup(
    offline: Ctl, fake: FakeMember, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    for target in (str(tmp_path / "pipe"), ""):
        ran = offline("backup", "save", target)
        assert ran.code == ExitCode.ERROR
        assert ran.err.endswith("no file that a backup could be, or replace.\n")
    assert [each.is_fifo() for each in tmp_path.iterdir()] == [True]


def test_a_full_disk_is_named_and_nothing_is_left(
    offline: Ctl, fake: FakeMember, tmp_path: Path
) -> None:
    (tmp_path / "b.part").symlink_to("/dev/full")
    ran = offline("backup", "save", str(tmp_path / "b"))
    assert ran.code == ExitCode.ERROR
    assert ran.err == f"error: {tmp_path}/b.part: no space left on device.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", [["info"], ["info", "-o", "json"], ["restore"]])
def test_what_is_no_backup_is_refused_by_raftd_with_its_code(
    offline: Ctl, tmp_path: Path, verb: list[str]
) -> None:
    file = tmp_path / "b"
    file.write_bytes(b"no backup")
    where = tmp_path / "data"
    flags = [
        "--node-id",
        "1",
        "--members",
        "1=n1@h:7401/h:7400",
        "--data-dir",
        str(where),
    ]
    ran = offline("backup", *verb, str(file), *(flags if verb == ["restore"] else []))
    assert ran.code == ExitCode.ERROR
    assert ran.err.startswith("error: ")
    assert not where.exists()


@pytest.mark.parametrize("verb", ["save", "info", "restore"])
def test_a_file_that_was_not_named_is_one_sentence(offline: Ctl, verb: str) -> None:
    ran = offline("backup", verb)
    assert (ran.code, ran.out) == (ExitCode.USAGE, b"")
    assert ran.err.startswith("error: missing argument 'FILE")
    assert ran.err.endswith(f"; see raftctl backup {verb} -h.\n")
    assert ran.err.count("\n") == 1


def test_help_of_restore_is_raftd_s_own(offline: Ctl) -> None:
    ran = offline("backup", "restore", "-h")
    assert ran.code == ExitCode.OK
    assert "--data-dir" in ran.text
