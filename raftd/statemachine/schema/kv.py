"""Keys in the log: put, delete, delete range, increment, compaction.

Source: SEMANTICS.md section 2.
"""

from __future__ import annotations

import msgspec

from raftd.statemachine.schema.base import Command, Result

__all__ = [
    "CompactHistory",
    "DeleteKey",
    "DeleteRange",
    "GetKey",
    "HistoryCompacted",
    "IncrementKey",
    "KeyDeleted",
    "KeyGot",
    "KeyIncremented",
    "KeyPut",
    "KeyValue",
    "PutKey",
    "RangeDeleted",
]


class KeyValue(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One key as it stood at one revision."""

    key: bytes
    value: bytes
    create_rev: int
    mod_rev: int
    version: int
    lease: int

    def without_value(self) -> KeyValue:
        """Return what a reply window keeps; the value is found again by mod_rev."""
        return KeyValue(
            self.key, b"", self.create_rev, self.mod_rev, self.version, self.lease
        )


class PutKey(Command, frozen=True, tag=30):
    """Set a key.

    Attributes:
        key: 1 to 1024 bytes.
        value: Up to 1 MiB.
        lease: Ends with this lease or session; 0 for none.
        if_mod_rev: Only if the key was last changed then; 0 = must not exist.
        want_previous: Answer the previous key and value too.
    """

    key: bytes
    value: bytes
    lease: int = 0
    if_mod_rev: int | None = None
    want_previous: bool = False


class KeyPut(Result, frozen=True, tag=30):
    """The key's new revision, and what was there before if asked."""

    mod_rev: int
    previous: KeyValue | None = None

    def kept(self) -> KeyPut:
        """Drop the previous value."""
        if self.previous is None:
            return self
        return KeyPut(self.mod_rev, self.previous.without_value())


class DeleteKey(Command, frozen=True, tag=31):
    """Delete one key; a missing one is not an error, unless ``if_mod_rev``."""

    key: bytes
    if_mod_rev: int | None = None
    want_previous: bool = False


class KeyDeleted(Result, frozen=True, tag=31):
    """Whether there was such a key (0 or 1)."""

    deleted: int
    previous: KeyValue | None = None

    def kept(self) -> KeyDeleted:
        """Drop the previous value."""
        if self.previous is None:
            return self
        return KeyDeleted(self.deleted, self.previous.without_value())


class DeleteRange(Command, frozen=True, tag=32):
    """Delete all keys in [start, end); empty ``end`` = to the very last key."""

    start: bytes
    end: bytes


class RangeDeleted(Result, frozen=True, tag=32):
    """How many keys went (all at one revision)."""

    deleted: int


class IncrementKey(Command, frozen=True, tag=33):
    """Add ``by`` to an int64 kept as decimal text; a missing key counts as 0."""

    key: bytes
    by: int
    lease: int = 0


class KeyIncremented(Result, frozen=True, tag=33):
    """The new value."""

    value: int
    mod_rev: int


class GetKey(Command, frozen=True, tag=34):
    """Read a key inside a transaction (never alone in the log)."""

    key: bytes


class KeyGot(Result, frozen=True, tag=34):
    """The key, or None."""

    found: KeyValue | None = None

    def kept(self) -> KeyGot:
        """Drop the value."""
        return self if self.found is None else KeyGot(self.found.without_value())


class CompactHistory(Command, frozen=True, tag=35):
    """Forget versions and events below ``revision``."""

    revision: int


class HistoryCompacted(Result, frozen=True, tag=35):
    """The compaction revision now in force."""

    revision: int
