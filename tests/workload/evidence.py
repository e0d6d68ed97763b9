"""Reads the log of a node, as evidence of what the cluster did.

Only what is known to be committed counts; what a node wrote and never learnt to be
committed may be gone by right. A log is there from its first entry where the flags
`KEEP_LOG` saw to it; else what was cut must have been kept elsewhere.

Source: RELIABILITY.md section 4 (remove unknowns with evidence).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftd.consensus.types import Entry, EntryKind, Index
from raftd.storage.directory import LOG_NAME
from raftd.storage.files import decode_meta, read_meta, reading
from raftd.storage.log_reader import LogReader
from raftd.storage.log_rows import CUT_POINT, HEAD, CutPoint, LogHead

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["KEEP_LOG", "as_log", "read_committed"]

KEEP_LOG: Final = (
    *("--checkpoint-interval-ms", "3600000"),
    *("--checkpoint-log-bytes", str(1 << 30)),
)
"""Flags of nodes whose log is to be read afterwards: it is cut at marks only."""

_COMMIT_SQL: Final = "SELECT max(commit_index) FROM entries"
_BYTES_MAX: Final = 1 << 40


def read_committed(data_dir: Path) -> tuple[Entry, ...]:
    """Return all entries that a node has and knows to be committed, verified.

    The node may run, but then should have nothing to write for the moment.

    Raises:
        DamagedFiles: An entry is not what was written.
    """
    path = data_dir / LOG_NAME
    with reading(path) as db:
        meta = read_meta(db, path)
        head = decode_meta(path, meta, HEAD, LogHead)
        cut = decode_meta(path, meta, CUT_POINT, CutPoint)
        (written,) = db.execute(_COMMIT_SQL).fetchone()
    commit = max(head.commit, written or 0)
    first = Index(cut.index + 1)
    reader = LogReader(path)
    reader.connect()
    try:
        return reader.read(cut, first, Index(commit + 1), _BYTES_MAX)
    finally:
        reader.close()


def as_log(entries: Iterable[Entry]) -> list[tuple[int, int, bytes]]:
    """Return entries, from files or from memory, as a recorder takes them.

    What is not for the state machine (changes of members) has no payload.
    """
    return [
        (
            entry.index,
            entry.term,
            entry.payload if entry.kind is EntryKind.NORMAL else b"",
        )
        for entry in entries
    ]
