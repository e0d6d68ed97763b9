"""Sessions in the log: open and close.

Renewals are not commands: they ride in the entry itself.
Source: SEMANTICS.md section 1.
"""

from __future__ import annotations

from raftd.statemachine.schema.base import Command, Result

__all__ = ["CloseSession", "OpenSession", "SessionClosed", "SessionOpened"]


class OpenSession(Command, frozen=True, tag=10):
    """Open the session of a key, or find it again.

    Attributes:
        key_hash: blake2b-16 of the client's 16-byte key.
        ttl_ms: 1000 to 86400000.
        claimant: Who asks, for people.
    """

    key_hash: bytes
    ttl_ms: int
    claimant: str


class SessionOpened(Result, frozen=True, tag=10):
    """The session's id (also a lease id) and its ttl."""

    session: int
    ttl_ms: int
    is_new: bool


class CloseSession(Command, frozen=True, tag=11):
    """End a session cleanly: its claims go at once, its window with them."""

    session: int


class SessionClosed(Result, frozen=True, tag=11):
    """Done (closing a session that is gone is also done)."""
