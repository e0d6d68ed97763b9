"""What commands print: aligned text for people, JSON and bare values for scripts.

Rules:
    * ``json`` is one document for one result: an object, or an array for a list.
      ``jsonl`` is one object per line. A stream is one object per line in both,
      flushed as it comes. ``value`` is the bare essence, one per line; the exact bytes
      where a command gives one value.
    * Bytes are text if they are UTF-8, else ``{"b64": ...}``; ids and revisions are
      numbers; times are ISO 8601 UTC.
    * Results go to standard output, everything else to standard error.

Source: CLI.md.
"""

from __future__ import annotations

import base64
import datetime
import enum
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import click
import msgspec

from raftctl.exit_codes import ReaderGone
from raftctl.options import OutputFormat

__all__ = ["Output", "ago", "ahead", "plain", "printable"]

CELL_CHARS_MAX: Final = 60
_ESCAPES: Final = {
    code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code != 10
} | {9: "\t"}

Record = Mapping[str, Any]


def plain(value: Any) -> Any:
    """Turn a value into what JSON has."""
    match value:
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return {"b64": base64.b64encode(value).decode()}
        case enum.Enum():
            return value.value
        case datetime.datetime():
            return value.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")
        case msgspec.Struct():
            return plain(msgspec.structs.asdict(value))
        case Mapping():
            return {str(key): plain(each) for key, each in value.items()}
        case list() | tuple():
            return [plain(each) for each in value]
        case _:
            return value


def printable(value: Any) -> str:
    """Turn a value into text that cannot steer a terminal."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case bytes():
            return value.decode(errors="backslashreplace").translate(_ESCAPES)
        case datetime.datetime():
            return value.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        case list() | tuple():
            return ", ".join(printable(each) for each in value) or "-"
        case _:
            return str(value).translate(_ESCAPES)


def ago(span_ms: int) -> datetime.datetime:
    """Return the time so long before now."""
    return _now() - datetime.timedelta(milliseconds=span_ms)


def ahead(span_ms: int) -> datetime.datetime:
    """Return the time so long from now."""
    return _now() + datetime.timedelta(milliseconds=span_ms)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class Output:
    """Writes results in one format."""

    def __init__(self, output: OutputFormat) -> None:
        self.format: Final = output

    @property
    def is_human(self) -> bool:
        """Whether a person reads."""
        return self.format is OutputFormat.HUMAN

    def record(self, record: Record, *, value: Any, text: str | None = None) -> None:
        """Write one result.

        Args:
            record: All of it.
            value: Its essence, for ``-o value``; bytes exactly as they are.
            text: For people; None = name and value of each field, one a line.
        """
        match self.format:
            case OutputFormat.HUMAN:
                _line(_fields_text(record) if text is None else text)
            case OutputFormat.JSON | OutputFormat.JSONL:
                _line(_json(record))
            case OutputFormat.VALUE if isinstance(value, bytes):
                _bytes(value)
            case OutputFormat.VALUE:
                _line(printable(value))

    def payload(self, record: Record, value: bytes) -> None:
        """Write a result that is one value; a person gets it with a line's end."""
        if not self.is_human:
            self.record(record, value=value)
        elif sys.stdout.isatty():
            _line(printable(value))
        else:
            _bytes(value if value.endswith(b"\n") else value + b"\n")

    def rows(
        self,
        records: Iterable[Record],
        *,
        columns: Mapping[str, str],
        value: str,
        empty: str = "",
    ) -> None:
        """Write a list.

        Args:
            records: All of it.
            columns: For people: field and heading.
            value: The field that is the essence.
            empty: For people, if there is nothing.
        """
        match self.format:
            case OutputFormat.HUMAN:
                found = list(records)
                if found:
                    _table(found, columns)
                elif empty:
                    self.note(empty)
            case OutputFormat.JSON:
                _line(_json(list(records)))
            case OutputFormat.JSONL:
                for record in records:
                    _line(_json(record))
            case OutputFormat.VALUE:
                for record in records:
                    _value_line(record[value])

    def event(self, record: Record, *, value: Any, text: str) -> None:
        """Write one item of a stream, at once."""
        match self.format:
            case OutputFormat.HUMAN:
                _line(text)
            case OutputFormat.JSON | OutputFormat.JSONL:
                _line(_json(record))
            case OutputFormat.VALUE:
                _value_line(value)

    def note(self, text: str) -> None:
        """Tell a person something beside the result."""
        if self.is_human:
            click.echo(text, err=True)


def _json(record: Any) -> str:
    return json.dumps(plain(record), ensure_ascii=False, separators=(",", ":"))


def _line(text: str) -> None:
    try:
        click.echo(text)
    except BrokenPipeError as error:
        raise ReaderGone from error


def _value_line(value: Any) -> None:
    if isinstance(value, bytes):
        _bytes(value + b"\n")
    else:
        _line(printable(value))


def _bytes(data: bytes) -> None:
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError as error:
        raise ReaderGone from error


def _fields_text(record: Record) -> str:
    width = max((len(name) for name in record), default=0)
    return "\n".join(
        f"{name.replace('_', ' ').ljust(width)}  {printable(value)}"
        for name, value in record.items()
    )


def _cell(value: Any) -> str:
    text = printable(value).replace("\n", "\\n").replace("\t", "\\t")
    if len(text) <= CELL_CHARS_MAX:
        return text
    return f"{text[: CELL_CHARS_MAX - 1]}…"


def _table(records: Sequence[Record], columns: Mapping[str, str]) -> None:
    cells = [[_cell(record[name]) for name in columns] for record in records]
    is_number = [
        {type(record[name]) for record in records} in ({int}, {int, type(None)})
        for name in columns
    ]
    if sys.stdout.isatty():
        _terminal_table(list(columns.values()), cells, is_number)
        return
    lines = [list(columns.values()), *cells]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        padded = (
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(line, widths, is_number, strict=True)
        )
        _line("  ".join(padded).rstrip())


def _terminal_table(
    heads: Sequence[str], cells: Sequence[Sequence[str]], is_number: Sequence[bool]
) -> None:
    import rich.console  # noqa: PLC0415 - slow to load, and scripts never need it
    import rich.table  # noqa: PLC0415 - slow to load, and scripts never need it
    import rich.text  # noqa: PLC0415 - slow to load, and scripts never need it

    table = rich.table.Table(box=None, pad_edge=False, header_style="bold cyan")
    for head, number in zip(heads, is_number, strict=True):
        justify: Literal["left", "right"] = "right" if number else "left"
        table.add_column(head, justify=justify, overflow="fold")
    for line in cells:
        table.add_row(*(rich.text.Text(text) for text in line))
    rich.console.Console().print(table)
