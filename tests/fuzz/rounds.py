"""One round of all fuzz tests, and what many rounds come to.

A round is a run of pytest in a process of its own, from one seed: what fails in it is
repeated by its command line.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Final, Self

import msgspec

from tests.fuzz.profiles import COUNTS_VARIABLE, PROFILE_VARIABLE
from tests.proof.seeds import ROOT

__all__ = ["Round", "Total", "command_of", "run_round"]


FOLDERS: Final = (
    "tests/fuzz",
    "tests/consensus",
    "tests/sockets",
    "tests/statemachine",
    "tests/storage",
    "tests/transport",
)
"""Where there are tests of drawn values; those outside the first are not counted."""


class Round(msgspec.Struct):
    """What a round came to.

    Attributes:
        examples: By test, as ``module.test``.
        failed: Tests that failed, as pytest names them.
        output: What pytest said.
    """

    examples: dict[str, int]
    failed: list[str]
    output: str = ""

    def encoded(self) -> bytes:
        """Return it as JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def decoded(cls, data: bytes) -> Self:
        """Read what ``encoded`` wrote."""
        return msgspec.json.decode(data, type=cls)


class Total:
    """Many rounds, by module."""

    def __init__(self) -> None:
        self.examples: Final[Counter[str]] = Counter()
        self.failures: Final[Counter[str]] = Counter()

    def add(self, found: Round) -> None:
        """Add a round."""
        for name, count in found.examples.items():
            self.examples[_topic(name.partition(".")[0])] += count
        for name in found.failed:
            self.failures[_topic(Path(name.partition("::")[0]).stem)] += 1

    def lines(self) -> list[str]:
        """Return a table for people."""
        return [
            f"{name:<16}{self.examples[name]:>9} examples, {self.failures[name]} failed"
            for name in sorted({*self.examples, *self.failures})
        ]


def _topic(module: str) -> str:
    return module.removeprefix("test_").replace("_", " ")


def command_of(seed: int) -> str:
    """Return what repeats a round."""
    return (
        f"{PROFILE_VARIABLE}=soak .venv/bin/python -m pytest -m hypothesis"
        f" --hypothesis-seed={seed} {' '.join(FOLDERS)}"
    )


def run_round(seed: int) -> Round:
    """Run all fuzz tests once, at random from a seed."""
    with tempfile.TemporaryDirectory() as folder:
        counts = Path(folder) / "counts"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
                *("-m", "hypothesis", f"--hypothesis-seed={seed}", *FOLDERS),
            ],
            cwd=ROOT,
            env={**os.environ, PROFILE_VARIABLE: "soak", COUNTS_VARIABLE: str(counts)},
            capture_output=True,
            text=True,
            check=False,
        )
        if not counts.exists():
            return Round({}, ["pytest::"], done.stdout + done.stderr)
        found = Round.decoded(counts.read_bytes())
    found.output = done.stdout
    return found
