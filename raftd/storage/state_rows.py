"""How state.db keeps chunks: ids, checksums, and which of them are alive.

A chunk's id is its generation and its number in it. Generation 0 holds the deltas,
one run of numbers without a gap; every higher generation is one base, numbered from 0.
The meta row `base` says which base is alive and up to which delta it includes. So a
new base is written beside the old one at leisure, and one small row makes the swap: by
a merge, or by the install of a snapshot that the meta row `staging` had gathered.

Rules: merges make even generations and snapshots odd ones, so neither ever writes into
the other's. Whatever is neither alive nor staged is rubbish of something unfinished or
superseded, and may be removed by anybody at any time. A merge may go on only while the
meta row `merge` holds its own mark: whoever changes the base otherwise removes it.

Source: DESIGN.md section 6 (state.db), RELIABILITY.md rules 25, 29, 31, 32.
"""

import zlib
from typing import NamedTuple

import msgspec

from raftd.storage.files import IDENTITY, FileKind
from raftd.storage.identity import Identity
from raftd.storage.types import CheckpointMeta

__all__ = [
    "BASE",
    "CHECKPOINT",
    "CHUNK_INSERT",
    "DELTA_ID_MAX",
    "DROP_SQL",
    "MERGE",
    "META_DELETE",
    "NO_IDS",
    "STAGING",
    "STATE_FILE",
    "SWEEP_SQL",
    "BaseMark",
    "CheckpointMark",
    "IdRange",
    "StagingMark",
    "base_ids",
    "blank_state",
    "checksum_chunk",
    "chunk_row",
    "delta_ids",
    "generation_ids",
    "merge_generation",
    "staging_generation",
]

#: Names of state.db's own meta rows.
BASE = "base"
CHECKPOINT = "checkpoint"
MERGE = "merge"
STAGING = "staging"

STATE_FILE = FileKind(
    name="state",
    application_id=0x72617374,  # "rast"
    table="chunks",
    table_sql=(
        "CREATE TABLE chunks (id INTEGER PRIMARY KEY, crc INTEGER NOT NULL,"
        " data BLOB NOT NULL)"
    ),
)
META_DELETE = "DELETE FROM meta WHERE name = ?"
CHUNK_INSERT = "INSERT INTO chunks VALUES (?, ?, ?)"
#: Removes some chunks outside three ranges of ids; again until there were none.
SWEEP_SQL = """
    DELETE FROM chunks WHERE id IN (
        SELECT id FROM chunks
        WHERE NOT (id BETWEEN ? AND ?) AND NOT (id BETWEEN ? AND ?)
            AND NOT (id BETWEEN ? AND ?) LIMIT 64
    )
    RETURNING id
"""
#: Removes some chunks of one range of ids; again until there were none.
DROP_SQL = """
    DELETE FROM chunks WHERE id IN (
        SELECT id FROM chunks WHERE id BETWEEN ? AND ? LIMIT 64
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


def blank_state(identity: Identity) -> dict[str, object]:
    """Make the meta rows of a state without a checkpoint."""
    return {IDENTITY: identity, BASE: BaseMark(), CHECKPOINT: CheckpointMark()}


class StagingMark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A snapshot on its way in: its chunks so far lie in a generation of their own."""

    offer_id: bytes
    generation: int
    chunk_count: int = 0


class IdRange(NamedTuple):
    """Ids of chunks, both ends included; empty when `first` is above `last`."""

    first: int
    last: int


NO_IDS = IdRange(0, -1)


def base_ids(base: BaseMark | StagingMark) -> IdRange:
    """Name the chunks of a base, or of what may become one."""
    first = base.generation << _NUMBER_BITS
    return IdRange(first, first + base.chunk_count - 1)


def generation_ids(generation: int) -> IdRange:
    """Name every chunk a generation may have."""
    first = generation << _NUMBER_BITS
    return IdRange(first, first + DELTA_ID_MAX)


def merge_generation(base: BaseMark) -> int:
    """Choose the generation of the next merge's base: even."""
    return base.generation + 2 - base.generation % 2


def staging_generation(base: BaseMark) -> int:
    """Choose the generation of the next snapshot: odd."""
    return base.generation + 1 + base.generation % 2


def delta_ids(base: BaseMark, mark: CheckpointMark) -> IdRange:
    """Name the deltas that are not in the base yet."""
    return IdRange(base.merged_delta + 1, mark.last_delta)


def chunk_row(chunk_id: int, data: bytes) -> tuple[int, int, bytes]:
    """Make the parameters of `CHUNK_INSERT`."""
    return chunk_id, checksum_chunk(chunk_id, data), data


def checksum_chunk(chunk_id: int, data: bytes) -> int:
    """Checksum a chunk together with its place."""
    return zlib.crc32(data, zlib.crc32(chunk_id.to_bytes(8, "big")))
