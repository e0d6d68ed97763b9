"""Which rows changed since the last mark, and checkpoints of exactly those.

Rules:
* A row is marked *before* it is changed. At a mark the set of changed rows is swapped
  for an empty one and encoded later, in slices, while new entries are applied: a row
  that is to be looked up, and about to change while the checkpoint still owes it, is
  encoded at that moment.
* Several checkpoints may owe rows at once, and each row is to be looked up for one of
  them at the most: whatever changed after a mark was encoded for its checkpoint before.
* A row that is made from a record which never changes may be marked with it, and is
  encoded from it, without being looked up: at scale that is half the work.
* A mark of a refused command stays: its row is then written unchanged. Marks follow
  from the log alone, so every member writes the same rows at the same index.
* No encoded row is kept once the checkpoint is written, and no hash per row.
* ``digest_k = blake2b(digest_k-1, index, sum of the changed rows' hashes)``. The sum is
  taken modulo 2**256, so it needs no sorting of a million keys in one turn and does
  not depend on the order in which a checkpoint was encoded.

Source: DESIGN.md section 5 (rows, marked entries).
"""

import hashlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from raftd.statemachine.tables import RowKey, Table, pack_key

__all__ = ["DIGEST_BYTES", "OWED", "Checkpoint", "Row", "Rows"]

Row = tuple[int, bytes, bytes | None]
"""(table, key, value) as it goes to disk; value None = the row is gone."""

Encode = Callable[[int, RowKey], bytes | None]
EncodeRecord = Callable[[int, Any], bytes]

DIGEST_BYTES: Final = 32
_TABLES_MAX: Final = max(Table) + 1
_MODULUS: Final = 1 << 256
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Row).decode
_hash: Final = hashlib.blake2b
_number: Final = int.from_bytes


class _Owed:
    """Stands for a row that is to be looked up."""


OWED: Final = _Owed()
_State = object
"""``OWED``, what the row is made from, or what it is: bytes, None if it is gone."""
_OwedRows = dict[RowKey, _State]


class Checkpoint:
    """The rows changed up to one mark, as they stood at that mark."""

    def __init__(
        self,
        index: int,
        changed: list[_OwedRows],
        encoders: dict[int, tuple[Encode, EncodeRecord]],
        previous: "Checkpoint | bytes",
    ) -> None:
        self.index: Final = index
        self.is_done = False
        self._owed: Final = changed
        self._encoders: Final = encoders
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

    def take(self, rows_max: int, bytes_max: int) -> list[bytes]:
        """Take some of the rows, encoded now.

        Args:
            rows_max: How many.
            bytes_max: Of all together; the row that goes beyond is the last one.

        Returns:
            Each as msgpack of ``[table, key, value]``, a `Row`; ``is_done`` says
            whether those were the last.
        """
        taken: list[bytes] = []
        room_bytes, total = bytes_max, self._sum
        for table, owed in enumerate(self._owed):
            while owed:
                if len(taken) >= rows_max or room_bytes <= 0:
                    self._sum = total
                    return taken
                key, state = owed.popitem()
                row = _encode((table, pack_key(key), self._value(table, key, state)))
                total += _number(_hash(row, digest_size=DIGEST_BYTES).digest(), "big")
                room_bytes -= len(row)
                taken.append(row)
        self._sum = total
        self.is_done = True
        return taken

    def finish(self) -> None:
        """Take what is left, for the digest alone."""
        self.take(sys.maxsize, sys.maxsize)

    def rows(self) -> Iterator[Row]:
        """Take the rows one by one, each encoded as it is asked for.

        May be left and taken up again later, between any two entries.
        """
        while not self.is_done:
            for row in self.take(1, 1):
                yield _decode(row)

    def pay(self, table: int, key: RowKey) -> None:
        """Encode a row that is to be looked up now: it is about to change."""
        owed = self._owed[table]
        if owed.get(key) is OWED:
            owed[key] = self._value(table, key, OWED)

    def _value(self, table: int, key: RowKey, state: _State) -> bytes | None:
        if state is OWED:
            return self._encoders[table][0](table, key)
        if state is None or isinstance(state, bytes):
            return state
        return self._encoders[table][1](table, state)


class Rows:
    """The rows changed since the last mark."""

    def __init__(self) -> None:
        self._changed = _empty()
        self._open: list[Checkpoint] = []
        self._encoders: dict[int, tuple[Encode, EncodeRecord]] = {}

    def register(self, table: int, encode: Encode, encode_record: EncodeRecord) -> None:
        """Tell who encodes the rows of a table."""
        assert table not in self._encoders, f"table {table} has two modules"
        self._encoders[table] = encode, encode_record

    def mark(self, table: int, key: RowKey) -> None:
        """Say that a row is about to change; call this before changing it."""
        changed = self._changed[table]
        if key in changed:
            return
        changed[key] = OWED
        if self._open:
            self._pay(table, key)

    def mark_as(self, table: int, key: RowKey, state: _State) -> None:
        """Say that a row is about to change, and into what.

        ``mark`` would leave in place what was given: whoever changes the row later, or
        takes the change back, calls this again.

        Args:
            table: Its table.
            key: Its key.
            state: What it will be made from, which never changes and is not bytes;
                None = it goes; ``OWED`` = to be looked up, as by ``mark``.
        """
        changed = self._changed[table]
        if self._open and key not in changed:
            self._pay(table, key)
        changed[key] = state

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
        checkpoint = Checkpoint(index, self._changed, self._encoders, previous)
        self._changed = _empty()
        self._open = [each for each in self._open if not each.is_done]
        self._open.append(checkpoint)
        return checkpoint


def _empty() -> list[_OwedRows]:
    return [{} for _ in range(_TABLES_MAX)]
