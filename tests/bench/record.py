"""``bench.json``: every run, on what it ran, and what was left out; written and read.

Rules: the runs are the facts, the comparisons are computed from them and written for
programs that do not want to. Records of several benchmarks can be read as one: each
one's rounds follow those of the one before, so that a ratio never crosses two records.

Source: PERFORMANCE.md (the harness writes ``bench.json``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from tests.bench.environment import Environment
from tests.bench.results import Results, Turn
from tests.bench.sections import SectionRow

__all__ = ["Record", "RecordError", "json_of", "read_records"]


class RecordError(Exception):
    """A file is no record of a benchmark."""


class Record(msgspec.Struct, frozen=True):
    """One benchmark.

    Attributes:
        environment: On what it ran.
        rounds: How many.
        warm_up_s: Before each measurement.
        measured_s: Of each measurement.
        turns: Every run, in order.
        left_out: What could not be run, and why.
        rows: Of the longer parts.
    """

    environment: Environment
    rounds: int
    warm_up_s: float
    measured_s: float
    turns: tuple[Turn, ...]
    left_out: tuple[str, ...]
    rows: tuple[SectionRow, ...] = ()


def json_of(record: Record) -> bytes:
    """Return the record for programs, with the comparisons beside it."""
    told: dict[str, Any] = {
        **msgspec.structs.asdict(record),
        "comparisons": [
            {
                **msgspec.structs.asdict(each),
                "figure": each.figure,
                "goal": None if each.goal is None else str(each.goal),
                "is_met": each.is_met,
            }
            for each in Results(record.turns).comparisons()
        ],
    }
    return msgspec.json.format(msgspec.json.encode(told)) + b"\n"


def read_records(files: Sequence[Path]) -> Record:
    """Read records as one; the environment is the last one's, with every commit.

    What a measurement of rates lasted is the last one's that has rates.

    Args:
        files: At least one.

    Raises:
        RecordError: One cannot be read; the sentence names it.
    """
    assert files, "at least one file"
    records = [_read(file) for file in files]
    turns: list[Turn] = []
    for record in records:
        before = 1 + max((turn.round for turn in turns), default=-1)
        turns += [
            msgspec.structs.replace(turn, round=before + turn.round)
            for turn in record.turns
        ]
    versions = {
        name: version
        for record in records
        for name, version in record.environment.versions.items()
    }
    commits = ", ".join(dict.fromkeys(each.environment.commit for each in records))
    on = records[-1].environment
    last = next((record for record in reversed(records) if record.turns), records[-1])
    return Record(
        msgspec.structs.replace(on, versions=versions, commit=commits),
        last.rounds,
        last.warm_up_s,
        last.measured_s,
        tuple(turns),
        tuple(dict.fromkeys(told for record in records for told in record.left_out)),
        tuple(row for record in records for row in record.rows),
    )


def _read(file: Path) -> Record:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Record)
    except OSError as error:
        raise RecordError(f"{file}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise RecordError(f"{file} is no record of a benchmark: {error}") from error
