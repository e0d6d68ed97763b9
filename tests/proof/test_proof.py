"""The report is made from rows alone, is fresh, and names tests that exist.

Source: RELIABILITY.md section 7.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import msgspec
import pytest

from tests.proof.__main__ import main
from tests.proof.bugs import BUGS, Bug
from tests.proof.report import report_of
from tests.proof.results import ResultsError, Row, append, load, new_row
from tests.proof.seeds import ROOT, commit_id, fresh_seeds


def row(name: str = "", **counts: object) -> Row:
    fixed = {"kind": "chaos", "name": name, "commit": "abc", "date": "2026-01-01"}
    return msgspec.convert({**fixed, **counts}, Row)


def test_the_report_is_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().err


def test_a_report_that_is_not_fresh_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "reliability.md"
    rows = tmp_path / "rows.jsonl"
    append(rows, [row("kill", runs=1)])
    options = ["--to", str(page), "--rows", str(rows)]
    assert main([*options, "--check"]) == 1
    assert "run 'make report'" in capsys.readouterr().err
    assert main(options) == 0
    assert main([*options, "--check"]) == 0
    append(rows, [row("kill", runs=1)])
    assert main([*options, "--check"]) == 1


def test_runs_add_up_and_the_longest_pause_is_the_longest(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append(path, [row("kill", runs=2, operations=1500, longest_pause_ms=900)])
    append(path, [row("kill", runs=1, lost=1, longest_pause_ms=1200, seconds=90.0)])
    page = report_of(load(path))
    found = "| kill | 3 | 0 | 1 500 | 1 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 1.20 s | 1.5 |"
    assert found in page
    assert "| all | 3 |" in page


def test_what_failed_without_a_column_of_its_own_is_shown() -> None:
    page = report_of([row("kill", runs=1, failures=1), row("cut", undecided=2)])
    assert "| kill | 1 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 1 | 0 | 0 |" in page
    assert "| cut | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 2 | 0 |" in page


def test_a_planted_bug_shows_its_newest_run() -> None:
    old = row("x", kind="mutant", commit="old", failures=1)
    page = report_of([old, row("x", kind="mutant", commit="new", median_seeds=4)])
    assert "1 planted bugs (new)" in page
    assert "not found" not in page


def test_a_broken_line_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    append(path, [row("kill")])
    path.write_bytes(path.read_bytes() + b'{"kind": "guess"}\n')
    with pytest.raises(ResultsError, match=r"rows\.jsonl:2 is not a row"):
        load(path)
    assert main(["--rows", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_rows_that_are_not_there_leave_the_report_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "reliability.md"
    page.write_text("as it was")
    with pytest.raises(SystemExit) as ended:
        main(["--rows", str(tmp_path / "none.jsonl"), "--to", str(page)])
    assert ended.value.code == 2
    assert "there is no file" in capsys.readouterr().err
    assert page.read_text() == "as it was"


def test_a_row_that_was_cut_off_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append(path, [row("kill")])
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    append(path, [row("cut"), row("loss")])
    assert [each.name for each in load(path)] == ["kill", "cut", "loss"]


def test_a_new_row_names_the_commit() -> None:
    assert commit_id().startswith(new_row("fuzz", runs=3).commit.rstrip("+"))


def test_fresh_seeds_follow_from_the_commit_and_the_purpose() -> None:
    assert fresh_seeds("a", 5, "one")[:3] == fresh_seeds("a", 3, "one")
    assert not set(fresh_seeds("a", 99, "one")) & set(fresh_seeds("b", 99, "one"))
    assert not set(fresh_seeds("a", 99, "one")) & set(fresh_seeds("a", 99, "two"))
    assert fresh_seeds("a", 2) == fresh_seeds("a", 2, commit_id())


def test_without_history_the_sources_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    with_history = commit_id()
    failed = subprocess.CompletedProcess([], 128, "", "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    assert len(commit_id()) == 40
    assert commit_id() != with_history
    assert commit_id() == commit_id()


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.test.rpartition("/")[2])
def test_what_a_bug_is_kept_as_exists(bug: Bug) -> None:
    name, _, test = bug.test.partition("::")
    text = (ROOT / name).read_text(encoding="utf-8")
    assert f"def {test.partition('[')[0]}(" in text if test else "def test_" in text
