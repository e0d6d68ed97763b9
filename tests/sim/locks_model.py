"""What the committed log means for locks, by the plain model of them.

Rules: who holds and who waits, in their order, is what acquires, releases, breaks and
ends of leases say (MEX: shared ones only together, a semaphore up to its limit); tokens
rise (FEN); a write that carries a token is done if, and only if, that token holds.

Source: SEMANTICS.md section 4; RELIABILITY.md section 4 (lock).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from raftd.statemachine.answers import Answer, AppliedEntry, Pending
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Command, Fence, Reason, Refusal
from raftd.statemachine.schema.entry import Batch
from raftd.statemachine.schema.locks import (
    AcquireCancelled,
    AcquireLock,
    BreakLock,
    CancelAcquire,
    LockBroken,
    LockGranted,
    ReleaseLock,
)
from raftd.statemachine.schema.sessions import (
    CloseSession,
    OpenSession,
    SessionClosed,
    SessionOpened,
)
from tests.sim.world import SimFailure
from tests.statemachine.lock_model import LockModel, ModelLock

__all__ = ["LocksModel"]


class LocksModel:
    """See the module's rules."""

    def __init__(self) -> None:
        self._plain: Final = LockModel()
        self._plain.now_ms = 0
        self._top_token = 0
        self._tickets: Final[dict[int, None]] = {}
        self._takes: Final[dict[type[Command], Callable[[Any, Answer], None]]] = {
            AcquireLock: self._acquire,
            BreakLock: self._break,
            CancelAcquire: self._cancel,
            CloseSession: self._close,
            OpenSession: self._open,
            ReleaseLock: self._release,
        }

    # --- entry by entry -----------------------------------------------------------

    def begin_entry(self, batch: Batch) -> None:
        """Renew, and let the clock go on."""
        plain = self._plain
        plain.now_ms = max(plain.now_ms, batch.now_ms)
        for lease in batch.renewals:
            plain.renew(lease)
        plain.fire_due()

    def check_fences(self, fences: tuple[Fence, ...], answer: Answer) -> bool:
        """Check that a write was done if its tokens hold; tell whether they do."""
        holds = all(
            any(holder.token == fence.token for holder in self._lock(fence).holders)
            for fence in fences
        )
        if fences and holds == isinstance(answer, Refusal):
            raise SimFailure(f"a write under {fences} is answered {answer}")
        return holds

    def _lock(self, fence: Fence) -> ModelLock:
        return self._plain.locks.get(fence.name) or ModelLock()

    def take(self, command: Command, answer: Answer) -> None:
        """Take in the first answer to a command."""
        way = self._takes.get(type(command))
        if way is not None:
            way(command, answer)

    def end_entry(self, machine: Machine, applied: AppliedEntry) -> None:
        """Compare locks and decisions."""
        expected = self._plain.take_expected()
        decided = {
            each.ticket: each.answer
            for each in applied.decided
            if each.ticket in self._tickets
        }
        if decided.keys() != expected.keys():
            raise SimFailure(f"{decided} are decided, the log says {expected}")
        for ticket, reason in expected.items():
            answer = decided[ticket]
            if (answer.reason if isinstance(answer, Refusal) else None) is not reason:
                raise SimFailure(f"ticket {ticket} ends as {answer}, not {reason}")
            del self._tickets[ticket]
        top_token = self._top_token
        for name in self._plain.locks:
            self._check(name, machine, top_token)

    def _check(self, name: str, machine: Machine, top_token: int) -> None:
        meant = self._plain.locks[name]
        view = machine.locks.inspect(name)
        holders = (
            {(each.lease, each.claimant): each.token for each in view.holders}
            if view
            else {}
        )
        line = [(each.lease, each.claimant) for each in view.waiters] if view else []
        parties = [holder.party for holder in meant.holders]
        if sorted(holders) != sorted(parties) or line != [w.party for w in meant.line]:
            raise SimFailure(f"lock {name} is {view}, the log says {parties}")
        for holder in meant.holders:
            token = holders[holder.party]
            if not holder.token:
                if token <= top_token:
                    raise SimFailure(f"lock {name}: token {token} after {top_token}")
                holder.token = token
                self._top_token = max(self._top_token, token)
            if holder.token != token:
                raise SimFailure(f"lock {name} is {view}, not {holder.token}")

    # --- commands -----------------------------------------------------------------

    def _open(self, _: OpenSession, answer: Answer) -> None:
        if isinstance(answer, SessionOpened):
            if answer.is_new:
                self._plain.grant(answer.session, answer.ttl_ms)
            self._plain.renew(answer.session)

    def _close(self, command: CloseSession, answer: Answer) -> None:
        if isinstance(answer, SessionClosed) and command.session in self._plain.leases:
            self._plain.end_lease(command.session, is_loss=False)

    def _acquire(self, command: AcquireLock, answer: Answer) -> None:
        expected = self._plain.acquire(command)
        match answer:
            case Refusal(reason=reason):
                is_right = expected is reason
            case LockGranted(token=token):
                is_right = not isinstance(expected, Reason) and expected in {0, token}
            case Pending(ticket=ticket):
                is_right = expected is None
                self._plain.wait(command, ticket)
                self._tickets[ticket] = None
            case _:
                is_right = False
        if not is_right:
            raise SimFailure(f"{command} is answered {answer}, not {expected}")

    def _cancel(self, command: CancelAcquire, answer: Answer) -> None:
        party = (command.lease, command.claimant)
        expected = AcquireCancelled(self._plain.cancel(command.name, party))
        if answer != expected:
            raise SimFailure(f"{command} is answered {answer}, not {expected}")

    def _release(self, command: ReleaseLock, answer: Answer) -> None:
        reason = self._plain.release(command.name, command.token)
        shown = answer.reason if isinstance(answer, Refusal) else None
        if shown is not reason:
            raise SimFailure(f"{command} is answered {answer}, not {reason}")

    def _break(self, command: BreakLock, answer: Answer) -> None:
        count = self._plain.break_all(command.name)
        is_right = (
            answer == LockBroken(count)
            if count is not None
            else isinstance(answer, Refusal) and answer.reason is Reason.NOT_FOUND
        )
        if not is_right:
            raise SimFailure(f"{command} is answered {answer}, {count} held it")
