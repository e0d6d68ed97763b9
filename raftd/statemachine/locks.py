"""Locks: exclusive, shared and counting, first come, first served.

Rules:
* A free lock is granted at once only if nobody waits for it: a shared claim behind an
  exclusive waiter waits too.
* Each grant draws a token from the revision line: unique, and rising for ever, though
  a lock that nobody uses is forgotten.
* A holder that loses its lock against its will (expiry, revocation, break) leaves it
  closed for ``delay_ms``; a release or a clean goodbye does not.
* Waiters come in once, at the end of the command that made room.

Source: SEMANTICS.md section 4; RELIABILITY.md scenarios 48 and 53.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from raftd.statemachine import lock_checks, refusals
from raftd.statemachine.answers import Answer, Pending
from raftd.statemachine.claim_checks import (
    cancelled,
    check_claim,
    check_growth,
    lease_ended_waiting,
)
from raftd.statemachine.context import Context
from raftd.statemachine.loading import in_steps
from raftd.statemachine.lock_state import Lock, LockChange, LockClaim, LockView, view_of
from raftd.statemachine.lock_table import OPEN_TIMER, LockTable
from raftd.statemachine.module import EndReason, Handlers, LeaseKeeper, Module
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.locks import (
    AcquireCancelled,
    AcquireLock,
    BreakLock,
    CancelAcquire,
    LockBroken,
    LockGranted,
    LockMode,
    LockReleased,
    ReleaseLock,
)
from raftd.statemachine.tables import Rank, RowKey, Table
from raftd.statemachine.timers import TimerId
from raftd.statemachine.waiters import WAIT_TIMER, Backlog, Waiting, number_of

__all__ = ["Locks"]

_CHANGES: Final = {
    EndReason.EXPIRED: LockChange.EXPIRED,
    EndReason.REVOKED: LockChange.REVOKED,
    EndReason.CLOSED: LockChange.RELEASED,
}


_SEMAPHORE: Final = LockMode.SEMAPHORE  # an enum's member costs a look-up each time
_RELEASED: Final = LockChange.RELEASED
_LOCK_RELEASED: Final = LockReleased()


class Locks(Module):
    """The commands on locks, their waiters and promotions."""

    rank = Rank.LOCKS
    tables = (Table.LOCKS, Table.LOCK_WAITERS)

    def __init__(self, context: Context, leases: LeaseKeeper) -> None:
        super().__init__(context)
        self._leases: Final = leases
        self._table: Final = LockTable(context, leases)
        self._waiting: Final = Waiting(
            context, leases, self.rank, Table.LOCK_WAITERS, LockClaim
        )
        self._backlog: Final = Backlog(context)

    def handlers(self) -> Handlers:
        """Return who handles which command type."""
        return {
            AcquireLock: self._acquire,
            CancelAcquire: self._cancel,
            ReleaseLock: self._release,
            BreakLock: self._break,
        }

    # --- reads -----------------------------------------------------------------

    def holds(self, name: str, token: int) -> bool:
        """Tell whether this token is current."""
        lock = self._table.find(name)
        return lock is not None and token in lock.holders

    def current_token(self, name: str) -> int:
        """Return the newest token among the holders, 0 if nobody holds."""
        lock = self._table.find(name)
        return 0 if lock is None else lock.newest_token()

    def inspect(self, name: str) -> LockView | None:
        """Describe a lock; None if nobody uses it and it is not closed."""
        lock = self._table.find(name)
        if lock is None:
            return None
        return view_of(lock, [claim for _, claim in self._waiting.line(name)])

    def name_of(self, claim: int) -> str | None:
        """Return the name that a token or a ticket is about, None if over."""
        if claim in self._waiting:
            return self._waiting[claim].name
        return self._table.name_of(claim)

    def names(self, prefix: str = "", after: str = "", limit: int = 1000) -> list[str]:
        """Return names of locks above ``after``, rising, at most ``limit``."""
        return self._table.names(prefix, after, limit)

    # --- commands --------------------------------------------------------------

    def _acquire(self, command: AcquireLock) -> Answer:
        refusal = lock_checks.check_acquire(self.context.limits, command)
        refusal = refusal or self._leases.require(command.lease)
        if refusal is not None:
            return refusal
        claim = self._claim_of(command)
        lock = self._table.find(claim.name)
        if lock is None:
            return self._grant_at_once(self._table.create(claim.name), claim)
        party = (claim.name, claim.lease, claim.claimant)
        token = self._table.token_of(*party)
        mine = lock.holders[token] if token else self._waiting.waiter(*party)
        if mine is None:
            refusal = lock_checks.check_use(self._a_user(lock), claim)
        else:
            refusal = lock_checks.check_same_mode(mine, claim)
        if refusal is not None:
            return refusal
        if token:
            return LockGranted(token)
        return self._grant_or_wait(lock, claim, is_try=command.wait_ms == 0)

    def _grant_or_wait(self, lock: Lock, claim: LockClaim, *, is_try: bool) -> Answer:
        if self._waiting.first(lock.name) is None and self._admits(lock, claim):
            return self._grant_at_once(lock, claim)
        if is_try:
            return lock_checks.held(lock, self.context.now_ms)
        ticket = self._waiting.join(claim)
        return ticket if isinstance(ticket, Refusal) else Pending(ticket)

    def _claim_of(self, command: AcquireLock) -> LockClaim:
        now_ms, wait_ms = self.context.now_ms, command.wait_ms
        return LockClaim(
            command.name,
            command.lease,
            command.claimant,
            now_ms,
            None if wait_ms is None else now_ms + wait_ms,
            command.mode,
            command.limit if command.mode is _SEMAPHORE else 0,
            command.delay_ms,
        )

    def _grant_at_once(self, lock: Lock, claim: LockClaim) -> Answer:
        refusal = check_growth(self.context, claim.size_bytes)
        if refusal is not None:
            return refusal
        token = self._table.grant(lock, claim.holding_since(self.context.now_ms))
        return token if isinstance(token, Refusal) else LockGranted(token)

    def _cancel(self, command: CancelAcquire) -> Answer:
        party = (command.name, command.lease, command.claimant)
        refusal = check_claim(
            self.context.limits, "lock", command.name, command.claimant, None
        )
        if refusal is not None:
            return refusal
        tickets = self._waiting.tickets(*party)
        for ticket in tickets:
            self._leave(ticket, cancelled(f'lock "{command.name}"'))
        token = self._table.token_of(*party)
        if token:
            self._end(token, LockChange.RELEASED)
        return AcquireCancelled(was_waiting=bool(tickets))

    def _release(self, command: ReleaseLock) -> LockReleased | Refusal:
        lock = self._find(command.name)
        if isinstance(lock, Refusal):
            return lock
        if command.token not in lock.holders:
            return lock_checks.not_current(lock, command.token)
        self._end(command.token, _RELEASED)
        return _LOCK_RELEASED

    def _break(self, command: BreakLock) -> Answer:
        lock = self._find(command.name)
        if isinstance(lock, Refusal):
            return lock
        tokens = lock.tokens()
        for token in tokens:
            self._end(token, LockChange.BROKEN)
        return LockBroken(len(tokens))

    def _find(self, name: str) -> Lock | Refusal:
        lock = self._table.find(name)
        if lock is not None:
            return lock
        refusal = refusals.check_name("lock", name, self.context.limits.name_bytes_max)
        return refusal or lock_checks.unknown(name)

    # --- changes ---------------------------------------------------------------

    def _end(self, token: int, change: LockChange) -> None:
        lock = self._table.end(token, change)
        self.context.promote_later(self.rank, lock.name)

    def _leave(self, ticket: int, refusal: Refusal) -> None:
        waiter = self._waiting.leave(ticket)
        self.context.decide(ticket, refusal)
        self.context.promote_later(self.rank, waiter.name)

    def lease_ended(
        self, lease: int, keys: Sequence[RowKey], reason: EndReason
    ) -> None:
        """Take the holders and waiters of a lease out of their locks."""
        for key in keys:
            number = number_of(key)
            if number in self._waiting:
                name = self._waiting[number].name
                self._leave(number, lease_ended_waiting(lease, f'lock "{name}"'))
            else:
                self._end(number, _CHANGES[reason])

    def promote(self, key: RowKey) -> None:
        """Let in who is next, as far as the command's budget goes."""
        assert isinstance(key, str)
        if self._waiting.first(key) is None:
            self._nobody_waits(key)
        else:
            self._backlog.spend(self._promote(key, self._backlog.room()))

    def _nobody_waits(self, name: str) -> None:
        lock = self._table.find(name)
        if lock is not None:
            self._backlog.note(name, is_due=False)
            if lock.is_idle():
                self._table.forget(lock)

    def _promote(self, name: str, room: int) -> int:
        lock = self._table.find(name)
        if lock is None:
            return 0
        promoted = 0
        while promoted < room and (ticket := self._due(lock)) is not None:
            promoted += self._let_in(lock, ticket)
        self._backlog.note(name, is_due=self._due(lock) is not None)
        if lock.is_idle() and self._waiting.first(name) is None:
            self._table.forget(lock)
        return promoted

    def _due(self, lock: Lock) -> int | None:
        """Return the first ticket, if its claim may come in now."""
        ticket = self._waiting.first(lock.name)
        if ticket is None or not self._admits(lock, self._waiting[ticket]):
            return None
        return ticket

    def _let_in(self, lock: Lock, ticket: int) -> int:
        tickets, waiter = self._waiting.leave_all(ticket)
        token = self._table.grant(lock, waiter.holding_since(self.context.now_ms))
        assert not isinstance(token, Refusal), "the tickets left room on the lease"
        for each in tickets:
            self.context.decide(each, LockGranted(token))
        return len(tickets)

    def _a_user(self, lock: Lock) -> LockClaim | None:
        """Return somebody that holds or waits; all are of one kind."""
        first = self._waiting.first(lock.name)
        waiter = None if first is None else self._waiting[first]
        return next(iter(lock.holders.values()), waiter)

    def _admits(self, lock: Lock, claim: LockClaim) -> bool:
        return lock.admits(claim, self.context.limits.holders_max)

    # --- timers, tasks, rows ---------------------------------------------------

    def timer_deadline(self, timer: TimerId) -> int | None:
        """Return when a wait is over, or a closed lock opens."""
        kind, subject = timer
        if kind == WAIT_TIMER:
            return self._waiting.deadline_ms(number_of(subject))
        assert kind == OPEN_TIMER
        lock = self._table.find(str(subject))
        return None if lock is None else lock.closed_until_ms or None

    def fire(self, timer: TimerId) -> int:
        """End a wait, or open a closed lock."""
        kind, subject = timer
        if kind == WAIT_TIMER:
            ticket = number_of(subject)
            lock = self._table.find(self._waiting[ticket].name)
            assert lock is not None, "somebody waits for it"
            self._leave(ticket, lock_checks.held(lock, self.context.now_ms))
        else:
            lock = self._table.find(str(subject))
            assert lock is not None, "a closed lock is remembered"
            self._table.open(lock)
            self.context.promote_later(self.rank, lock.name)
        return 1

    def has_tasks(self) -> bool:
        """Tell whether promotions are left over."""
        return bool(self._backlog)

    def run_tasks(self, rows_max: int) -> int:
        """Let in who is due from the backlog."""
        return self._backlog.work(rows_max, self._promote)

    def encode_row(self, table: int, key: RowKey) -> bytes | None:
        """Encode a lock with its holders, or a waiter."""
        if table == Table.LOCK_WAITERS:
            return self._waiting.encode(number_of(key))
        return self._table.encode(str(key))

    def load_row(self, table: int, key: RowKey, value: bytes) -> None:
        """Take up a lock with its holders, or a waiter."""
        if table == Table.LOCK_WAITERS:
            self._waiting.load(number_of(key), value)
        else:
            self._table.load(str(key), value)

    def loaded(self) -> Iterator[None]:
        """Attach claims, arm timers, find out who is due."""
        yield from self._table.loaded()
        yield from self._waiting.loaded()
        yield from in_steps(self._waiting.names(), self._find_due)

    def _find_due(self, name: str) -> None:
        lock = self._table.find(name)
        assert lock is not None, f"somebody waits for {name}"
        self._backlog.load(name, is_due=self._due(lock) is not None)
