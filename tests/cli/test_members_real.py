"""Members, leadership, doctor and backup on the command line, against a real node."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftctl.exit_codes import ExitCode
from tests.cli.conftest import Ctl


def test_a_member_comes_as_a_learner_and_goes_again(ctl: Ctl) -> None:
    ctl("put", "members/any", "1")  # by then there is a leader
    (only,) = ctl("member", "ls", "-o", "json").json
    assert (only["name"], only["kind"]) == ("n1", "voter")
    added = ctl("member", "add", "n2", "127.0.0.1:9", "-o", "json").json
    assert added["kind"] == "learner"
    assert added["command"][:2] == ["raftd", "serve"]
    assert ["--join", only["peer_address"]] == added["command"][4:6]
    again = ctl("member", "add", "n2", "127.0.0.1:9")
    assert again.code == ExitCode.PRECONDITION
    assert "n2" in again.err
    kinds = [each["kind"] for each in ctl("doctor", "-o", "json").json]
    assert "learner_absent" in kinds
    assert ctl("leader", "transfer", "n2").code == ExitCode.PRECONDITION
    removed = ctl("member", "remove", "n2")
    assert removed.code == ExitCode.OK
    assert removed.text.startswith("n2 (id ")
    assert ctl("member", "ls", "-o", "value").text == "n1\n"


def test_the_last_voter_stays(ctl: Ctl) -> None:
    ran = ctl("member", "remove", "n1")
    assert ran.code == ExitCode.PRECONDITION
    assert ran.err.startswith("error: ")
    assert ran.err.count("\n") == 1


def test_one_voter_is_a_risk(ctl: Ctl) -> None:
    ctl("put", "members/any", "1")
    ran = ctl("doctor")
    assert ran.code == ExitCode.ERROR
    assert "warning: The cluster has one voter." in ran.text
    assert "raftctl member add" in ran.text


def test_a_renamed_member_keeps_its_address(ctl: Ctl) -> None:
    before = ctl("member", "ls", "-o", "json").json[0]
    assert ctl("member", "update", "n1", "--name", "first").code == ExitCode.OK
    assert ctl("status", "-o", "value").text == "first\n"
    assert ctl("member", "update", "first", "--name", "n1").code == ExitCode.OK
    assert ctl("member", "ls", "-o", "json").json[0] == before


def test_a_backup_is_saved_looked_into_and_restored(ctl: Ctl, tmp_path: Path) -> None:
    revision = int(ctl("put", "backup/key", "value").text)
    file = tmp_path / "b"
    saved = ctl("backup", "save", str(file), "-o", "json").json
    info = ctl("backup", "info", str(file), "-o", "json").json
    assert info["cluster_id"] == saved["cluster_id"]
    assert info["bytes"] == saved["size_bytes"]
    assert info["revision"] >= revision
    assert info["counts"]["keys"] >= 1
    human = ctl("backup", "info", str(file))
    assert human.code == ExitCode.OK
    assert "whole" in human.text
    data = tmp_path / "data"
    member = "1=n1@127.0.0.1:7401/127.0.0.1:7400"
    flags = ["--node-id", "1", "--members", member, "--data-dir", str(data)]
    ran = ctl("backup", "restore", str(file), *flags)
    assert ran.code == ExitCode.OK, ran.err
    assert (data / "state.db").is_file()
    assert ctl("backup", "restore", str(file), *flags).code == ExitCode.ERROR


@pytest.mark.parametrize("at", [0.0, 0.5, 0.99])
def test_a_flipped_bit_is_refused(ctl: Ctl, tmp_path: Path, at: float) -> None:
    file = tmp_path / "b"
    assert ctl("backup", "save", str(file)).code == ExitCode.OK
    data = bytearray(file.read_bytes())
    data[int(at * len(data))] ^= 1
    file.write_bytes(data)
    ran = ctl("backup", "info", str(file))
    assert ran.code == ExitCode.ERROR
    assert ran.err.startswith("error: ")
    assert ran.out == b""
