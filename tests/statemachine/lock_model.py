"""A naive model of locks; see `claims_model`."""

import dataclasses
from collections.abc import Iterator

from raftd.statemachine.schema.base import Reason
from raftd.statemachine.schema.locks import AcquireLock, LockMode
from tests.statemachine.claims_model import LeaseModel, Party, Wait

__all__ = ["LockModel", "ModelLock"]

UNKNOWN_TOKEN = 0
_Kind = tuple[LockMode, int]


@dataclasses.dataclass
class _Holder:
    party: Party
    kind: _Kind
    delay_ms: int
    token: int = UNKNOWN_TOKEN


@dataclasses.dataclass
class _LockWait(Wait):
    kind: _Kind
    delay_ms: int


class ModelLock:
    """One lock."""

    def __init__(self) -> None:
        self.holders: list[_Holder] = []
        self.line: list[_LockWait] = []
        self.closed_until_ms = 0

    def may_enter(self, kind: _Kind) -> bool:
        """Tell whether the next claim may come in."""
        if self.closed_until_ms:
            return False
        mode, limit = kind
        modes = [holder.kind[0] for holder in self.holders]
        match mode:
            case LockMode.EXCLUSIVE:
                return not modes
            case LockMode.SHARED:
                return LockMode.EXCLUSIVE not in modes
            case LockMode.SEMAPHORE:
                return len(modes) < limit


class LockModel(LeaseModel):
    """All locks, on all leases."""

    def __init__(self) -> None:
        super().__init__()
        self.locks: dict[str, ModelLock] = {}

    def acquire(self, command: AcquireLock) -> Reason | int | None:
        """Say what comes of a request.

        Returns:
            A reason to refuse; the token held already (0: a new one); None to wait.
        """
        if command.lease not in self.leases:
            return Reason.LEASE_EXPIRED
        lock = self.locks.setdefault(command.name, ModelLock())
        party, kind = (command.lease, command.claimant), _kind(command)
        users: list[_Holder | _LockWait] = [*lock.holders, *lock.line]
        for mine in users:
            if mine.party == party and mine.kind != kind:
                return Reason.PRECONDITION
        for holder in lock.holders:
            if holder.party == party:
                return holder.token
        for user in users:
            if LockMode.SEMAPHORE in {user.kind[0], kind[0]} and user.kind != kind:
                return Reason.PRECONDITION
        if not lock.line and lock.may_enter(kind):
            lock.holders.append(_Holder(party, kind, command.delay_ms))
            return UNKNOWN_TOKEN
        return Reason.LOCK_HELD if command.wait_ms == 0 else None

    def wait(self, command: AcquireLock, ticket: int) -> None:
        """Take up a waiter with its ticket."""
        deadline_ms = None
        if command.wait_ms is not None:
            deadline_ms = self.now_ms + command.wait_ms
        party = (command.lease, command.claimant)
        self.locks[command.name].line.append(
            _LockWait(ticket, party, deadline_ms, _kind(command), command.delay_ms)
        )

    def learn(self, name: str, party: Party, token: int) -> None:
        """Take up the token of a new holder."""
        for holder in self.locks[name].holders:
            if holder.party == party:
                assert holder.token in {UNKNOWN_TOKEN, token}
                holder.token = token

    def cancel(self, name: str, party: Party) -> bool:
        """Take out a waiter, or a holder; tell whether it waited."""
        lock = self.locks.get(name, ModelLock())
        waits = [wait for wait in lock.line if wait.party == party]
        for wait in waits:
            lock.line.remove(wait)
            self.expected[wait.ticket] = Reason.LOCK_HELD
        if not waits:
            self._end(lock, [each for each in lock.holders if each.party == party])
        self.promote_all()
        return bool(waits)

    def release(self, name: str, token: int) -> Reason | None:
        """Release a lock, or say why not."""
        lock = self.locks.get(name)
        if lock is None or not (lock.holders or lock.line or lock.closed_until_ms):
            return Reason.NOT_FOUND
        if not lock.holders:
            return Reason.NOT_HOLDER
        mine = [holder for holder in lock.holders if holder.token == token]
        self._end(lock, mine)
        self.promote_all()
        return None if mine else Reason.FENCED

    def break_all(self, name: str) -> int | None:
        """Break a lock; return how many lost it, None for an unknown lock."""
        lock = self.locks.get(name)
        if lock is None or not (lock.holders or lock.line or lock.closed_until_ms):
            return None
        holders = list(lock.holders)
        self._end(lock, holders, is_loss=True)
        self.promote_all()
        return len(holders)

    def _end(
        self, lock: ModelLock, holders: list[_Holder], *, is_loss: bool = False
    ) -> None:
        for holder in holders:
            lock.holders.remove(holder)
            if is_loss and holder.delay_ms:
                until_ms = self.now_ms + holder.delay_ms
                lock.closed_until_ms = max(lock.closed_until_ms, until_ms)

    def timers(self) -> Iterator[tuple[int, int, int, int | str]]:
        """Yield the ends of waits and of delays."""
        for name, lock in self.locks.items():
            if lock.closed_until_ms:
                yield lock.closed_until_ms, 5, 1, name
            for wait in lock.line:
                if wait.deadline_ms is not None:
                    yield wait.deadline_ms, 5, 0, wait.ticket

    def fire(self, kind: int, subject: int | str) -> None:
        """End a wait or a delay."""
        for name, lock in self.locks.items():
            if kind == 1 and name == subject:
                lock.closed_until_ms = 0
            for wait in list(lock.line):
                if kind == 0 and wait.ticket == subject:
                    lock.line.remove(wait)
                    self.expected[wait.ticket] = Reason.LOCK_HELD

    def drop_claims(self, lease: int, *, is_loss: bool) -> None:
        """Take out the holders and waiters of a lease."""
        for lock in self.locks.values():
            for wait in list(lock.line):
                if wait.party[0] == lease:
                    lock.line.remove(wait)
                    self.expected[wait.ticket] = Reason.LEASE_EXPIRED
            lost = [each for each in lock.holders if each.party[0] == lease]
            self._end(lock, lost, is_loss=is_loss)

    def promote_all(self) -> None:
        """Let in whoever may come in, with all its waits."""
        for lock in self.locks.values():
            while lock.line and lock.may_enter(lock.line[0].kind):
                party = lock.line[0].party
                assert party[0] in self.leases
                waits = [wait for wait in lock.line if wait.party == party]
                lock.line = [wait for wait in lock.line if wait.party != party]
                last = waits[-1]
                lock.holders.append(_Holder(party, last.kind, last.delay_ms))
                self.expected.update((wait.ticket, None) for wait in waits)


def _kind(command: AcquireLock) -> _Kind:
    is_counted = command.mode is LockMode.SEMAPHORE
    return command.mode, command.limit if is_counted else 0
