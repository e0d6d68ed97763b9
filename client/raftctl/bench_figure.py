"""Draws what ``raftctl bench`` measured: for each workload its rate and its latencies.

Rules: nothing is told by colour alone, so that it can be read in grey and by everybody:
lines differ in style and carry their names, pauses are hatched. No window is opened and
no setting of the user's own matplotlib is used. This module takes half a second to
load and needs an extra package: only ``raftctl.bench_plot`` loads it, when asked to.

Source: CLI.md; docs/adr/0002-dependencies.md.
"""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from raftclient import ClusterStatus
from raftctl.bench_loop import Latencies
from raftctl.bench_run import Plan, Row
from raftctl.bench_timeline import Pause, Timeline
from raftctl.bench_told import cluster_name, settings_text
from raftctl.output import printable

__all__ = ["figure_of", "rendered"]

_BLUE: Final = "#0072b2"
_PALE_BLUE: Final = "#cfe3f0"
_RED: Final = "#d55e00"
_PALE_RED: Final = "#f7dfcf"
_DARK: Final = "#202020"
"""Blue and vermilion stay apart for every kind of colour blindness, and in grey."""

_STYLE: Final[dict[Any, Any]] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.0,
    "axes.titleweight": "bold",
    "font.size": 8.0,
    "grid.color": "#e0e0e0",
    "grid.linewidth": 0.6,
    "hatch.color": _RED,
    "hatch.linewidth": 0.7,
    "text.parse_math": False,  # names may have dollars
}
_ON_WHITE: Final = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
_WIDTH_IN: Final = 10.0
_HEADING_IN: Final = 1.1
_ROW_IN: Final = 1.9
_DOTS_PER_IN: Final = 150
_HEADING_CHARS: Final = 110
_ERRORS_CHARS: Final = 55
_NAME_CHARS: Final = 60

_OPERATIONS_PER_STEP: Final = 20
_ROUNDS_PER_STEP: Final = 4
"""What is in flight at once ends at once, often; fewer would draw that as steps."""
_PAUSE_S: Final = 0.1
"""Shorter ones are drawn only if nothing was longer: machines hesitate all the time."""
_PAUSE_OPERATIONS: Final = 5
"""A pause is longer than so many ordinary operations, however slow they are."""
_SPAN_S_MIN: Final = 1e-7
"""A logarithmic axis has no 0."""
_WIDE: Final = 1000
"""Where an axis spans more, it has room for one number in each power of ten."""
_CAPTION: Final = (
    "hatched: nothing was acknowledged (the longest such pause, and all others of"
    f" {_PAUSE_S * 1000:.0f} ms or more); bars are equally wide on their logarithmic"
    " axis"
)


def rendered(figure: Figure, kind: str) -> bytes:
    """Return a picture as a file's bytes.

    Args:
        figure: What is drawn.
        kind: ``png``, ``svg`` or ``pdf``.
    """
    stream = io.BytesIO()
    with _style(), warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes.
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(stream, format=kind, dpi=_DOTS_PER_IN)
    return stream.getvalue()


def figure_of(
    plan: Plan, status: ClusterStatus, rows: Sequence[Row], when: datetime
) -> Figure:
    """Draw a run, one workload below the other.

    Args:
        plan: What was asked for.
        status: Of the cluster, before the load.
        rows: At least one; each with an operation, and ended.
        when: The run began, in UTC.
    """
    assert rows, "something to draw"
    with _style():
        figure = Figure(
            figsize=(_WIDTH_IN, _HEADING_IN + _ROW_IN * len(rows)),
            layout="constrained",
        )
        grid = figure.subplots(
            len(rows), 2, sharex="col", squeeze=False, width_ratios=(3, 2)
        )
        for row, (left, right) in zip(rows, grid, strict=True):
            left.set_title(_title(plan, row))
            _draw_rates(left, row, plan.in_flight)
            _draw_latencies(right, row.latencies)
        _finish_axes(grid[-1][0], grid[-1][1], rows)
        figure.suptitle(_heading(plan, status, rows, when), fontsize=10.0)
        figure.supxlabel(_CAPTION, fontsize=7.5, color=_DARK)
        return figure


@contextmanager
def _style() -> Iterator[None]:
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def _heading(
    plan: Plan, status: ClusterStatus, rows: Sequence[Row], when: datetime
) -> str:
    name = printable(cluster_name(status) or status.cluster_id).replace("\n", " ")
    releases = sorted({each.version for each in status.members if each.version})
    size = len(status.members)
    lines = (
        f"raftctl bench of cluster {_cut(name, _NAME_CHARS)}:"
        f" {', '.join(row.name for row in rows)}",
        f"{settings_text(plan)}, {plan.measured_s:g} s each after"
        f" {plan.warm_up_s:g} s of warm-up",
        f"{size} member{'' if size == 1 else 's'}"
        f" of raftd {_cut(', '.join(releases), _NAME_CHARS) or 'unknown'},"
        f" {when:%Y-%m-%d %H:%M:%S} UTC",
    )
    return "\n".join(textwrap.fill(line, _HEADING_CHARS) for line in lines)


def _title(plan: Plan, row: Row) -> str:
    line = row.timeline
    text = f"{row.name}: {line.rate:,.0f} operations/s"
    if line.lasted_s < plan.measured_s:
        text += f", stopped after {line.lasted_s:.1f} s"
    elif row.load is None:
        text += ", not proved"
    if not line.errors:
        return text
    errors = ", ".join(f"{count} {name}" for name, count in line.errors.most_common())
    return f"{text}\nerrors: {_cut(errors, _ERRORS_CHARS)}"


def _cut(text: str, chars_max: int) -> str:
    return text if len(text) <= chars_max else f"{text[: chars_max - 1]}…"


def _draw_rates(axes: Axes, row: Row, in_flight: int) -> None:
    least = max(_OPERATIONS_PER_STEP, _ROUNDS_PER_STEP * in_flight)
    steps = row.timeline.rates(least)
    axes.stairs(steps.values, steps.edges, fill=True, color=_PALE_BLUE)
    axes.stairs(
        *(steps.values, steps.edges),
        color=_BLUE,
        linewidth=1.1,
        label="rate",
        zorder=2.0,  # above the pauses, which are averaged in
    )
    axes.set_ylabel("operations/s")
    axes.set_ylim(0.0, max(steps.values) * 1.3)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    pauses = _shown(row.timeline, row.latencies)
    for pause in pauses:
        axes.axvspan(
            pause.begin_s,
            pause.begin_s + pause.length_s,
            facecolor=_PALE_RED,
            edgecolor=_RED,
            hatch="/////",
            linewidth=0.8,
            label="pause",
        )
    _write_pause(axes, pauses[0], row.timeline.lasted_s)


def _write_pause(axes: Axes, pause: Pause, lasted_s: float) -> None:
    """Write its length inside of it, or beside it where there is more room."""
    end_s = pause.begin_s + pause.length_s
    before_s, after_s = pause.begin_s, lasted_s - end_s
    if pause.length_s > max(before_s, after_s):
        side, at_s, shift = "center", pause.begin_s + pause.length_s / 2, 0
    elif before_s > after_s:
        side, at_s, shift = "right", pause.begin_s, -4
    else:
        side, at_s, shift = "left", end_s, 4
    axes.annotate(
        f"pause {_span(pause.length_s)}",
        (at_s, 0.95),
        xycoords=axes.get_xaxis_transform(),
        xytext=(shift, 0),
        textcoords="offset points",
        horizontalalignment=side,
        verticalalignment="top",
        bbox=_ON_WHITE,
    )


def _shown(timeline: Timeline, latencies: Latencies) -> list[Pause]:
    """Return the pauses worth drawing, the longest, which always is, first."""
    longest, *others = timeline.pauses
    least_s = max(_PAUSE_S, _PAUSE_OPERATIONS * latencies.quantile_s(0.5))
    return [longest, *(each for each in others if each.length_s >= least_s)]


def _draw_latencies(axes: Axes, latencies: Latencies) -> None:
    bars = latencies.bars()
    edges_ms = [_ms(edge) for edge in bars.edges]
    percents = [value * 100 for value in bars.values]
    axes.stairs(percents, edges_ms, fill=True, color=_PALE_BLUE)
    axes.stairs(percents, edges_ms, color=_BLUE, linewidth=0.9, label="share")
    axes.set_ylabel("% of operations")
    axes.set_ylim(0.0, max(percents) * 1.3)
    spans = (
        ("p50", latencies.quantile_s(0.50), "solid", "right", 1.02),
        ("p99", latencies.quantile_s(0.99), "dashed", "left", 1.02),
        ("max", latencies.max_s, "dotted", "right", 0.86),
    )
    for name, span_s, style, side, height in spans:
        axes.axvline(_ms(span_s), color=_DARK, linestyle=style, label=name)
        axes.text(
            _ms(span_s),
            height,
            f" {name} {_span(span_s)} ",
            transform=axes.get_xaxis_transform(),
            horizontalalignment=side,
            bbox=_ON_WHITE,
        )


def _finish_axes(left: Axes, right: Axes, rows: Sequence[Row]) -> None:
    """Set what all workloads share: their axes from left to right."""
    ends_s = (row.timeline.lasted_s for row in rows)
    pauses = (pause for row in rows for pause in row.timeline.pauses[:1])
    left.set_xlim(0.0, max(*ends_s, *(each.begin_s + each.length_s for each in pauses)))
    left.set_xlabel("seconds since the measurement began")
    low_ms = min(_ms(row.latencies.bars().edges[0]) for row in rows) / 1.3
    high_ms = max(_ms(row.latencies.max_s) for row in rows) * 1.3
    right.set_xscale("log")
    right.set_xlim(low_ms, high_ms)
    numbers = (1,) if high_ms > low_ms * _WIDE else (1, 2, 5)
    right.xaxis.set_major_locator(LogLocator(subs=numbers, numticks=99))
    right.xaxis.set_minor_locator(NullLocator())
    right.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    right.set_xlabel("latency in ms")


def _ms(span_s: float) -> float:
    return max(span_s, _SPAN_S_MIN) * 1000


def _span(span_s: float) -> str:
    if span_s >= 1.0:
        return f"{span_s:,.2f} s"
    digits = 2 if span_s < 0.01 else 1 if span_s < 0.1 else 0
    return f"{span_s * 1000:.{digits}f} ms"
