"""Which rows changed since the last mark, and checkpoints of exactly those.

Rules:
* A row is marked *before* it is changed. At a mark the set of changed rows is swapped
  for an empty one and encoded later, in slices, while new entries are applied: a row
  about to change while the checkpoint still owes it is encoded at that moment.
* Several checkpoints may owe rows at once, and each row is owed by one of them at the
  most: whatever changed after a mark was encoded for that mark's checkpoint before.
* A mark of a refused command stays: its row is then written unchanged. Marks follow
  from the log alone, so every member writes the same rows at the same index.
* No encoded row is kept once the checkpoint is written, and no hash per row.
* ``digest_k = blake2b(digest_k-1, index, sum of the changed rows' hashes)``. The sum is
  taken modulo 2**256, so it needs no sorting of a million keys in one turn and does
  not depend on the order in which a checkpoint was encoded.

Source: DESIGN.md section 5 (rows, marked entries).
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from raftd.statemachine.tables import RowKey, Table, pack_key

__all__ = ["DIGEST_BYTES", "Checkpoint", "Row", "Rows"]

Row = tuple[int, bytes, bytes | None]
"""(table, key, value) as it goes to disk; value None = the row is gone."""

Encode = Callable[[int, RowKey], bytes | None]

DIGEST_BYTES: Final = 32
_TABLES_MAX: Final = max(Table) + 1
_MODULUS: Final = 1 << 256
_encode: Final = msgspec.msgpack.Encoder().encode


class _Owed:
    """Stands for a row that the checkpoint has not encoded yet."""


_OWED: Final = _Owed()
_OwedRows = dict[RowKey, _Owed | bytes | None]


class Checkpoint:
    """The rows changed up to one mark, as they stood at that mark."""

    def __init__(
        self,
        index: int,
        changed: list[_OwedRows],
        encode: Encode,
        previous: "Checkpoint | bytes",
    ) -> None:
        self.index: Final = index
        self.is_done = False
        self._owed: Final = changed
        self._encode: Final = encode
        self._previous: Checkpoint | bytes = previous
        self._sum = 0
        self._digest = b""

    @property
    def rows_left(self) -> int:
        """How many rows are still to be taken."""
        return sum(map(len, self._owed))

    @property
    def digest(self) -> bytes:
        """The state's digest at ``index``.

        Known once all rows were taken, of this checkpoint and of those before it.
        """
        assert self.is_done, "the digest is known when all rows are encoded"
        if not self._digest:
            previous = self._previous
            if isinstance(previous, Checkpoint):
                previous = previous.digest
            total = (self._sum % _MODULUS).to_bytes(DIGEST_BYTES, "big")
            self._digest = hashlib.blake2b(
                previous + self.index.to_bytes(8, "big") + total,
                digest_size=DIGEST_BYTES,
            ).digest()
            self._previous = b""
        return self._digest

    def rows(self) -> Iterator[Row]:
        """Take the rows, each encoded as it is asked for.

        May be left and taken up again later, between any two entries.
        """
        for table, owed in enumerate(self._owed):
            while owed:
                key, state = owed.popitem()
                value = self._encode(table, key) if isinstance(state, _Owed) else state
                row = (table, pack_key(key), value)
                self._sum += _hash(row)
                yield row
        self.is_done = True

    def pay(self, table: int, key: RowKey) -> None:
        """Encode a row now, because it is about to change."""
        owed = self._owed[table]
        if isinstance(owed.get(key), _Owed):
            owed[key] = self._encode(table, key)


class Rows:
    """The rows changed since the last mark."""

    def __init__(self) -> None:
        self._changed = _empty()
        self._open: list[Checkpoint] = []
        self._encoders: dict[int, Encode] = {}

    def register(self, table: int, encode: Encode) -> None:
        """Tell who encodes the rows of a table."""
        assert table not in self._encoders, f"table {table} has two modules"
        self._encoders[table] = encode

    def mark(self, table: int, key: RowKey) -> None:
        """Say that a row is about to change; call this before changing it."""
        changed = self._changed[table]
        if key in changed:
            return
        changed[key] = _OWED
        if self._open:
            self._pay(table, key)

    def _pay(self, table: int, key: RowKey) -> None:
        for checkpoint in self._open:
            checkpoint.pay(table, key)
        if self._open[0].is_done:
            self._open = [each for each in self._open if not each.is_done]

    def take(self, index: int, previous: Checkpoint | bytes) -> Checkpoint:
        """Begin a checkpoint of what changed.

        Args:
            index: Of the mark.
            previous: The checkpoint before it, or that one's digest.
        """
        checkpoint = Checkpoint(index, self._changed, self._encode_row, previous)
        self._changed = _empty()
        self._open = [each for each in self._open if not each.is_done]
        self._open.append(checkpoint)
        return checkpoint

    def _encode_row(self, table: int, key: RowKey) -> bytes | None:
        return self._encoders[table](table, key)


def _empty() -> list[_OwedRows]:
    return [{} for _ in range(_TABLES_MAX)]


def _hash(row: Row) -> int:
    return int.from_bytes(
        hashlib.blake2b(_encode(row), digest_size=DIGEST_BYTES).digest(), "big"
    )
