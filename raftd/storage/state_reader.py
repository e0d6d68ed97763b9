"""Reads state.db's living chunks in order, as of one moment, each verified.

Rules: one read transaction from the first chunk to the last, so writes and merges
beside it do not show. A missing chunk is damage as much as an altered one.

Source: DESIGN.md section 6; RELIABILITY.md rules 25 and 32.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec

from raftd.storage.chunks import Row, unpack
from raftd.storage.errors import DamagedFiles
from raftd.storage.files import decode_meta, read_meta, reading, reading_at_rest
from raftd.storage.state_rows import (
    BASE,
    CHECKPOINT,
    STAGING,
    BaseMark,
    CheckpointMark,
    IdRange,
    StagingMark,
    base_ids,
    checksum_chunk,
    delta_ids,
)
from raftd.storage.types import CheckpointMeta

__all__ = [
    "check_chunks",
    "read_chunks",
    "read_marks",
    "read_range",
    "read_staged",
    "read_staging",
    "unpack_chunk",
]


def read_marks(db: sqlite3.Connection, path: Path) -> tuple[BaseMark, CheckpointMark]:
    """Read which chunks are alive.

    Raises:
        DamagedFiles: A record is missing or altered.
    """
    meta = read_meta(db, path)
    base = decode_meta(path, meta, BASE, BaseMark)
    return base, decode_meta(path, meta, CHECKPOINT, CheckpointMark)


def read_staging(db: sqlite3.Connection, path: Path) -> StagingMark | None:
    """Read which snapshot is on its way in, if any.

    Raises:
        DamagedFiles: The record was altered.
    """
    meta = read_meta(db, path)
    return decode_meta(path, meta, STAGING, StagingMark) if STAGING in meta else None


def check_chunks(path: Path) -> CheckpointMeta | None:
    """Look at every living chunk of a closed state.db, changing nothing.

    Returns:
        What the newest checkpoint says.

    Raises:
        DamagedFiles: A record or chunk is missing or altered.
        DiskFailed: The disk refused.
    """
    with reading_at_rest(path) as db:
        base, mark = read_marks(db, path)
        for ids in (base_ids(base), delta_ids(base, mark)):
            for _ in read_range(db, path, ids):
                pass
        return mark.meta


def read_chunks(path: Path, last_delta: int | None = None) -> Iterator[bytes]:
    """Give the living chunks, oldest first.

    Args:
        path: Of state.db.
        last_delta: Leave out later ones.

    Raises:
        DamagedFiles: A chunk is missing or altered.
        DiskFailed: The disk refused.
    """
    with reading(path) as db:
        base, mark = read_marks(db, path)
        yield from read_range(db, path, base_ids(base))
        deltas = delta_ids(base, mark)
        if last_delta is not None:
            deltas = IdRange(deltas.first, min(deltas.last, last_delta))
        yield from read_range(db, path, deltas)


def unpack_chunk(path: Path, data: bytes) -> list[Row]:
    """Give back the rows of a chunk of `path`.

    Raises:
        DamagedFiles: They are not rows.
    """
    try:
        return unpack(data)
    except msgspec.DecodeError as error:
        raise DamagedFiles(f"{path} is damaged: a chunk holds no rows.") from error


def read_staged(path: Path, offer_id: bytes) -> Iterator[bytes]:
    """Give the chunks of a snapshot on its way in; none if another one is staged.

    Raises:
        DamagedFiles: A chunk is missing or altered.
        DiskFailed: The disk refused.
    """
    with reading(path) as db:
        staged = read_staging(db, path)
        if staged is not None and staged.offer_id == offer_id:
            yield from read_range(db, path, base_ids(staged))


def read_range(db: sqlite3.Connection, path: Path, ids: IdRange) -> Iterator[bytes]:
    """Give the chunks of one range, each verified, without a gap.

    Raises:
        DamagedFiles: A chunk is missing or altered.
    """
    if ids.last < ids.first:
        return
    expected = ids.first
    rows = db.execute(
        "SELECT id, crc, data FROM chunks WHERE id BETWEEN ? AND ? ORDER BY id", ids
    )
    for chunk_id, crc, data in rows:
        if (
            chunk_id != expected
            or not isinstance(data, bytes)
            or checksum_chunk(chunk_id, data) != crc
        ):
            raise DamagedFiles(f"{path} is damaged: chunk {expected} was altered.")
        expected += 1
        yield data
    if expected != ids.last + 1:
        raise DamagedFiles(f"{path} is damaged: chunk {expected} is missing.")
