"""Planted bugs of the state machine: sessions, leases, locks, elections.

Source: RELIABILITY.md rules 35 to 38, 47 and 48; scenarios 15 to 18 and 48 to 54.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raftd.statemachine.answers import Answer, AppliedEntry
from raftd.statemachine.leases import Leases
from raftd.statemachine.lock_state import LockChange
from raftd.statemachine.locks import Locks
from raftd.statemachine.machine import Machine
from raftd.statemachine.module import EndReason
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.entry import Request, decode_batch
from raftd.statemachine.schema.locks import LockReleased, ReleaseLock
from raftd.statemachine.sessions import Sessions
from raftd.statemachine.tables import RowKey
from raftd.statemachine.timers import TimerHeap, TimerId
from raftd.statemachine.waiters import number_of
from raftd.statemachine.window import Window
from tests.mutants.bug import Bug
from tests.mutants.finders import Simulated, Stateful
from tests.sim.focus import BUSY
from tests.statemachine.test_lock_model import LocksAgainstModel
from tests.statemachine.test_model import SessionsAndKeys

__all__ = ["MACHINE"]

_lease_ended = Locks.lease_ended
_apply = Machine.apply


def _find_nothing(_: Window, __: int) -> None:
    return None


def _keep_waiters(
    self: Locks, lease: int, keys: Sequence[RowKey], reason: EndReason
) -> None:
    holding = [key for key in keys if number_of(key) not in self._waiting]
    _lease_ended(self, lease, holding, reason)


def _wake_nobody(
    self: Locks, lease: int, keys: Sequence[RowKey], reason: EndReason
) -> None:
    """Take a holder out, and let in nobody who waits."""
    for key in keys:
        if number_of(key) in self._waiting:
            _lease_ended(self, lease, [key], reason)
        else:
            self._table.end(number_of(key), LockChange.EXPIRED)


def _due_by_the_heap(self: TimerHeap, now_ms: int) -> tuple[int, TimerId] | None:
    """Fire what the heap says, whether or not it was put off meanwhile."""
    while (entry := self._first()) is not None and entry[0] <= now_ms:
        self._drop(entry)
        _, rank, timer = entry
        if self._deadline_of[rank](timer) is not None:
            return rank, timer
    return None


def _timers_first(self: Machine, index: int, payload: bytes) -> AppliedEntry:
    """Fire what is due before the renewals of the same entry."""
    if payload:
        self.context.now_ms = max(self.context.now_ms, decode_batch(payload).now_ms)
        self._fire_due()
    return _apply(self, index, payload)


def _release_whoever_holds(self: Locks, command: ReleaseLock) -> LockReleased | Refusal:
    lock = self._find(command.name)
    if isinstance(lock, Refusal):
        return lock
    for token in lock.tokens():
        self._end(token, LockChange.RELEASED)
    return LockReleased()


def _go_on_when_closed(
    self: Sessions, request: Request, session: object, window: Window
) -> Answer | None:
    """Judge a number of a session that has ended as if it lived."""
    assert session is not None
    first = window.find(request.number)
    return first[1] if first is not None else None


def _never_lower(self: Leases, lease: int) -> bool:
    """Renew for less each time: what was promised before is taken back."""
    found = self._leases.get(lease)
    if found is None:
        return False
    self.context.mark(self.tables[0], lease)
    found.deadline_ms = self.context.now_ms + found.ttl_ms // 2
    self.context.timers.lease.arm(found.deadline_ms, self.rank, (0, lease))
    return True


MACHINE: Final = (
    Bug(
        name="window-ignored",
        does="a write that is sent again is applied again",
        breaks=("XO",),
        repeats="jetcd 0.8.2, scenarios 15 and 17",
        patches=((Window, "find", _find_nothing),),
        finder=Simulated(),
    ),
    Bug(
        name="closed-session-writes",
        does="a session that has ended goes on writing",
        breaks=("XO",),
        repeats="thesis 6.3, scenario 16",
        patches=((Sessions, "_judge", _go_on_when_closed),),
        finder=Stateful(SessionsAndKeys),
    ),
    Bug(
        name="dead-waiter",
        does="a lock goes to a waiter whose lease has ended",
        breaks=("MEX",),
        repeats="etcd#11456 and #9921, scenario 48",
        patches=((Locks, "lease_ended", _keep_waiters),),
        finder=Simulated(BUSY, faults=(), sleepy=0.05, ttl_ms=1000, clients=6),
    ),
    Bug(
        name="lost-waiter",
        does="when a holder's lease ends, nobody who waits for the lock gets it",
        breaks=("LIV",),
        repeats="section 6 (lost waiter), scenario 61",
        patches=((Locks, "lease_ended", _wake_nobody),),
        finder=Simulated(BUSY, faults=(), sleepy=0.05, ttl_ms=1000, clients=6),
    ),
    Bug(
        name="expiry-of-an-old-deadline",
        does="a lease ends at a deadline that was put off long ago",
        breaks=("LSE", "DET"),
        repeats="section 6 (expiry without generation), etcd#15247",
        patches=((TimerHeap, "due", _due_by_the_heap),),
        finder=Simulated(),
    ),
    Bug(
        name="timers-before-renewals",
        does="a lease ends in the very entry that renews it",
        breaks=("LSE",),
        repeats="scenario 50, rule 37",
        patches=((Machine, "apply", _timers_first),),
        finder=Stateful(LocksAgainstModel),
    ),
    Bug(
        name="renewal-shortens",
        does="a renewal takes back time that was promised before",
        breaks=("LSE",),
        repeats="rule 36, scenario 52",
        patches=((Leases, "renew", _never_lower),),
        finder=Simulated(BUSY, ttl_ms=1000),
    ),
    Bug(
        name="lock-token-unchecked",
        does="a former holder releases the lock of the present one",
        breaks=("MEX", "FEN"),
        repeats="scenario 53, rule 38",
        patches=((Locks, "_release", _release_whoever_holds),),
        finder=Stateful(LocksAgainstModel),
    ),
)
