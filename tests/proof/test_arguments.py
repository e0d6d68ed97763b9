"""Arguments that make no sense are refused before anything is begun."""

from __future__ import annotations

import argparse
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.checkers.__main__ import main as checkers
from tests.proof import arguments
from tests.proof.__main__ import main as proof
from tests.proof.seeds import ROOT
from tests.service.__main__ import main as service
from tests.sim.__main__ import main as sim

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


@pytest.mark.parametrize(
    ("main", "words", "why"),
    [
        (sim, "--seed abc", "'abc' is no whole number from 0 on"),
        (sim, "--seed -1", "'-1' is no whole number from 0 on"),
        (sim, "--seed 3 --results rows.jsonl", "--results means nothing to a plain"),
        (sim, "--minutes 3", "--minutes means nothing to a plain run"),
        (sim, "--soak --trace", "--trace means nothing to --soak"),
        (sim, "--soak --gate", "--gate and --soak cannot be done at once"),
        (sim, "--hashes --planted x", "--planted means nothing to --hashes"),
        (service, "--seed 3 --results rows.jsonl", "--results means nothing to a pl"),
        (service, "--seeds 3 --history h.jsonl", "--history means nothing to many"),
        (service, "--seed 3 4 --history h.jsonl", "takes the history of one --seed"),
        (service, "--seed 3 4 --seeds 9", "begin at one --seed, not at several"),
        (service, "--seeds 3 --of abc", "--of means nothing without --commit"),
        (service, "--gate --jobs 2", "--jobs means nothing to --gate"),
        (checkers, "judge", "the following arguments are required: files"),
        (proof, "--rows .", "there is no file ."),
        (proof, "--to no/where.md", "there is no directory no"),
    ],
)
def test_what_would_be_passed_over_is_refused_in_one_sentence(
    main: Callable[[list[str]], int],
    words: str,
    why: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert told.err.startswith("error: ")
    assert why in told.err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("sim LEVEL=C", "LEVEL is A or B, not 'C'"),
        ("sim-soak LEVEL=b", "LEVEL is A or B, not 'b'"),
        ("sim LEVEL=B STEPS=100", "STEPS means nothing to level B"),
    ],
)
def test_make_refuses_a_level_that_is_none(words: str, why: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", *words.split()],
        cwd=ROOT,
        env={**os.environ, "MAKEFLAGS": "", "MAKELEVEL": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 2
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert why in done.stderr


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
