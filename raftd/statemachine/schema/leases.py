"""Leases in the log: grant and revoke.

Source: SEMANTICS.md section 1.
"""

from __future__ import annotations

from raftd.statemachine.schema.base import Command, Result

__all__ = ["GrantLease", "LeaseGranted", "LeaseRevoked", "RevokeLease"]


class GrantLease(Command, frozen=True, tag=20):
    """Grant a lease of ``ttl_ms`` (1000 to 86400000)."""

    ttl_ms: int
    claimant: str


class LeaseGranted(Result, frozen=True, tag=20):
    """The new lease."""

    lease: int
    ttl_ms: int


class RevokeLease(Command, frozen=True, tag=21):
    """End a lease and all that hangs on it."""

    lease: int


class LeaseRevoked(Result, frozen=True, tag=21):
    """How many keys, locks, candidacies and reservations went with it."""

    attachments: int
