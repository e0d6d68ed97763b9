"""What was asked and what came back: one run's history, as JSON lines.

A history is a `Meta`, then records in any order: what clients asked (`Op`), what
watchers and observers were told (`Seen`, `Observed`), what happened outside the cluster
(`Guarded`, `Belief`), the evidence (`Entry`, the applied log) and what was there in the
end (`Final`). Each line of the file is one record as a JSON object with its ``kind``.

Rules:
* Times are microseconds of **one** true clock: the monotonic clock of the recording
  process, or the virtual one of a simulation. Never a node's.
* Bytes are text: UTF-8 as it is, anything else as ``b64:`` and base64 (`as_text`).
* A field that has its default is left out of the file; an unknown one is an error.

What the fields of each record mean is said in `records`.

Source: RELIABILITY.md section 4.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final

import msgspec

from tests.checkers.records import (
    Belief,
    Entry,
    FinalState,
    Guarded,
    Meta,
    Observed,
    Op,
    Record,
    Seen,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["History", "HistoryError", "as_bytes", "as_text", "load", "save"]

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Record).decode
_B64: Final = "b64:"


class HistoryError(Exception):
    """A file is not a history; the sentence names the file and the line."""


class History(msgspec.Struct, kw_only=True):
    """A whole run, sorted by kind; each list in the order of the file."""

    meta: Meta
    ops: list[Op] = []
    seen: list[Seen] = []
    observed: list[Observed] = []
    guarded: list[Guarded] = []
    beliefs: list[Belief] = []
    entries: list[Entry] = []
    finals: list[FinalState] = []

    def records(self) -> Iterator[Record]:
        """Yield all records, the meta first."""
        yield self.meta
        for part in (
            self.ops,
            self.seen,
            self.observed,
            self.guarded,
            self.beliefs,
            self.entries,
            self.finals,
        ):
            yield from part

    def add(self, record: Record) -> None:
        """Put a record at the end of its list; a meta replaces the other."""
        match record:
            case Meta():
                self.meta = record
            case Op():
                self.ops.append(record)
            case Seen():
                self.seen.append(record)
            case Observed():
                self.observed.append(record)
            case Guarded():
                self.guarded.append(record)
            case Belief():
                self.beliefs.append(record)
            case Entry():
                self.entries.append(record)
            case FinalState():
                self.finals.append(record)


def as_text(data: bytes) -> str:
    """Return bytes as a history has them."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = _B64
    if text.startswith(_B64):
        return _B64 + base64.b64encode(data).decode()
    return text


def as_bytes(text: str) -> bytes:
    """Return the bytes that `as_text` made a text of.

    Raises:
        ValueError: It did not.
    """
    if not text.startswith(_B64):
        return text.encode()
    try:
        return base64.b64decode(text[len(_B64) :], validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64: {text[:40]}") from error


def save(history: History, path: Path) -> None:
    """Write a history as JSON lines; an existing file is replaced."""
    with path.open("wb") as file:
        for record in history.records():
            file.write(_encode(record))
            file.write(b"\n")


def load(path: Path) -> History:
    """Read a history.

    Raises:
        HistoryError: It cannot be read, or a line is no record.
    """
    try:
        with path.open("rb") as file:
            return _read(path, file)
    except OSError as error:
        raise HistoryError(f"{path} cannot be read: {error.strerror}") from error


def _read(path: Path, lines: Iterable[bytes]) -> History:
    history: History | None = None
    for number, line in enumerate(lines, 1):
        try:
            record = _decode(line)
        except msgspec.MsgspecError as error:
            raise HistoryError(f"{path}:{number} is no record: {error}") from error
        if history is None:
            if not isinstance(record, Meta):
                raise HistoryError(f"{path}:{number} must say what made the history")
            history = History(meta=record)
        elif isinstance(record, Meta):
            raise HistoryError(f"{path}:{number} begins a second history")
        else:
            history.add(record)
    if history is None:
        raise HistoryError(f"{path}:1 is missing: the file is empty")
    return history
