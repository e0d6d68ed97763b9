"""Rows of the state machine, packed for the disk and for followers.

A chunk is one msgpack array of rows `[table, key, value]`, about 64 KiB in all; a nil
value says that the row is gone. A snapshot to a follower is chunks as they are.

Rules: a chunk is closed by the row that fills it, so it holds at least one row and at
most one row more than its size. Unpacking validates types; the checksum that finds
flipped bits lies beside the chunk, in state.db's row.

Source: DESIGN.md section 6 (state.db).
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

__all__ = ["CHUNK_BYTES", "Row", "join", "pack", "unpack"]

#: (table, key, value); value None deletes.
Row = tuple[int, bytes, bytes | None]

CHUNK_BYTES = 64 * 1024
#: msgpack headers of a row at the most: array, integer, two blobs.
_ROW_OVERHEAD_BYTES = 1 + 9 + 5 + 5

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Row])


def pack(rows: Iterable[Row]) -> Iterator[bytes]:
    """Pack rows, in their order, into chunks of about `CHUNK_BYTES`."""
    gathered: list[Row] = []
    size_bytes = 0
    for row in rows:
        gathered.append(row)
        size_bytes += _ROW_OVERHEAD_BYTES + len(row[1]) + len(row[2] or b"")
        if size_bytes >= CHUNK_BYTES:
            yield _encoder.encode(gathered)
            gathered, size_bytes = [], 0
    if gathered:
        yield _encoder.encode(gathered)


def join(rows: Sequence[bytes]) -> bytes:
    """Make one chunk of rows that are encoded already; the caller keeps its size."""
    return _encoder.encode([msgspec.Raw(row) for row in rows])


def unpack(data: bytes) -> list[Row]:
    """Give back the rows of one chunk.

    Raises:
        msgspec.DecodeError: `data` is no chunk; the caller knows where it came from
            and says so.
    """
    try:
        return _decoder.decode(data)
    except RecursionError as error:
        raise msgspec.DecodeError(str(error)) from error
