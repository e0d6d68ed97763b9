"""The command line: exit codes, a line for each checker, a table of proofs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.checkers.__main__ import main
from tests.checkers.history import History, save
from tests.checkers.judge import CHECKERS
from tests.checkers.records import Meta, Op
from tests.checkers.synthetic import synthesize
from tests.proof.results import load as results_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def legal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("histories") / "legal.jsonl"
    save(synthesize(3, seconds=8.0), path)
    return path


def test_a_legal_history_ends_with_0(
    legal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["judge", str(legal)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == list(CHECKERS)
    assert {line.split()[2] for line in lines} == {"legal"}


def test_a_corrupted_copy_ends_with_1(
    legal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bad.jsonl"
    assert main(["corrupt", str(legal), "--how", "lost-key", "-o", str(out)]) == 0
    assert main(["judge", str(legal), str(out)]) == 1
    told = capsys.readouterr().out
    assert f"{out}: witness    illegal  in the end key " in told


def test_what_cannot_be_judged_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare.jsonl"
    op = Op(id=1, client="a", name="get", call_us=1, args={"key": "k"})
    save(History(meta=Meta(made_by="test"), ops=[op]), bare)
    assert main(["judge", str(bare)]) == 2
    assert main(["judge", str(tmp_path / "nothing.jsonl")]) == 2
    assert "nothing.jsonl cannot be read" in capsys.readouterr().err
    out = str(tmp_path / "out.jsonl")
    assert main(["corrupt", str(bare), "--how", "lost-job", "-o", out]) == 2
    assert "there is no job in the end" in capsys.readouterr().err


def test_what_cannot_be_judged_does_not_hide_what_is_illegal(
    legal: Path, tmp_path: Path
) -> None:
    bad, bare = str(tmp_path / "bad.jsonl"), str(tmp_path / "bare.jsonl")
    op = Op(id=1, client="a", name="get", call_us=1, args={"key": "k"})
    save(History(meta=Meta(made_by="test"), ops=[op]), tmp_path / "bare.jsonl")
    assert main(["corrupt", str(legal), "--how", "lost-key", "-o", bad]) == 0
    for others in ([bad, bare], [bare, bad], [bad, str(tmp_path / "none.jsonl")]):
        assert main(["judge", *others]) == 1


def test_a_proof_says_of_each_corruption_who_refused_it(
    legal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results.jsonl"
    assert main(["prove", str(legal), "--results", str(results)]) == 0
    verdicts, proofs = capsys.readouterr().out.split("\n\n")
    assert len(verdicts.splitlines()) == len(CHECKERS)
    assert len(proofs.splitlines()) > 40
    assert all(line.split()[2] == "illegal" for line in proofs.splitlines())
    rows = results_of(results)
    assert [row.name for row in rows] == list(CHECKERS)
    assert sum(row.runs for row in rows) == len(CHECKERS) + len(proofs.splitlines())
    assert not any(row.failures for row in rows)
