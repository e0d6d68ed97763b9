"""Curves in panels: one picture for each of the longer measurements.

Rules: panels stand in two columns; each has its own axes, which begin at 0 unless they
are of factors. A curve's name stands below its panel, with its colour and its dashes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Final

from tests.bench.svg import Axis, Point, grid, line, path, picture, text

__all__ = ["Curve", "Panel", "svg_of_panels"]

_COLUMNS: Final = 2
_PANEL_PX: Final = 430
_LEFT_PX: Final = 60
_PLOT_PX: Final = 340
_PLOT_HIGH_PX: Final = 180
_HEAD_PX: Final = 34
_FOOT_PX: Final = 46
_NAME_PX: Final = 16
_TOP_PX: Final = 30
_COLOURS: Final = ("#1f5fa8", "#c0562f", "#2e7d4f", "#7a4fa0", "#8a7a20", "#505860")
_DASHES: Final = ("", "6 3", "2 3")


@dataclasses.dataclass(frozen=True, slots=True)
class Curve:
    """Points that are joined."""

    name: str
    points: Sequence[Point]


@dataclasses.dataclass(frozen=True, slots=True)
class Panel:
    """Some curves on the same axes.

    Attributes:
        title: Above them.
        across: What the horizontal axis is, with its unit.
        curves: At least one, each of at least one point.
        is_log: Whether the horizontal axis is one of factors.
        limit: A value that is drawn across, such as a goal; None = there is none.
    """

    title: str
    across: str
    curves: Sequence[Curve]
    is_log: bool = False
    limit: float | None = None


def svg_of_panels(panels: Sequence[Panel], title: str) -> str:
    """Draw the panels, two in a row.

    Args:
        panels: At least one.
        title: Above them.
    """
    assert panels, "something to draw"
    parts = [text((10, 18), title)]
    top = float(_TOP_PX)
    for first in range(0, len(panels), _COLUMNS):
        row = panels[first : first + _COLUMNS]
        for column, panel in enumerate(row):
            parts += _panel(panel, column * _PANEL_PX, top)
        names = max(len(panel.curves) for panel in row)
        top += _HEAD_PX + _PLOT_HIGH_PX + _FOOT_PX + names * _NAME_PX
    width = _PANEL_PX * min(_COLUMNS, len(panels))
    return picture(width, top + 10, parts)


def _panel(panel: Panel, left: float, top: float) -> Iterator[str]:
    across, upwards = _axes(panel, left + _LEFT_PX, top + _HEAD_PX)
    yield text((left + _LEFT_PX, top + 22), panel.title)
    yield from grid(across, upwards)
    foot = upwards.begin_px + 32
    yield text((across.end_px, foot), panel.across, "end")
    if panel.limit is not None:
        y = upwards.at(panel.limit)
        yield line((across.begin_px, y), (across.end_px, y), "#000000", 1)
    for number, curve in enumerate(panel.curves):
        colour = _COLOURS[number % len(_COLOURS)]
        dashes = _DASHES[number % len(_DASHES)]
        yield path(
            [(across.at(x), upwards.at(y)) for x, y in curve.points],
            colour,
            dashes=dashes,
        )
        y = foot + 2 + (number + 1) * _NAME_PX
        sample = [(across.begin_px, y - 4), (across.begin_px + 26, y - 4)]
        yield path(sample, colour, dashes=dashes)
        yield text((across.begin_px + 34, y), curve.name)


def _axes(panel: Panel, left: float, top: float) -> tuple[Axis, Axis]:
    xs = [x for curve in panel.curves for x, _ in curve.points]
    ys = [y for curve in panel.curves for _, y in curve.points]
    least = min(xs) if panel.is_log else 0.0
    most = max(*xs, least * 1.01, 1e-9)
    across = Axis(least, most, left, left + _PLOT_PX, is_log=panel.is_log)
    highest = max(*ys, panel.limit or 0.0, 1e-9) * 1.1
    return across, Axis(0.0, highest, top + _PLOT_HIGH_PX, top)
