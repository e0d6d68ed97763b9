"""Tables for people, which are Markdown, too."""

from __future__ import annotations

from collections.abc import Collection, Sequence

__all__ = ["table"]


def table(
    head: Sequence[str], lines: Sequence[Sequence[str]], texts: Collection[str]
) -> str:
    """Draw a table.

    Args:
        head: A name for each column.
        lines: Its cells, row by row.
        texts: Names of columns that begin at the left; numbers end at the right.
    """
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    is_text = [name in texts for name in head]

    def draw(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(cells, widths, is_text, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    rule = (
        "-" * width if left else "-" * (width - 1) + ":"
        for width, left in zip(widths, is_text, strict=True)
    )
    return "\n".join([draw(head), f"| {' | '.join(rule)} |", *map(draw, lines)])
