"""One lock as the state has it: its holders, whether it is closed, its last change.

Rules:
* At any revision at most one exclusive holder, never together with shared ones, never
  more than ``limit`` of a semaphore.
* Semaphores of different limits, and locks that are no semaphores, do not mix under
  one name while anybody holds or waits.
* A lock is closed until its timer has fired, not until an instant has passed: who may
  enter follows from the rows alone.

Source: SEMANTICS.md section 4.
"""

import enum
from typing import Final, Self

import msgspec

from raftd.statemachine.schema.locks import LockMode
from raftd.statemachine.waiters import Waiter

__all__ = [
    "ClaimView",
    "Lock",
    "LockChange",
    "LockClaim",
    "LockView",
    "view_of",
]


class LockChange(enum.IntEnum):
    """Why a lock last changed hands."""

    NONE = 0
    RELEASED = 1
    EXPIRED = 2
    REVOKED = 3
    BROKEN = 4


class LockClaim(Waiter, frozen=True):
    """A claim that waits or holds; ``since_ms`` counts from the one or the other.

    Attributes:
        limit: Holders at once of a semaphore, else 0.
        delay_ms: How long the lock stays closed if the holder loses it.
    """

    mode: LockMode
    limit: int
    delay_ms: int


class ClaimView(msgspec.Struct, frozen=True, gc=False):
    """A party of a lock as a reader sees it.

    Attributes:
        token: 0 while waiting.
        since_ms: Instant on the lease clock.
    """

    claimant: str
    lease: int
    token: int
    mode: LockMode
    since_ms: int


class LockView(msgspec.Struct, frozen=True, gc=False):
    """A lock as a reader sees it.

    Attributes:
        mode: Of its holders; without any, of the first waiter.
        limit: Of a semaphore, else 0.
        last_change: Why it last changed hands.
        changed_rev: At which revision; 0 = never yet.
        changed_ms: When, on the lease clock.
        closed_until_ms: Instant on the lease clock; 0 = open.
    """

    name: str
    mode: LockMode
    limit: int
    holders: tuple[ClaimView, ...]
    waiters: tuple[ClaimView, ...]
    last_change: LockChange
    changed_rev: int
    changed_ms: int
    closed_until_ms: int


_StoredHolder = tuple[int, int, str, int, LockMode, int, int]
_Stored = tuple[int, LockChange, int, int, list[_StoredHolder]]
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Stored).decode


class Lock:
    """A lock that somebody holds or waits for, or that is closed."""

    __slots__ = (
        "change",
        "changed_ms",
        "changed_rev",
        "closed_until_ms",
        "holders",
        "name",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.holders: dict[int, LockClaim] = {}
        self.closed_until_ms = 0
        """0 = open."""
        self.change = LockChange.NONE
        self.changed_rev = 0
        self.changed_ms = 0

    def admits(self, claim: LockClaim, holders_max: int) -> bool:
        """Tell whether a claim whose turn it is may hold beside the holders."""
        if self.closed_until_ms:
            return False
        holders = self.holders
        if not holders:
            return True
        match claim.mode:
            case LockMode.EXCLUSIVE:
                return False
            case LockMode.SHARED:
                one = next(iter(holders.values()))
                return one.mode is LockMode.SHARED and len(holders) < holders_max
            case LockMode.SEMAPHORE:
                return len(holders) < claim.limit

    def is_idle(self) -> bool:
        """Tell whether nobody holds it and it is open."""
        return not self.holders and not self.closed_until_ms

    def newest_token(self) -> int:
        """Return the newest holder's token, 0 if nobody holds."""
        return max(self.holders, default=0)

    def tokens(self) -> list[int]:
        """Return the holders' tokens, rising."""
        return sorted(self.holders)

    def encode(self) -> bytes:
        """Encode the lock with its holders."""
        holders: list[_StoredHolder] = []
        for token in self.tokens():
            claim = self.holders[token]
            holders.append(
                (
                    token,
                    claim.lease,
                    claim.claimant,
                    claim.since_ms,
                    claim.mode,
                    claim.limit,
                    claim.delay_ms,
                )
            )
        stored: _Stored = (
            self.closed_until_ms,
            self.change,
            self.changed_rev,
            self.changed_ms,
            holders,
        )
        return _encode(stored)

    @classmethod
    def decode(cls, name: str, value: bytes) -> Self:
        """Decode what ``encode`` made."""
        lock = cls(name)
        stored = _decode(value)
        lock.closed_until_ms, lock.change, lock.changed_rev, lock.changed_ms, _ = stored
        for token, lease, claimant, since_ms, mode, limit, delay_ms in stored[4]:
            lock.holders[token] = LockClaim(
                name, lease, claimant, since_ms, None, mode, limit, delay_ms
            )
        return lock


def view_of(lock: Lock, waiters: list[LockClaim]) -> LockView:
    """Describe a lock and its line."""
    holders = [(token, lock.holders[token]) for token in lock.tokens()]
    users = [claim for _, claim in holders] + waiters
    return LockView(
        lock.name,
        users[0].mode if users else LockMode.EXCLUSIVE,
        users[0].limit if users else 0,
        tuple(_party(claim, token) for token, claim in holders),
        tuple(_party(claim, 0) for claim in waiters),
        lock.change,
        lock.changed_rev,
        lock.changed_ms,
        lock.closed_until_ms,
    )


def _party(claim: LockClaim, token: int) -> ClaimView:
    return ClaimView(claim.claimant, claim.lease, token, claim.mode, claim.since_ms)
