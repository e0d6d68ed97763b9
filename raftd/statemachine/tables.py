"""The registry of row tables and the order of modules.

A table number, once released, keeps its meaning for ever: it stands in checkpoints.
Every table has one kind of key in memory and all its row keys on disk are bytes.

Ranks order what happens at one instant: timers that are due together, the claims of a
lease that ends, promotions. They are part of what a log means; append, never renumber.

Source: DESIGN.md section 5.
"""

import enum
from collections.abc import Callable
from typing import Final

__all__ = [
    "KEY_KINDS",
    "KeyKind",
    "Rank",
    "RowKey",
    "Table",
    "key_unpacker",
    "pack_key",
    "unpack_key",
]

RowKey = bytes | int | str
"""A row's key as its module holds it."""


class Rank(enum.IntEnum):
    """The modules in the order in which they act."""

    MACHINE = 0
    SESSIONS = 1
    LEASES = 2
    KV = 3
    HISTORY = 4
    LOCKS = 5
    ELECTIONS = 6
    QUEUES = 7
    JOBS = 8
    TXN = 9


class Table(enum.IntEnum):
    """Numbers of the row tables, in blocks of ten per module."""

    META = 0
    SESSIONS = 10
    LEASES = 20
    VERSIONS = 30
    HISTORY = 40
    LOCKS = 50
    LOCK_WAITERS = 51
    ELECTIONS = 60
    CANDIDATES = 61
    QUEUES = 70
    JOBS = 80
    JOB_PAYLOADS = 81
    JOB_CLIENT_IDS = 82
    JOB_GROUPS = 83
    JOB_UNIQUES = 84
    JOB_TASKS = 85


class KeyKind(enum.Enum):
    """What a table's keys are in memory."""

    BYTES = "bytes"
    NUMBER = "number"
    """0 to 2**64 - 1, on disk eight bytes, big end first."""
    TEXT = "text"


KEY_KINDS: Final[dict[Table, KeyKind]] = {
    Table.META: KeyKind.TEXT,
    Table.SESSIONS: KeyKind.NUMBER,
    Table.LEASES: KeyKind.NUMBER,
    Table.VERSIONS: KeyKind.BYTES,
    Table.HISTORY: KeyKind.NUMBER,
    Table.LOCKS: KeyKind.TEXT,
    Table.LOCK_WAITERS: KeyKind.NUMBER,
    Table.ELECTIONS: KeyKind.TEXT,
    Table.CANDIDATES: KeyKind.NUMBER,
    Table.QUEUES: KeyKind.TEXT,
    Table.JOBS: KeyKind.NUMBER,
    Table.JOB_PAYLOADS: KeyKind.NUMBER,
    Table.JOB_CLIENT_IDS: KeyKind.BYTES,
    Table.JOB_GROUPS: KeyKind.BYTES,
    Table.JOB_UNIQUES: KeyKind.BYTES,
    Table.JOB_TASKS: KeyKind.NUMBER,
}


def pack_key(key: RowKey) -> bytes:
    """Encode a row's key for the disk."""
    if isinstance(key, bytes):
        return key
    if isinstance(key, str):
        return key.encode()
    return key.to_bytes(8, "big")


def unpack_key(table: Table, data: bytes) -> RowKey:
    """Give back the key that ``pack_key`` encoded.

    Raises:
        ValueError: The bytes are no key of this table: the row is damaged.
    """
    return key_unpacker(table)(data)


def key_unpacker(table: Table) -> Callable[[bytes], RowKey]:
    """Return what ``unpack_key`` does for a table, for many keys."""
    match KEY_KINDS[table]:
        case KeyKind.BYTES:
            return _unpack_bytes
        case KeyKind.TEXT:
            return _unpack_text
        case KeyKind.NUMBER:
            return _unpack_number


def _unpack_bytes(data: bytes) -> RowKey:
    return data


def _unpack_text(data: bytes) -> RowKey:
    return data.decode()


def _unpack_number(data: bytes) -> RowKey:
    if len(data) != 8:
        raise ValueError(f"the key of a numbered row has {len(data)} bytes, not 8")
    return int.from_bytes(data, "big")
