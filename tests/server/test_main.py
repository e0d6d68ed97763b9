"""The ``raftd`` command: what it says, and what it ends with."""

from __future__ import annotations

import resource
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raftd.server.config import options
from raftd.server.main import main, take_file_limit

_MEMBERS = "1=n1@127.0.0.1:7401/127.0.0.1:7400"


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for option in options():
        monkeypatch.delenv(
            "RAFTD_" + option.name.replace(".", "_").upper(), raising=False
        )


def _run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def _sentence(result: Result) -> str:
    """Return the one sentence of a failed start; there must be nothing else."""
    assert result.exit_code == 2, result.output
    (line,) = result.output.splitlines()
    assert line.startswith("error: ")
    return line


def test_the_version() -> None:
    result = _run("version")
    assert (result.exit_code, result.output) == (0, f"raftd {version('raftd')}\n")


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_names_every_command_and_every_setting(flag: str) -> None:
    top = _run(flag)
    assert top.exit_code == 0
    for command in ("serve", "dev", "version"):
        assert f"\n  {command} " in top.output
    serve = _run("serve", flag)
    assert serve.exit_code == 0
    for option in options():
        assert option.flag in serve.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sreve"], "No such command 'sreve'"),
        (["serve", "--node"], "No such option"),
        (["serve", "--node-id"], "requires an argument"),
        (["serve", "more"], "unexpected extra argument"),
        (["dev", "--nodes", "9"], "1<=x<=7"),
        (["dev", "--port", "x"], "not a valid integer"),
    ],
)
def test_usage_errors_end_with_2(words: list[str], said: str) -> None:
    result = _run(*words)
    assert result.exit_code == 2
    assert said in result.output
    assert "Traceback" not in result.output


def test_settings_that_are_missing_or_wrong_give_one_sentence(tmp_path: Path) -> None:
    data = ("--data-dir", str(tmp_path))
    assert "node_id" in _sentence(_run("serve", "--members", _MEMBERS, *data))
    said = _sentence(_run("serve", "--members", _MEMBERS, "--node-id", "one", *data))
    assert "--node-id" in said
    said = _sentence(_run("serve", "--members", _MEMBERS, "--node-id", "2", *data))
    assert "2" in said


def test_a_file_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    path = tmp_path / "raftd.toml"
    assert str(path) in _sentence(_run("serve", "--config", str(path)))
    path.write_text("node_id = = 1\n", encoding="utf-8")
    assert str(path) in _sentence(_run("serve", "--config", str(path)))
    path.write_text("node_it = 1\n", encoding="utf-8")
    said = _sentence(_run("serve", "--config", str(path)))
    assert "node_it" in said
    assert str(path) in said


def test_dev_refuses_another_size_than_its_folder_holds(tmp_path: Path) -> None:
    (tmp_path / "ports.json").write_text("[[1, 2, 3]]", encoding="utf-8")
    result = _run("dev", "--data-dir", str(tmp_path))
    assert result.exit_code == 1
    assert result.output == (
        f"error: {tmp_path} holds a cluster of 1 nodes, not of 3;"
        " give another --data-dir\n"
    )


@pytest.mark.parametrize("text", ["", "[[1, 2]]", '{"a": 1}', '[["x", 1, 2]]', "[3]"])
def test_dev_names_a_ports_file_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "ports.json").write_text(text, encoding="utf-8")
    result = _run("dev", "--data-dir", str(tmp_path), "--nodes", "1")
    assert result.exit_code == 1
    assert result.output == (
        f"error: {tmp_path}/ports.json cannot be read; restore it, or give"
        " another --data-dir\n"
    )


def test_a_node_takes_all_the_files_it_may_have() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        take_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
