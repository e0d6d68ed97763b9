"""Sizes as people read them: ``512B``, ``1.5K``, ``64M``, ``2.0G``."""

from __future__ import annotations

from typing import Final

__all__ = ["format_bytes"]

_UNITS: Final = ("K", "M", "G", "T", "P")
_STEP: Final = 1024


def format_bytes(size: int) -> str:
    """Write a size in at most five characters."""
    if size < _STEP:
        return f"{size}B"
    value = float(size)
    for unit in _UNITS:
        value /= _STEP
        if value < 9.95:
            return f"{value:.1f}{unit}"
        if value < _STEP - 0.5:
            return f"{value:.0f}{unit}"
    return f"{value:.0f}{_UNITS[-1]}"
