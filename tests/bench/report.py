"""The figures as tables for people, which are Markdown, too.

Source: PERFORMANCE.md; what the columns mean is in docs/performance.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from tests.bench.goals import Figure
from tests.bench.record import Record
from tests.bench.results import OURS, Comparison, Results, Spread, Turn
from tests.bench.sections import table_of
from tests.bench.tables import table

__all__ = ["comparison_table", "footing", "report_of", "run_table"]

_RUN_HEAD: Final = (
    *("workload", "system", "op/s", "range", "p50 ms", "p99 ms"),
    *("us/op", "client", "leader", "follower"),
)
_COMPARISON_HEAD: Final = (
    *("workload", "against", "of", "ours", "range", "theirs", "range"),
    *("ours / theirs", "range", "goal", ""),
)
_TEXT_COLUMNS: Final = {"workload", "system", "against", "of", "goal", ""}


def report_of(record: Record) -> str:
    """Return all of it: figures, comparison, what was left out, on what it ran."""
    results = Results(record.turns)
    parts = []
    if results.turns:
        parts.append(run_table(results))
    if results.peers:
        parts.append(comparison_table(results.comparisons()))
    if record.rows:
        parts.append(table_of(record.rows))
    if record.left_out:
        parts.append("\n".join(["Not run:", *(f"* {s}" for s in record.left_out)]))
    parts.append(footing(record))
    return "\n\n".join(parts)


def run_table(results: Results) -> str:
    """Draw each system's figures: medians over the rounds, and the rate's range."""
    lines = [
        _run_line(results, measure, system)
        for measure in results.measures
        for system in (OURS, *results.peers)
        if results.of(measure, system)
    ]
    return table(_RUN_HEAD, lines, _TEXT_COLUMNS)


def _run_line(results: Results, measure: str, system: str) -> tuple[str, ...]:
    def median(figure: Callable[[Turn], float]) -> float:
        return results.spread(measure, system, figure).median

    rate = results.spread(measure, system, lambda turn: turn.rate)
    return (
        measure,
        system,
        f"{rate.median:,.0f}",
        f"{rate.low:,.0f} - {rate.high:,.0f}",
        f"{median(lambda turn: turn.p50_us) / 1000:.2f}",
        f"{median(lambda turn: turn.p99_us) / 1000:.2f}",
        _us(median(lambda turn: turn.cpu_total_us)),
        _us(median(lambda turn: turn.cpu_us.get("client", 0.0))),
        _us(median(_leader_us)),
        _us(median(_follower_us)),
    )


def _leader_us(turn: Turn) -> float:
    """Return what the process that decides used; a single server is one."""
    return turn.cpu_us.get("leader", turn.cpu_us.get("server", 0.0))


def _follower_us(turn: Turn) -> float:
    """Return what one follower used: the mean over them, if there are any."""
    each = [us for role, us in turn.cpu_us.items() if role.startswith("follower")]
    return sum(each) / len(each) if each else 0.0


def _us(value: float) -> str:
    return f"{value:.1f}" if value else "-"


def comparison_table(comparisons: Sequence[Comparison]) -> str:
    """Draw ours beside each peer's, with the goal and whether it is met."""
    return table(
        _COMPARISON_HEAD, list(map(_comparison_line, comparisons)), _TEXT_COLUMNS
    )


def _comparison_line(each: Comparison) -> tuple[str, ...]:
    ours, theirs = _spread(each.figure, each.ours), _spread(each.figure, each.theirs)
    ratio = each.ratio
    return (
        each.measure,
        each.peer,
        "p50, ms" if each.figure is Figure.P50 else "op/s",
        *ours,
        *theirs,
        f"{ratio.median:.2f}x",
        f"{ratio.low:.2f} - {ratio.high:.2f}",
        "-" if each.goal is None else str(each.goal),
        {None: "", True: "met", False: "MISSED"}[each.is_met],
    )


def _spread(figure: Figure, spread: Spread) -> tuple[str, str]:
    match figure:
        case Figure.RATE:
            return f"{spread.median:,.0f}", f"{spread.low:,.0f} - {spread.high:,.0f}"
        case Figure.P50:
            low, high = spread.low / 1000, spread.high / 1000
            return f"{spread.median / 1000:.2f}", f"{low:.2f} - {high:.2f}"


def footing(record: Record) -> str:
    """Say how often it was measured, what, and on which machine."""
    on = record.environment
    versions = ", ".join(f"{name} {what}" for name, what in on.versions.items())
    core = "compiled core" if on.is_core_compiled else "no compiled core"
    return (
        f"{_how(record)}{versions}; commit {on.commit or 'unknown'}, {core};"
        f" {on.python}, {on.kernel}, {on.processors} processors ({on.processor}),"
        f" {on.memory_mib} MiB, {on.file_system}; {on.date} UTC"
    )


def _how(record: Record) -> str:
    """Say of how many runs a median is, be it several records at once."""
    results = Results(record.turns)
    counts = {len(results.of(measure, OURS)) for measure in results.measures}
    if not counts:
        return ""
    rounds = " to ".join(map(str, sorted({min(counts), max(counts)})))
    return (
        f"Median of {rounds} rounds of {record.measured_s:g} s each; us/op: processor"
        " time per operation of all processes.\nEvery write was found again after its"
        " run.\n"
    )
