"""The comparison as a picture: one bar for each row, on a scale of factors.

Rules: to the right is better for ours, whatever is compared: a latency is drawn as
theirs / ours. A bar goes from "the same" to the median, the thin line is the range over
the rounds, the tick is the goal.

Source: PERFORMANCE.md (the harness writes a plot).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tests.bench.goals import Figure
from tests.bench.results import Comparison
from tests.bench.svg import Axis, line, picture, text

__all__ = ["svg_of"]

_LABEL_PX: Final = 290
_AXIS_PX: Final = 520
_RIGHT_PX: Final = 110
_ROW_PX: Final = 26
_TOP_PX: Final = 46
_BAR_PX: Final = 14
_COLOURS: Final = {None: "#7a8aa0", True: "#2e7d4f", False: "#c0562f"}


def svg_of(comparisons: Sequence[Comparison], title: str) -> str:
    """Draw the comparisons, one below the other.

    Args:
        comparisons: At least one.
        title: Above them.
    """
    assert comparisons, "something to draw"
    factors = [_factor(each, value) for each in comparisons for value in _values(each)]
    axis = Axis(
        min(0.5, *factors) / 1.1,
        max(2.0, *factors) * 1.1,
        _LABEL_PX,
        _LABEL_PX + _AXIS_PX,
        is_log=True,
    )
    height = _TOP_PX + _ROW_PX * len(comparisons) + 16
    parts = [text((10, 18), title), *_grid(axis, height - 16)]
    for number, each in enumerate(comparisons):
        parts += _row(axis, each, _TOP_PX + _ROW_PX * number)
    return picture(_LABEL_PX + _AXIS_PX + _RIGHT_PX, height, parts)


def _values(each: Comparison) -> list[float]:
    ratio = each.ratio
    found = [ratio.median, ratio.low, ratio.high]
    return found if each.goal is None else [*found, each.goal.ratio]


def _factor(each: Comparison, ratio: float) -> float:
    """Return how many times better ours is."""
    return ratio if each.figure is Figure.RATE else 1 / ratio


def _grid(axis: Axis, bottom: float) -> Iterator[str]:
    for step in axis.ticks():
        x = axis.at(step)
        colour = "#404040" if step == 1 else "#dddddd"
        yield line((x, _TOP_PX - 4), (x, bottom), colour, 1)
        yield text((x, _TOP_PX - 8), f"{step:g}x", "middle")


def _row(axis: Axis, each: Comparison, top: float) -> Iterator[str]:
    middle = top + _ROW_PX / 2
    factor = _factor(each, each.ratio.median)
    one, end = axis.at(1), axis.at(factor)
    low, high = sorted(
        axis.at(_factor(each, ratio)) for ratio in (each.ratio.low, each.ratio.high)
    )
    colour = _COLOURS[each.is_met]
    what = f"{each.measure} ({each.figure}) / {each.peer}"
    yield text((_LABEL_PX - 10, middle + 4), what, "end")
    yield (
        f'<rect x="{min(one, end):.1f}" y="{middle - _BAR_PX / 2:.1f}"'
        f' width="{max(abs(end - one), 1):.1f}" height="{_BAR_PX}" fill="{colour}"/>'
    )
    yield line((low, middle), (high, middle), "#202020", 1.5)
    if each.goal is not None:
        x = axis.at(_factor(each, each.goal.ratio))
        yield line((x, middle - 10), (x, middle + 10), "#000000", 3)
    yield text((_LABEL_PX + _AXIS_PX + 10, middle + 4), _told(factor, each.is_met))


def _told(factor: float, is_met: bool | None) -> str:
    return f"{factor:.2f}x" + {None: "", True: " met", False: " missed"}[is_met]
