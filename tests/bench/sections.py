"""What the longer measurements tell: rows of figures, by section, as text and JSON.

A section is one measurement (growth, sizes, failover, soak, ...). Each has a module
with ``main(argv)`` for itself and ``run(plan, say, keep)`` that returns its rows.

Rules: a figure's name ends in its unit; a goal is a sentence from PERFORMANCE.md and
``is_met`` says whether this run met it. A row that could not be measured says why in
its note, and has no figures.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from tests.bench.measure import quantile
from tests.bench.tables import table

__all__ = ["Keep", "Say", "SectionRow", "forget", "spread", "table_of"]

Say = Callable[[str], None]
"""Told what is being done."""

_TEXTS: Final = ("goal", "met", "note")
_WHOLE: Final = 1000.0


class SectionRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of a section's table.

    Attributes:
        section: By name.
        name: What was measured, unique in the section.
        figures: By name with unit, in the order of the columns.
        goal: What was to be reached; empty = nothing was.
        is_met: Whether it was; None = there is no goal, or no figure.
        note: What bounds it, or why there is no figure.
        samples: The single runs, by figure, where there are many.
    """

    section: str
    name: str
    figures: dict[str, float] = {}
    goal: str = ""
    is_met: bool | None = None
    note: str = ""
    samples: dict[str, list[float]] = {}


Keep = Callable[[Sequence[SectionRow]], None]
"""Told all rows so far, whenever there is one more."""


def forget(rows: Sequence[SectionRow]) -> None:
    """Keep nothing: the rows come back in the end."""
    assert rows, "there is one more"


def spread(values: Iterable[float], unit: str) -> dict[str, float]:
    """Return least, median, 90th percentile and greatest as figures."""
    ordered = sorted(values)
    assert ordered, "a spread is of something"
    return {
        f"min {unit}": ordered[0],
        f"p50 {unit}": statistics.median(ordered),
        f"p90 {unit}": quantile(ordered, 0.9),
        f"max {unit}": ordered[-1],
    }


def table_of(rows: Sequence[SectionRow]) -> str:
    """Draw the rows, a table for each section."""
    sections = dict.fromkeys(row.section for row in rows)
    drawn = (_draw(name, [r for r in rows if r.section == name]) for name in sections)
    return "\n\n".join(drawn)


def _draw(section: str, rows: Sequence[SectionRow]) -> str:
    columns = [*dict.fromkeys(name for row in rows for name in row.figures)]
    lines = [(section, *columns, *_TEXTS)]
    for row in rows:
        figures = [_figure(row.figures.get(name)) for name in columns]
        met = {None: "", True: "yes", False: "NO"}[row.is_met]
        lines.append((row.name, *figures, row.goal, met, row.note))
    kept = [column for column in zip(*lines, strict=True) if any(column[1:])]
    head, *cells = zip(*kept, strict=True)
    return table(head, cells, {section, *_TEXTS})


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= _WHOLE else f"{value:.3g}"
