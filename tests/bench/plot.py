"""The comparison as a picture: one bar for each row, on a scale of factors.

Rules: to the right is better for ours, whatever is compared: a latency is drawn as
theirs / ours. A bar goes from "the same" to the median, the thin line is the range over
the rounds, the tick is the goal. Drawn by hand: bars on one axis are all there is, and
a plotting library with its arrays would be the largest dependency of all.

Source: PERFORMANCE.md (the harness writes a plot).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final
from xml.sax.saxutils import escape

from tests.bench.goals import Figure
from tests.bench.results import Comparison

__all__ = ["svg_of"]

_LABEL_PX: Final = 250
_AXIS_PX: Final = 520
_RIGHT_PX: Final = 90
_ROW_PX: Final = 26
_TOP_PX: Final = 46
_BAR_PX: Final = 14
_COLOURS: Final = {None: "#7a8aa0", True: "#2e7d4f", False: "#c0562f"}
_STEPS: Final = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)


def svg_of(comparisons: Sequence[Comparison], title: str) -> str:
    """Draw the comparisons, one below the other.

    Args:
        comparisons: At least one.
        title: Above them.
    """
    assert comparisons, "something to draw"
    factors = [_factor(each, value) for each in comparisons for value in _values(each)]
    axis = _Axis(min(0.5, *factors) / 1.1, max(2.0, *factors) * 1.1)
    height = _TOP_PX + _ROW_PX * len(comparisons) + 16
    width = _LABEL_PX + _AXIS_PX + _RIGHT_PX
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _text(10, 18, title, "start"),
        *_grid(axis, height - 16),
    ]
    for number, each in enumerate(comparisons):
        parts += _row(axis, each, _TOP_PX + _ROW_PX * number)
    return "\n".join([*parts, "</svg>", ""])


class _Axis:
    """Where a factor is, from left to right, in equal steps for equal factors."""

    def __init__(self, low: float, high: float) -> None:
        self.low: Final = low
        self.high: Final = high

    def x(self, factor: float) -> float:
        share = math.log(factor / self.low) / math.log(self.high / self.low)
        return _LABEL_PX + _AXIS_PX * share


def _values(each: Comparison) -> list[float]:
    ratio = each.ratio
    found = [ratio.median, ratio.low, ratio.high]
    return found if each.goal is None else [*found, each.goal.ratio]


def _factor(each: Comparison, ratio: float) -> float:
    """Return how many times better ours is."""
    return ratio if each.figure is Figure.RATE else 1 / ratio


def _grid(axis: _Axis, bottom: float) -> Iterator[str]:
    for step in _STEPS:
        if axis.low <= step <= axis.high:
            x = axis.x(step)
            colour = "#404040" if step == 1 else "#dddddd"
            yield _line(x, _TOP_PX - 4, x, bottom, colour, 1)
            yield _text(x, _TOP_PX - 8, f"{step:g}x", "middle")


def _row(axis: _Axis, each: Comparison, top: float) -> Iterator[str]:
    middle = top + _ROW_PX / 2
    one, end = axis.x(1), axis.x(_factor(each, each.ratio.median))
    low, high = sorted(
        axis.x(_factor(each, ratio)) for ratio in (each.ratio.low, each.ratio.high)
    )
    colour = _COLOURS[each.is_met]
    what = f"{each.measure} ({each.figure}) / {each.peer}"
    yield _text(_LABEL_PX - 10, middle + 4, what, "end")
    yield (
        f'<rect x="{min(one, end):.1f}" y="{middle - _BAR_PX / 2:.1f}"'
        f' width="{max(abs(end - one), 1):.1f}" height="{_BAR_PX}" fill="{colour}"/>'
    )
    yield _line(low, middle, high, middle, "#202020", 1.5)
    if each.goal is not None:
        x = axis.x(_factor(each, each.goal.ratio))
        yield _line(x, middle - 10, x, middle + 10, "#000000", 3)
    factor = _factor(each, each.ratio.median)
    yield _text(_LABEL_PX + _AXIS_PX + 10, middle + 4, f"{factor:.2f}x", "start")


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, px: float) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        f' stroke="{colour}" stroke-width="{px:g}"/>'
    )


def _text(x: float, y: float, what: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(what)}</text>'
