"""How log.db keeps entries: tables, rows, checksums, and the view that changes them.

Each row's checksum covers all of it and starts from the row before, so a row cannot
be altered, exchanged or moved. A row also says what was known when it was written:
the commit index, and up to where the log was already synced. So damage tells by
itself whether it lies in something that had been promised.

Source: DESIGN.md section 6 (log.db), RELIABILITY.md rule 50.
"""

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from raftd.consensus.types import Entry, EntryKind, HardState, Index, Term
from raftd.storage.files import IDENTITY, FileKind
from raftd.storage.identity import Identity

__all__ = [
    "CHANGE_COLUMNS",
    "CHANGE_SQL",
    "CUT_POINT",
    "HEAD",
    "LOG_FILE",
    "CutPoint",
    "LogHead",
    "LogRow",
    "blank_log",
    "chain_rows",
    "checksum_row",
    "entry_change",
    "meta_change",
    "range_change",
    "to_entry",
]

#: Names of log.db's own meta rows.
HEAD = "head"
CUT_POINT = "cut"

LOG_FILE = FileKind(
    name="log",
    application_id=0x72616C67,  # "ralg"
    table="entries",
    table_sql=(
        "CREATE TABLE entries (idx INTEGER PRIMARY KEY, term INTEGER NOT NULL,"
        " kind INTEGER NOT NULL, commit_index INTEGER NOT NULL,"
        " synced_index INTEGER NOT NULL, crc INTEGER NOT NULL, payload BLOB NOT NULL)"
    ),
)
CHANGE_COLUMNS = 9

#: One INSERT into `changes` is one statement, so one transaction without BEGIN and
#: COMMIT, each of which would cost a hop. Temporary, hence never read from a file.
CHANGE_SQL = (
    """
    CREATE TEMP VIEW changes AS SELECT '' AS op, '' AS name,
        0 AS idx, 0 AS term, 0 AS kind, 0 AS commit_index, 0 AS synced_index,
        0 AS crc, NULL AS payload
    """,
    """
    CREATE TEMP TRIGGER on_cut INSTEAD OF INSERT ON changes WHEN NEW.op = 'cut'
    BEGIN DELETE FROM entries WHERE idx >= NEW.idx; END
    """,
    """
    CREATE TEMP TRIGGER on_forget INSTEAD OF INSERT ON changes WHEN NEW.op = 'forget'
    BEGIN DELETE FROM entries WHERE idx <= NEW.idx; END
    """,
    """
    CREATE TEMP TRIGGER on_meta INSTEAD OF INSERT ON changes WHEN NEW.op = 'meta'
    BEGIN INSERT OR REPLACE INTO meta VALUES (NEW.name, NEW.payload, NEW.crc); END
    """,
    """
    CREATE TEMP TRIGGER on_entry INSTEAD OF INSERT ON changes WHEN NEW.op = 'entry'
    BEGIN
        INSERT INTO entries VALUES (NEW.idx, NEW.term, NEW.kind, NEW.commit_index,
            NEW.synced_index, NEW.crc, NEW.payload);
    END
    """,
)

_FIXED = struct.Struct(">QQBQQ")

_KINDS = frozenset(int(kind) for kind in EntryKind)

Change = tuple[object, ...]


class LogHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The meta row that changes with term, vote, cuts, start and stop."""

    hard_state: HardState = HardState()
    commit: Index = Index(0)
    #: Known to be in the file: a log that ends before it lost rows.
    sealed_index: Index = Index(0)


class CutPoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The entry before the first one."""

    index: Index = Index(0)
    term: Term = Term(0)
    #: Where the chain of checksums goes on.
    crc: int = 0
    #: Of the install this log was last reset for.
    install_id: bytes = b""


def blank_log(
    identity: Identity, head: LogHead | None = None, cut: CutPoint | None = None
) -> dict[str, object]:
    """Make the meta rows of a log without entries."""
    return {IDENTITY: identity, HEAD: head or LogHead(), CUT_POINT: cut or CutPoint()}


class LogRow(NamedTuple):
    """A row of `entries`, in the order of its columns."""

    idx: int
    term: int
    kind: int
    commit_index: int
    synced_index: int
    crc: int
    payload: bytes

    @property
    def is_well_typed(self) -> bool:
        """Tell whether the columns hold what a checksum can be taken of."""
        numbers = (self.idx, self.term, self.kind, self.commit_index, self.synced_index)
        return (
            all(isinstance(number, int) and number >= 0 for number in numbers)
            and self.kind in _KINDS
            and isinstance(self.payload, bytes)
        )


def checksum_row(previous_crc: int, row: LogRow) -> int:
    """Checksum everything in `row` but its `crc`, from the row before it on."""
    fixed = _FIXED.pack(row.idx, row.term, row.kind, row.commit_index, row.synced_index)
    return zlib.crc32(row.payload, zlib.crc32(fixed, previous_crc))


def chain_rows(
    last_index: int, last_crc: int, commit: int, entries: Sequence[Entry]
) -> list[LogRow]:
    """Make rows of entries that follow one another.

    Args:
        last_index: Of the row before them; the log is synced up to here.
        last_crc: Of that row.
        commit: The commit index as of now.
        entries: They are to have rows.
    """
    rows: list[LogRow] = []
    synced = last_index
    for entry in entries:
        assert entry.index == last_index + 1, "a gap in the log"
        index, term, kind, payload = (
            entry.index,
            entry.term,
            entry.kind,
            entry.payload,
        )
        row = LogRow(index, term, kind, commit, synced, 0, payload)
        crc = checksum_row(last_crc, row)
        rows.append(LogRow(index, term, kind, commit, synced, crc, payload))
        last_index, last_crc = index, crc
    return rows


def to_entry(row: LogRow) -> Entry:
    """Make the core's entry of a verified row."""
    return Entry(Index(row.idx), Term(row.term), EntryKind(row.kind), row.payload)


def entry_change(row: LogRow) -> Change:
    """Add an entry."""
    return ("entry", None, *row)


def meta_change(name: str, value: bytes, crc: int) -> Change:
    """Set a meta row."""
    return ("meta", name, None, None, None, None, None, crc, value)


def range_change(index: Index, *, is_suffix: bool) -> Change:
    """Remove the entries from `index` on, or up to and with `index`."""
    op = "cut" if is_suffix else "forget"
    return (op, None, index, None, None, None, None, None, None)
