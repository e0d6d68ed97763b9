"""Which pictures a record has: the comparison, and curves of the longer measurements.

Rules: the comparison has the name that was asked for; the others have the name of
their section after it (``bench-failover.svg``).

Source: PERFORMANCE.md (the harness writes plots).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.bench.failover import pauses_by_fault
from tests.bench.growth import curves_by_kind
from tests.bench.panels import Curve, Panel, svg_of_panels
from tests.bench.plot import svg_of
from tests.bench.record import Record
from tests.bench.results import Results
from tests.bench.sections import SectionRow
from tests.bench.soak import by_minute

__all__ = ["draw", "panels_of"]

_GROWTH_MAX: Final = 1.2
_OF_MINUTES: Final = {
    "operations a second": ("op/s",),
    "latency, ms": ("p50 ms", "p99 ms"),
    "memory, MiB": ("leader MiB", "largest follower MiB", "client MiB"),
    "files, MiB": ("log.db MiB", "state.db MiB"),
}


def draw(record: Record, file: Path) -> list[Path]:
    """Draw what there is; returns the files that were written."""
    written = []
    comparisons = Results(record.turns).comparisons()
    commit = record.environment.commit
    if comparisons:
        title = f"raftd beside others, commit {commit}"
        file.write_text(svg_of(comparisons, title), encoding="utf-8")
        written.append(file)
    for name, panels in panels_of(record.rows).items():
        beside = file.with_name(f"{file.stem}-{name}{file.suffix}")
        title = f"{name}, commit {commit}"
        beside.write_text(svg_of_panels(panels, title), encoding="utf-8")
        written.append(beside)
    return written


def panels_of(rows: Sequence[SectionRow]) -> dict[str, list[Panel]]:
    """Return the panels of each section that has curves."""
    makers: Mapping[str, Callable[[Sequence[SectionRow]], list[Panel]]] = {
        "failover": _of_failover,
        "growth": _of_growth,
        "soak": _of_soak,
    }
    found = {name: make(rows) for name, make in makers.items()}
    return {name: panels for name, panels in found.items() if panels}


def _of_failover(rows: Sequence[SectionRow]) -> list[Panel]:
    """Which share of the runs had ended their pause after how long."""
    return [
        Panel(
            f"{fault}: share of runs with writes again",
            "seconds after the fault",
            [Curve(name, _shares(pauses)) for name, pauses in systems.items()],
        )
        for fault, systems in pauses_by_fault(rows).items()
    ]


def _shares(pauses: Sequence[float]) -> list[tuple[float, float]]:
    points, share = [(0.0, 0.0)], 0.0
    for number, pause_s in enumerate(sorted(pauses), 1):
        points.append((pause_s, share))
        share = number / len(pauses)
        points.append((pause_s, share))
    return points


def _of_growth(rows: Sequence[SectionRow]) -> list[Panel]:
    return [
        Panel(
            f"{kind}: cost of an operation, against the least size",
            f"{kind} that there are",
            [Curve(name, points) for name, points in curves.items()],
            is_log=True,
            limit=_GROWTH_MAX,
        )
        for kind, curves in curves_by_kind(rows).items()
    ]


def _of_soak(rows: Sequence[SectionRow]) -> list[Panel]:
    minutes = by_minute(rows)
    if not minutes:
        return []
    return [
        Panel(
            title,
            "minutes",
            [
                Curve(name, [(at, figures[name]) for at, figures in minutes.items()])
                for name in names
            ],
        )
        for title, names in _OF_MINUTES.items()
    ]
