"""Arguments that make no sense are refused before anything is begun."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import pytest

from tests.proof import arguments

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize(
    ("take", "text", "value"),
    [
        (arguments.natural, "0", 0),
        (arguments.count, "7", 7),
        (arguments.span, "0.5", 0.5),
    ],
)
def test_what_makes_sense_is_taken(
    take: Callable[[str], object], text: str, value: object
) -> None:
    assert take(text) == value


@pytest.mark.parametrize(
    ("take", "text"),
    [
        (arguments.natural, "-1"),
        (arguments.natural, "one"),
        (arguments.count, "0"),
        (arguments.count, "1.5"),
        (arguments.span, "0"),
        (arguments.span, "-3"),
        (arguments.span, "nan"),
        (arguments.span, "inf"),
        (arguments.span, "soon"),
    ],
)
def test_what_makes_none_is_named(take: Callable[[str], object], text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is no "):
        take(text)


def test_files_are_looked_at_first(tmp_path: Path) -> None:
    there = tmp_path / "there.jsonl"
    there.write_text("")
    assert arguments.existing_file(str(there)) == there
    assert arguments.new_file(str(there)) == there
    assert arguments.new_file(str(tmp_path / "new")) == tmp_path / "new"
    for take, path, why in (
        (arguments.existing_file, tmp_path / "none", "there is no file"),
        (arguments.existing_file, tmp_path, "there is no file"),
        (arguments.new_file, tmp_path, "is a directory"),
        (arguments.new_file, tmp_path / "none" / "new", "there is no directory"),
    ):
        with pytest.raises(argparse.ArgumentTypeError, match=why):
            take(str(path))
