"""Puts the tables and pictures of a record into a document, between marks.

Rules: what code can print, code prints: a place is two lines, ``<!-- NAME -->`` and
``<!-- end of NAME -->``, and all between them is written anew. A name is ``runs``,
``comparison``, ``left out``, ``on``, or a section's; what the record has nothing of is
left as it is.

Source: CONTRIBUTING.md (what code can print).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tests.bench.record import Record
from tests.bench.report import comparison_table, footing, run_table
from tests.bench.results import Results
from tests.bench.sections import table_of

__all__ = ["DocumentError", "fill_document"]


class DocumentError(Exception):
    """A document cannot be filled; the sentence says why."""


def fill_document(document: Path, record: Record, pictures: Sequence[Path]) -> None:
    """Write a document anew with the figures of a record.

    Args:
        document: Markdown with at least one place.
        record: What is told.
        pictures: Each goes to the place with the end of its name; the comparison's
            has none.

    Raises:
        DocumentError: It cannot be read, has no place, or a picture is elsewhere.
    """
    try:
        text = document.read_text(encoding="utf-8")
    except OSError as error:
        raise DocumentError(f"{document}: {error.strerror}") from error
    places = 0
    for name, told in _told(record, document, pictures).items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
        place = re.search(f"{re.escape(begin)}.*?{re.escape(end)}", text, re.DOTALL)
        if place is not None:
            places += 1
            filled = f"{begin}\n{told}\n\n{end}"
            text = text[: place.start()] + filled + text[place.end() :]
    if not places:
        raise DocumentError(f"{document} has no place for any of these figures")
    document.write_text(text, encoding="utf-8")


def _told(record: Record, document: Path, pictures: Sequence[Path]) -> dict[str, str]:
    """Return what there is to tell, by the name of its place."""
    results = Results(record.turns)
    told = {"on": footing(record)}
    if results.turns:
        told["runs"] = run_table(results)
    if results.peers:
        told["comparison"] = comparison_table(results.comparisons())
        told["left out"] = "\n".join(f"* {s}" for s in record.left_out) or "Nothing."
    for section in dict.fromkeys(row.section for row in record.rows):
        rows = [row for row in record.rows if row.section == section]
        told[section] = table_of(rows)
    for picture in pictures:
        at = _from(document, picture)
        told[f"picture {picture.stem.partition('-')[2] or 'comparison'}"] = (
            f"![{picture.stem}]({at.as_posix()})"
        )
    return told


def _from(document: Path, picture: Path) -> Path:
    """Return where a picture is, as the document can say it wherever both go."""
    folder = document.resolve().parent
    try:
        return picture.resolve().relative_to(folder)
    except ValueError as error:
        raise DocumentError(f"{picture} is not below {folder}") from error
