"""Building a machine from rows in small steps, so that a live node goes on meanwhile.

Rules: of equal (table, key) the row that came last counts. Modules get the rows of a
table sorted by their packed keys, because the order on disk differs from member to
member. Between two steps anything may happen but to the machine that is being built.

Source: DESIGN.md section 6 (a snapshot's rows become a state).
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Final, TypeVar

from raftd.statemachine.rows import Row

__all__ = [
    "ROW_OVERHEAD_BYTES",
    "STEP_BYTES",
    "STEP_ROWS",
    "RowsByTable",
    "in_steps",
    "pop_in_steps",
    "sort",
]

K = TypeVar("K")
T = TypeVar("T")

STEP_ROWS: Final = 256
"""Rows handled in one step: around a millisecond."""

STEP_BYTES: Final = 128 * 1024
"""Encoded rows taken up in one step,"""

ROW_OVERHEAD_BYTES: Final = STEP_BYTES // STEP_ROWS
"""each of which counts as so many bytes at least."""

_PARTS: Final = 256
"""Of a table: by the last byte of the key, which is a number's lowest mostly."""

_BUCKET_KEYS: Final = 2048
"""Keys sorted at once."""

_SAMPLE: Final = 8
"""Keys looked at for each bucket, to make buckets of about one size."""


class RowsByTable:
    """The newest rows of each table.

    They lie in many small dicts: a large one takes long each time that it grows.
    """

    __slots__ = ("_tables",)

    def __init__(self) -> None:
        self._tables: dict[int, list[dict[bytes, bytes]]] = {}

    def add(self, rows: Iterable[Row]) -> None:
        """Take in rows, later ones in the place of earlier ones."""
        tables = self._tables
        for table, key, value in rows:
            parts = tables.get(table)
            if parts is None:
                parts = tables[table] = [{} for _ in range(_PARTS)]
            found = parts[key[-1] if key else 0]
            if value is None:
                found.pop(key, None)
            else:
                found[key] = value

    def tables(self) -> list[int]:
        """Return the tables that have rows, by number."""
        return sorted(self._tables)

    def keys(self, table: int) -> Iterator[bytes]:
        """Give the keys of a table, in any order."""
        return chain.from_iterable(self._tables[table])

    def take(self, table: int, key: bytes) -> bytes:
        """Give a row and forget it."""
        return self._tables[table][key[-1] if key else 0].pop(key)


def in_steps(items: Iterable[T], act: Callable[[T], None]) -> Iterator[None]:
    """Do something with each item, in steps."""
    left = STEP_ROWS
    for item in items:
        act(item)
        left -= 1
        if not left:
            left = STEP_ROWS
            yield


def pop_in_steps(items: dict[K, T]) -> Iterator[None]:
    """Empty a large dict, in steps."""
    while items:
        for _ in range(min(STEP_ROWS, len(items))):
            items.popitem()
        yield


def sort(keys: Iterable[bytes], into: list[bytes]) -> Iterator[None]:
    """Sort many distinct keys in steps.

    Args:
        keys: In any order; sorted ones are not slower.
        into: Gets them, rising; complete after the last step.
    """
    source = iter(keys)
    pending: list[bytes] = []
    while part := list(islice(source, _BUCKET_KEYS)):
        pending += part
        yield
    if len(pending) <= _BUCKET_KEYS:
        into += sorted(pending)
        return
    stride = max(1, _BUCKET_KEYS // _SAMPLE)
    bounds = sorted(pending[::stride])[_SAMPLE::_SAMPLE]
    buckets: list[list[bytes]] = [[] for _ in range(len(bounds) + 1)]
    for start in range(0, len(pending), _BUCKET_KEYS):
        for key in pending[start : start + _BUCKET_KEYS]:
            buckets[bisect_right(bounds, key)].append(key)
        yield
    for bucket in buckets:
        bucket.sort()
        into += bucket
        yield
