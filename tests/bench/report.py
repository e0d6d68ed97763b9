"""The figures as a table for people and as JSON for programs.

Source: PERFORMANCE.md; what the columns mean is in docs/performance.md.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from typing import Any

import msgspec

from tests.bench.rounds import Row

__all__ = ["json_of", "table_of"]

_HEAD = (
    "workload",
    "op/s",
    "range",
    "p50 ms",
    "p99 ms",
    "client us/op",
    "leader us/op",
    "follower us/op",
)


def table_of(rows: Sequence[Row]) -> str:
    """Draw the table: medians over the rounds, and the range of the rate."""
    lines = [_HEAD, *map(_line, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _line(row: Row) -> tuple[str, ...]:
    low, high = row.span(lambda run: run.rate)
    return (
        row.name,
        f"{row.median(lambda run: run.rate):,.0f}",
        f"{low:,.0f} - {high:,.0f}",
        f"{row.median(lambda run: run.p50_us) / 1000:.2f}",
        f"{row.median(lambda run: run.p99_us) / 1000:.2f}",
        f"{row.median(lambda run: run.cpu_us['client']):.1f}",
        f"{row.median(lambda run: run.cpu_us['leader']):.1f}",
        f"{row.median(lambda run: _follower_us(run.cpu_us)):.1f}",
    )


def _follower_us(cpu_us: dict[str, float]) -> float:
    """Return what one follower used: the mean over them."""
    each = [us for role, us in cpu_us.items() if role.startswith("follower")]
    return sum(each) / len(each)


def json_of(rows: Sequence[Row]) -> bytes:
    """Return every run of every workload, and on what they ran."""
    told: dict[str, Any] = {
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "workloads": [
            {"name": row.name, "in_flight": row.tasks, "runs": row.runs} for row in rows
        ],
    }
    return msgspec.json.format(msgspec.json.encode(told))
