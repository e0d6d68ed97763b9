"""Locks in the log: acquire, cancel, release, break.

Source: SEMANTICS.md section 4.
"""

from __future__ import annotations

import enum

from raftd.statemachine.schema.base import Command, Result

__all__ = [
    "AcquireCancelled",
    "AcquireLock",
    "BreakLock",
    "CancelAcquire",
    "LockBroken",
    "LockGranted",
    "LockMode",
    "LockReleased",
    "ReleaseLock",
]


class LockMode(enum.IntEnum):
    """How a lock may be held together with others."""

    EXCLUSIVE = 1
    SHARED = 2
    SEMAPHORE = 3


class AcquireLock(Command, frozen=True, tag=50):
    """Take a lock, or queue for it.

    Attributes:
        name: 1 to 256 bytes.
        lease: Lease or session that pays for the claim.
        claimant: Fresh for each lock object; equal claimants re-enter.
        mode: Exclusive, shared or semaphore.
        limit: Holders at once (semaphore only, at least 1).
        wait_ms: 0 = try, None = for ever.
        delay_ms: Stay closed so long after an involuntary loss.
    """

    name: str
    lease: int
    claimant: str
    mode: LockMode = LockMode.EXCLUSIVE
    limit: int = 1
    wait_ms: int | None = 0
    delay_ms: int = 0


class LockGranted(Result, frozen=True, tag=50):
    """The claim's fencing token."""

    token: int


class CancelAcquire(Command, frozen=True, tag=51):
    """Leave the queue of a lock (or give back a grant that raced it)."""

    name: str
    lease: int
    claimant: str


class AcquireCancelled(Result, frozen=True, tag=51):
    """Whether a waiter was removed."""

    was_waiting: bool


class ReleaseLock(Command, frozen=True, tag=52):
    """Give a lock back; the token must be current."""

    name: str
    token: int


class LockReleased(Result, frozen=True, tag=52):
    """Released."""


class BreakLock(Command, frozen=True, tag=53):
    """Take a lock from all its holders (operator)."""

    name: str


class LockBroken(Result, frozen=True, tag=53):
    """How many holders lost it."""

    holders: int
