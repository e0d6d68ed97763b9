"""All locks and who holds them: grants, ends, closing and opening, rows.

It knows nothing of waiters; every change goes through the undo journal.

Source: SEMANTICS.md section 4.
"""

from collections.abc import Iterator
from typing import Final

from sortedcontainers import SortedDict

from raftd.statemachine.context import Context
from raftd.statemachine.events import LockLost, LossReason
from raftd.statemachine.loading import in_steps
from raftd.statemachine.lock_state import Lock, LockChange, LockClaim
from raftd.statemachine.module import LeaseKeeper
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.tables import Rank, Table
from raftd.statemachine.waiters import names_of

__all__ = ["OPEN_TIMER", "LockTable"]

OPEN_TIMER: Final = 1
"""The kind of the timers that open a closed lock; their ids are names."""

_RANK: Final = int(Rank.LOCKS)  # an enum's member costs a look-up each time
_LOCKS: Final = int(Table.LOCKS)
_LOCK_BYTES: Final = 500
_LOST_BYTES: Final = 100
_LOSSES: Final = {
    LockChange.EXPIRED: LossReason.EXPIRED,
    LockChange.REVOKED: LossReason.REVOKED,
    LockChange.BROKEN: LossReason.BROKEN,
}


class LockTable:
    """Locks that somebody holds or waits for, or that are closed."""

    def __init__(self, context: Context, leases: LeaseKeeper) -> None:
        self._context: Final = context
        self._leases: Final = leases
        self._locks: Final = SortedDict()
        self._names: dict[int, str] = {}
        """Which lock a live token is of."""
        self._tokens: dict[tuple[str, int, str], int] = {}
        """Which token a claimant holds of a lock."""

    # --- reads -----------------------------------------------------------------

    def find(self, name: str) -> Lock | None:
        """Return a lock, None if nobody uses it and it is not closed."""
        found: Lock | None = self._locks.get(name)
        return found

    def token_of(self, name: str, lease: int, claimant: str) -> int:
        """Return the token that a claimant holds of a lock, 0 for none."""
        return self._tokens.get((name, lease, claimant), 0)

    def name_of(self, token: int) -> str | None:
        """Return which lock a live token is of."""
        return self._names.get(token)

    def names(self, prefix: str, after: str, limit: int) -> list[str]:
        """Return names of locks above ``after``, rising, at most ``limit``."""
        return names_of(self._locks, prefix, after, limit)

    # --- changes ---------------------------------------------------------------

    def create(self, name: str) -> Lock:
        """Begin to remember a lock."""
        context = self._context
        context.rev()
        context.mark(_LOCKS, name)
        context.journal.undo(self._locks.__delitem__, name)
        lock = self._locks[name] = Lock(name)
        context.size_bytes += _LOCK_BYTES + len(name)
        return lock

    def forget(self, lock: Lock) -> None:
        """Stop remembering a lock that nobody uses and that is open."""
        context = self._context
        assert not lock.holders, "a held lock is not forgotten"
        context.rev()
        context.mark(_LOCKS, lock.name)
        context.journal.undo(self._locks.__setitem__, lock.name, lock)
        del self._locks[lock.name]
        context.size_bytes -= _LOCK_BYTES + len(lock.name)

    def grant(self, lock: Lock, claim: LockClaim) -> int | Refusal:
        """Make a claim a holder and return its token.

        Refused only where the claim's lease has too many attachments.
        """
        context = self._context
        token = context.mint()
        refusal = self._leases.attach(claim.lease, _RANK, token)
        if refusal is not None:
            return refusal
        context.mark(_LOCKS, lock.name)
        context.journal.undo(self._pull, lock, token)
        self._put(lock, token, claim)
        context.size_bytes += claim.size_bytes
        return token

    def end(self, token: int, change: LockChange) -> Lock:
        """Take a holder out and return its lock."""
        context = self._context
        lock: Lock = self._locks[self._names[token]]
        context.rev()
        context.mark(_LOCKS, lock.name)
        claim = lock.holders[token]
        context.journal.undo(self._put, lock, token, claim)
        self._pull(lock, token)
        context.size_bytes -= claim.size_bytes
        self._leases.detach(claim.lease, _RANK, token)
        self._note_change(lock, change)
        if change in _LOSSES:
            self._lose(lock, claim, token, _LOSSES[change])
        return lock

    def _put(self, lock: Lock, token: int, claim: LockClaim) -> None:
        lock.holders[token] = claim
        self._names[token] = lock.name
        self._tokens[claim.name, claim.lease, claim.claimant] = token

    def _pull(self, lock: Lock, token: int) -> None:
        claim = lock.holders.pop(token)
        del self._names[token]
        del self._tokens[claim.name, claim.lease, claim.claimant]

    def open(self, lock: Lock) -> None:
        """End the delay of a closed lock."""
        self._context.rev()
        self._context.mark(_LOCKS, lock.name)
        self._context.journal.attribute(lock, "closed_until_ms")
        lock.closed_until_ms = 0

    def _note_change(self, lock: Lock, change: LockChange) -> None:
        context = self._context
        context.journal.undo(
            _set_change, lock, lock.change, lock.changed_rev, lock.changed_ms
        )
        _set_change(lock, change, context.rev(), context.now_ms)

    def _lose(
        self, lock: Lock, claim: LockClaim, token: int, reason: LossReason
    ) -> None:
        context = self._context
        context.emit(
            LockLost(context.rev(), lock.name, claim.claimant, token, reason),
            _LOST_BYTES + len(lock.name) + len(claim.claimant),
        )
        until_ms = context.now_ms + claim.delay_ms
        if claim.delay_ms and until_ms > lock.closed_until_ms:
            context.journal.attribute(lock, "closed_until_ms")
            lock.closed_until_ms = until_ms
            self._arm(lock)

    def _arm(self, lock: Lock) -> None:
        self._context.timers.lease.arm(
            lock.closed_until_ms, Rank.LOCKS, (OPEN_TIMER, lock.name)
        )

    # --- rows ------------------------------------------------------------------

    def encode(self, name: str) -> bytes | None:
        """Encode a lock's row."""
        lock = self.find(name)
        return None if lock is None else lock.encode()

    def load(self, name: str, value: bytes) -> None:
        """Take up a lock's row."""
        lock = self._locks[name] = Lock.decode(name, value)
        for token, claim in lock.holders.items():
            self._put(lock, token, claim)

    def loaded(self) -> Iterator[None]:
        """Attach the loaded holders to their leases and arm the timers."""
        return in_steps(self._locks.values(), self._reattach)

    def _reattach(self, lock: Lock) -> None:
        for token, claim in lock.holders.items():
            self._leases.reattach(claim.lease, _RANK, token)
        if lock.closed_until_ms:
            self._arm(lock)


def _set_change(
    lock: Lock, change: LockChange, changed_rev: int, changed_ms: int
) -> None:
    lock.change = change
    lock.changed_rev = changed_rev
    lock.changed_ms = changed_ms
