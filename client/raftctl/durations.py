"""Durations as people write them: ``5``, ``5s``, ``500ms``, ``2m``, ``1h30m``, ``7d``.

A number without a unit is seconds. Source: CLI.md.
"""

from __future__ import annotations

import re
from typing import Final

from raftctl.params import TextType

__all__ = ["DURATION", "SPAN_S_MAX", "Duration", "format_ms", "parse_duration_s"]

_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_PLAIN: Final = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_DIGITS_MAX: Final = 32
SPAN_S_MAX: Final = 100 * 366 * 86_400
"""A hundred years: whoever means for ever leaves a duration out."""
_STEPS_MS: Final = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000))


def parse_duration_s(text: str) -> float:
    """Read a duration; returns seconds.

    Raises:
        ValueError: The text is no duration.
    """
    stripped = text.strip().lower()
    if len(stripped) > _DIGITS_MAX:
        raise ValueError(f"{stripped[:_DIGITS_MAX]}... is too long for a duration")
    if _PLAIN.fullmatch(stripped):
        return _bounded(float(stripped), text)
    parts = _PART.findall(stripped)
    if not parts or "".join(f"{n}{unit}" for n, unit in parts) != stripped:
        raise ValueError(
            f'"{text}" is no duration; write it like 5, 5s, 500ms, 2m or 1h30m'
        )
    return _bounded(sum(float(n) * _UNITS_S[unit] for n, unit in parts), text)


def _bounded(seconds: float, text: str) -> float:
    if seconds > SPAN_S_MAX:
        raise ValueError(f"{text} is longer than a hundred years")
    return seconds


def format_ms(span_ms: int) -> str:
    """Write a span for people, in its two largest units."""
    if span_ms < 1000:
        return f"{span_ms}ms"
    if span_ms < 10_000 and span_ms % 1000:
        return f"{span_ms / 1000:.1f}s"
    parts: list[str] = []
    left_ms = span_ms
    for unit, unit_ms in _STEPS_MS:
        count, left_ms = divmod(left_ms, unit_ms)
        if count:
            parts.append(f"{count}{unit}")
        elif parts:
            break
    return "".join(parts[:2])


class Duration(TextType):
    """A flag's duration, in seconds, with its range.

    Args:
        low_s: Least allowed.
        high_s: Most allowed; None = no limit.
    """

    name = "duration"

    def __init__(self, low_s: float = 0.0, high_s: float | None = None) -> None:
        self.low_s: Final = low_s
        self.high_s: Final = high_s

    def parse(self, text: str) -> float:
        """Return seconds."""
        seconds = parse_duration_s(text)
        if seconds < self.low_s:
            raise ValueError(f"{text} is too short; at least {self.low_s:g}s")
        if self.high_s is not None and seconds > self.high_s:
            raise ValueError(f"{text} is too long; at most {self.high_s:g}s")
        return seconds


DURATION: Final = Duration()
"""Any duration."""
