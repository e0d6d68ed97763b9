"""The machine's own row: clocks, counter, sizes, and the compaction revision's place.

Source: DESIGN.md section 5; RELIABILITY.md rule 28.
"""

from typing import Final, NamedTuple

import msgspec

from raftd.statemachine.module import Module
from raftd.statemachine.tables import Rank, RowKey, Table

__all__ = ["META_ROW", "Meta", "Stamps", "decode_stamps"]

META_ROW: Final = "machine"
"""Key of the one row. Every entry changes it, so every checkpoint begins with it."""

_META: Final = int(Table.META)  # an enum's member costs a look-up each time
_encode: Final = msgspec.msgpack.Encoder().encode


class Stamps(NamedTuple):
    """What the row holds."""

    now_ms: int
    wall_ms: int
    revision: int
    size_bytes: int


decode_stamps: Final = msgspec.msgpack.Decoder(Stamps).decode


class Meta(Module):
    """Stores what the context holds for all modules."""

    rank = Rank.MACHINE
    tables = (Table.META,)

    def touch(self) -> None:
        """Mark the row; called before an entry moves the clocks."""
        self.context.mark(_META, META_ROW)

    def encode_row(self, table: int, key: RowKey) -> bytes | None:
        """Encode clocks, counter and size."""
        assert (table, key) == (Table.META, META_ROW)
        context = self.context
        return _encode(
            (context.now_ms, context.wall_ms, context.revision, context.size_bytes)
        )

    def load_row(self, table: int, key: RowKey, value: bytes) -> None:
        """Take up clocks, counter and size."""
        assert (table, key) == (Table.META, META_ROW)
        context = self.context
        (
            context.now_ms,
            context.wall_ms,
            context.revision,
            context.size_bytes,
        ) = decode_stamps(value)
