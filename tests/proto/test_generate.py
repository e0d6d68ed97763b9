"""Generated code: what is stale is found and named, what is fresh stays untouched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from proto import generate

if TYPE_CHECKING:
    import pytest

FRESH = {Path("a_pb2.py"): b"1", Path("b_pb2.py"): b"2"}


def test_missing_different_and_left_over_files_are_stale() -> None:
    present = {Path("b_pb2.py"): b"old", Path("gone_pb2.py"): b"3"}
    assert generate.stale_files(FRESH, present) == [
        Path("a_pb2.py"),
        Path("b_pb2.py"),
        Path("gone_pb2.py"),
    ]
    assert generate.stale_files(FRESH, dict(FRESH)) == []


def test_writing_makes_the_folder_hold_exactly_the_generated_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "GENERATED_ROOT", tmp_path)
    (tmp_path / "b_pb2.py").write_bytes(b"old")
    (tmp_path / "gone_pb2.py").write_bytes(b"3")
    generate.write(FRESH, generate.stale_files(FRESH, generate.contents(tmp_path)))
    assert generate.contents(tmp_path) == FRESH


def test_check_names_the_stale_file_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "GENERATED_ROOT", tmp_path)
    monkeypatch.setattr(generate, "generated", lambda: FRESH)
    (tmp_path / "a_pb2.py").write_bytes(b"1")
    assert generate.main(["--check"]) == 1
    assert capsys.readouterr().err == (
        "error: proto/gen is stale (b_pb2.py): run 'make proto' and commit the"
        " result.\n"
    )
    assert generate.contents(tmp_path) == {Path("a_pb2.py"): b"1"}


def test_a_description_that_protoc_refuses_is_an_error_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "PROTO_ROOT", tmp_path)
    folder = tmp_path / generate.PACKAGE
    folder.mkdir()
    assert generate.main(["--check"]) == 1
    assert "no .proto files" in capsys.readouterr().err
    (folder / "broken.proto").write_text("this is no proto", encoding="utf-8")
    assert generate.main(["--check"]) == 1
    assert "broken.proto:1:1" in capsys.readouterr().err
