"""What the proofs came to: one row a run, appended, so that runs add up over releases.

Rules: rows are added and never changed; each names the commit it was measured on, and
whether the tree was clean. A field that says nothing for a kind is left out.

Source: RELIABILITY.md section 7.
"""

from __future__ import annotations

import datetime
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Final, Literal

import msgspec

from tests.proof.seeds import ROOT, commit_id

__all__ = [
    "RESULTS",
    "Kind",
    "ResultsError",
    "Row",
    "append",
    "load",
    "new_row",
    "tested_commit",
]

RESULTS: Final = ROOT / "docs" / "reliability.jsonl"
"""The rows that the report is made from."""

Kind = Literal["sim_a", "sim_b", "mutant", "chaos", "fuzz", "checkers"]


class ResultsError(Exception):
    """A line of the file is not a row."""


class Row(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
):
    """One run of one proof; counts are of this run alone.

    Attributes:
        kind: Which proof.
        name: The fault, the planted bug, the fuzzed thing; empty for whole levels.
        commit: What was checked out; ends in ``+`` if files were changed.
        date: Day of the run, UTC.
        runs: Seeds, slices, examples or histories.
        failures: Of the runs.
        seconds: Wall time.
        cpu_s: CPU time; of a planted bug, for finding it once.
        events: Of the simulator.
        operations: That clients began.
        faults: That were injected.
        lost: Acknowledged, and not there at the end.
        doubled: Applied more than once.
        stale: Answers older than one given before.
        overlapping: Two holders at once.
        stuck: Did not come back after healing.
        unknown: Operations without a known outcome, before the evidence is read.
        undecided: Parts that a checker gave up on.
        longest_pause_ms: Without an acknowledged write.
        median_seeds: To find a planted bug.
        found_by: What finds a planted bug.
        breaks: The promise that a planted bug breaks, in a sentence.
        command: Repeats the run.
    """

    kind: Kind
    name: str = ""
    commit: str
    date: str
    runs: int = 0
    failures: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    events: int = 0
    operations: int = 0
    faults: int = 0
    lost: int = 0
    doubled: int = 0
    stale: int = 0
    overlapping: int = 0
    stuck: int = 0
    unknown: int = 0
    undecided: int = 0
    longest_pause_ms: int = 0
    median_seeds: int = 0
    found_by: str = ""
    breaks: str = ""
    command: str = ""


def tested_commit() -> str:
    """Return what a row has as its commit; ask before a run that takes time."""
    changed = subprocess.run(
        ["git", "-C", str(ROOT), "status", "--porcelain", "--", "raftd", "client"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return commit_id()[:12] + ("+" if changed else "")


def new_row(kind: Kind, **counts: object) -> Row:
    """Return a row of this commit, if none is given, and of this day.

    Raises:
        msgspec.ValidationError: A count that a row does not have.
    """
    return msgspec.convert(
        {
            "kind": kind,
            **({} if "commit" in counts else {"commit": tested_commit()}),
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            **counts,
        },
        Row,
    )


def append(path: Path, rows: Iterable[Row]) -> None:
    """Add rows to a file, which need not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        if file.tell() and not _ends_in_line(file):
            file.write(b"\n")  # a crash in the middle of a row
        file.writelines(msgspec.json.encode(row) + b"\n" for row in rows)


def _ends_in_line(file: BinaryIO) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def load(path: Path) -> list[Row]:
    """Read all rows.

    Raises:
        ResultsError: A line is not a row; the sentence names the line.
    """
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            rows.append(msgspec.json.decode(line, type=Row))
        except msgspec.MsgspecError as error:
            raise ResultsError(f"{path}:{number} is not a row: {error}.") from error
    return rows
