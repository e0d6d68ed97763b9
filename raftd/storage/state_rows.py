"""How state.db keeps chunks: ids, checksums, and which of them are alive.

A chunk's id is its generation and its number in it. Generation 0 holds the deltas,
one run of numbers without a gap; every higher generation is one base, numbered from 0.
The meta row `base` says which base is alive and up to which delta it includes. So a
new base is written beside the old one at leisure, and one small row makes the swap.

Rules: whatever is not alive is rubbish of an unfinished or superseded merge, and may
be removed by anybody at any time. A merge may go on only while the meta row `merge`
holds its own mark: whoever changes the base otherwise removes it.

Source: DESIGN.md section 6 (state.db), RELIABILITY.md rules 25, 29, 32.
"""

import zlib
from typing import NamedTuple

import msgspec

from raftd.storage.files import FileKind
from raftd.storage.types import CheckpointMeta

__all__ = [
    "BASE",
    "CHECKPOINT",
    "CHUNK_INSERT",
    "DELTA_ID_MAX",
    "MERGE",
    "STATE_FILE",
    "SWEEP_SQL",
    "BaseMark",
    "CheckpointMark",
    "IdRange",
    "base_ids",
    "checksum_chunk",
    "delta_ids",
]

#: Names of state.db's own meta rows.
BASE = "base"
CHECKPOINT = "checkpoint"
MERGE = "merge"

STATE_FILE = FileKind(
    name="state",
    application_id=0x72617374,  # "rast"
    table="chunks",
    table_sql=(
        "CREATE TABLE chunks (id INTEGER PRIMARY KEY, crc INTEGER NOT NULL,"
        " data BLOB NOT NULL)"
    ),
)
CHUNK_INSERT = "INSERT INTO chunks VALUES (?, ?, ?)"
#: Removes some chunks outside two ranges of ids; again until there were none.
SWEEP_SQL = """
    DELETE FROM chunks WHERE id IN (
        SELECT id FROM chunks
        WHERE NOT (id BETWEEN ? AND ?) AND NOT (id BETWEEN ? AND ?) LIMIT 64
    )
    RETURNING id
"""
_NUMBER_BITS = 40
#: Of every delta there will ever be.
DELTA_ID_MAX = (1 << _NUMBER_BITS) - 1


class BaseMark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which base is alive."""

    generation: int = 1
    chunk_count: int = 0
    #: Deltas up to this number are in it.
    merged_delta: int = 0


class CheckpointMark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The newest checkpoint, and the last delta it wrote."""

    meta: CheckpointMeta | None = None
    last_delta: int = 0


class IdRange(NamedTuple):
    """Ids of chunks, both ends included; empty when `first` is above `last`."""

    first: int
    last: int


def base_ids(base: BaseMark) -> IdRange:
    """Name the chunks of a base."""
    first = base.generation << _NUMBER_BITS
    return IdRange(first, first + base.chunk_count - 1)


def delta_ids(base: BaseMark, mark: CheckpointMark) -> IdRange:
    """Name the deltas that are not in the base yet."""
    return IdRange(base.merged_delta + 1, mark.last_delta)


def checksum_chunk(chunk_id: int, data: bytes) -> int:
    """Checksum a chunk together with its place."""
    return zlib.crc32(data, zlib.crc32(chunk_id.to_bytes(8, "big")))
