"""Lines, words and axes of the benchmark's pictures, as SVG.

Rules: drawn by hand; a few lines on two axes are all there is to draw (ADR 0017).
Everything that is told by colour is told in words, too.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Final
from xml.sax.saxutils import escape

__all__ = ["Axis", "Point", "grid", "line", "path", "picture", "short", "text"]

Point = tuple[float, float]
_STEPS: Final = (1, 2, 5)
_TICKS_MAX: Final = 6


@dataclasses.dataclass(frozen=True, slots=True)
class Axis:
    """Where a value is drawn.

    Attributes:
        low: The value at ``begin_px``.
        high: The value at ``end_px``.
        begin_px: Of the picture.
        end_px: Of the picture; less than the begin if values rise upwards.
        is_log: Whether equal factors are equally far apart, instead of equal steps.
    """

    low: float
    high: float
    begin_px: float
    end_px: float
    is_log: bool = False

    def at(self, value: float) -> float:
        """Return the place of a value."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        share = (self._scaled(value) - low) / (high - low)
        return self.begin_px + share * (self.end_px - self.begin_px)

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.is_log else value

    def ticks(self) -> list[float]:
        """Return a few round values that are on it."""
        tens = range(-4, 10)
        if self.is_log:
            found = [step * 10.0**ten for ten in tens for step in _STEPS]
            inside = [value for value in found if self.low <= value <= self.high]
            few = [value for value in inside if f"{value:e}".startswith("1.0")]
            return inside if len(inside) <= _TICKS_MAX else few
        widths = [step * 10.0**ten for ten in tens for step in _STEPS]
        width = next(w for w in widths if (self.high - self.low) / w <= _TICKS_MAX)
        first, last = math.ceil(self.low / width), math.floor(self.high / width + 1e-9)
        return [number * width for number in range(first, last + 1)]


def picture(width: float, height: float, parts: Sequence[str]) -> str:
    """Return the whole of it, on white."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}"'
        f' width="{width:g}" height="{height:g}" font-family="sans-serif"'
        ' font-size="12">'
    )
    ground = f'<rect width="{width:g}" height="{height:g}" fill="#ffffff"/>'
    return "\n".join([head, ground, *parts, "</svg>", ""])


def line(begin: Point, end: Point, colour: str, px: float) -> str:
    """Draw a straight line."""
    return (
        f'<line x1="{begin[0]:.1f}" y1="{begin[1]:.1f}" x2="{end[0]:.1f}"'
        f' y2="{end[1]:.1f}" stroke="{colour}" stroke-width="{px:g}"/>'
    )


def path(points: Sequence[Point], colour: str, *, dashes: str = "") -> str:
    """Draw lines from point to point."""
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<polyline points="{places}" fill="none" stroke="{colour}"'
        f' stroke-width="2"{dashed}/>'
    )


def text(at: Point, what: str, anchor: str = "start") -> str:
    """Write words; the anchor says which end of them is at the point."""
    return (
        f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{anchor}">'
        f"{escape(what)}</text>"
    )


def grid(across: Axis, upwards: Axis) -> Iterator[str]:
    """Draw the lines of both axes, with their values below and to the left."""
    for value in across.ticks():
        x = across.at(value)
        yield line((x, upwards.begin_px), (x, upwards.end_px), "#dddddd", 1)
        yield text((x, upwards.begin_px + 16), short(value), "middle")
    for value in upwards.ticks():
        y = upwards.at(value)
        yield line((across.begin_px, y), (across.end_px, y), "#dddddd", 1)
        yield text((across.begin_px - 6, y + 4), short(value), "end")


def short(value: float) -> str:
    """Write a number in few letters."""
    for unit, name in ((1_000_000, "M"), (1000, "k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"
