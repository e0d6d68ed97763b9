"""A key as it stood at one revision, and a change of it.

Apart from ``raftclient.kv`` because transactions and watches speak of keys, too.
Source: proto/raftpb/v1/kv.proto.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from raftpb.v1 import kv_pb2

__all__ = ["KeyValue", "WatchEvent", "WatchKind", "key_value_from_wire"]


class KeyValue(msgspec.Struct, frozen=True, gc=False):
    """A key.

    Attributes:
        version: Its own changes since it was created, from 1.
        lease_id: The lease it lives with; 0 = none.
        age_ms: Of a stale read: how old the answer may be; else 0.
    """

    key: bytes
    value: bytes
    create_rev: int
    mod_rev: int
    version: int
    lease_id: int = 0
    age_ms: int = 0


class WatchKind(enum.StrEnum):
    """What an item of a watch is."""

    PUT = "put"
    DELETE = "delete"
    INITIAL = "initial"
    """A key as it stands: part of a list."""
    SYNCED = "synced"
    """The list is complete as of ``revision``; what follows are changes after it."""
    RESYNC = "resync"
    """Changes were missed: forget what you have, a fresh list follows."""


class WatchEvent(msgspec.Struct, frozen=True, gc=False):
    """An item of a watch.

    Attributes:
        key_value: None for SYNCED and RESYNC; of a DELETE only key and mod_rev count.
        previous: The key as it was, if asked for and still kept.
    """

    kind: WatchKind
    revision: int
    key_value: KeyValue | None = None
    previous: KeyValue | None = None

    @property
    def key(self) -> bytes:
        """The key; empty for SYNCED and RESYNC."""
        return b"" if self.key_value is None else self.key_value.key

    @property
    def value(self) -> bytes:
        """The value; empty for a delete, SYNCED and RESYNC."""
        return b"" if self.key_value is None else self.key_value.value


def key_value_from_wire(found: kv_pb2.KeyValue, age_ms: int = 0) -> KeyValue:
    """Turn the API's message into ours."""
    return KeyValue(
        found.key,
        found.value,
        found.create_rev,
        found.mod_rev,
        found.version,
        found.lease_id,
        age_ms,
    )
