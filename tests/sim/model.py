"""What the committed log means, worked out a second time and much more simply.

Rules: each (session, number) is applied once and always gets its first answer; a
counter is the sum of its increments; a lock has one holder, whose token is above all
earlier ones of its name and whose lease lives; a lock changes hands only after its
holder let go or lost its lease.

Source: RELIABILITY.md section 4 (models) and section 6 item 8.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from raftd.statemachine.answers import Answer, AppliedEntry, Marked, Pending
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Reason, Refusal, Result
from raftd.statemachine.schema.entry import Request, decode_batch
from raftd.statemachine.schema.jobs import JobsReserved
from raftd.statemachine.schema.kv import IncrementKey, KeyIncremented, KeyPut, PutKey
from raftd.statemachine.schema.locks import LockReleased, ReleaseLock
from raftd.statemachine.schema.sessions import CloseSession, SessionOpened
from tests.sim.claims_model import ClaimsModel
from tests.sim.jobs_model import JobsModel
from tests.sim.locks_model import LocksModel
from tests.sim.world import SimFailure, World

__all__ = ["LOCKS", "Model"]

LOCKS: Final = ("red", "blue")

Number = tuple[int, int]
NOTHING_RESERVED: Final = JobsReserved(())
_NEVER_KEPT: Final = frozenset({Reason.SESSION_EXPIRED, Reason.SESSION_UNKNOWN})
_NOT_AGAIN: Final = frozenset({Reason.STALE_NUMBER, Reason.SESSION_UNKNOWN})


class Model:
    """The meaning of the log so far; revisions are taken from the answers."""

    def __init__(self, world: World) -> None:
        self._world: Final = world
        self.applied_index = 0
        self.firsts: Final[dict[Number, Answer]] = {}
        self._revisions: Final[dict[bytes, list[int]]] = {}
        self._values: Final[dict[bytes, list[bytes]]] = {}
        self._counts: Final[dict[bytes, int]] = {}
        self._waiting: Final[dict[int, Number]] = {}
        self._tokens: Final[dict[str, int]] = {}
        self._released: Final[dict[int, None]] = {}
        self._holders: Final[dict[str, tuple[int, int] | None]] = {}
        self._closing: Final[dict[int, None]] = {}
        self._decided: dict[int, Result | Refusal] = {}
        """Waits that end in this entry, maybe before the same number comes again."""
        self.expired_us: Final[dict[int, int]] = {}
        """When each session was seen to expire."""
        self.jobs: Final = JobsModel()
        self.claims: Final = ClaimsModel()
        self.locks: Final = LocksModel()

    def apply(self, payload: bytes, machine: Machine, applied: AppliedEntry) -> None:
        """Take in the next entry and what the machine made of it."""
        batch = decode_batch(payload)
        if len(batch.requests) != len(applied.answers):
            raise SimFailure("an entry has requests without answers")
        self._decided = {each.ticket: each.answer for each in applied.decided}
        self.jobs.begin_entry(batch.now_ms)
        self.locks.begin_entry(batch)
        for lease in self.claims.begin_entry(batch):
            self.jobs.lease_ended(lease, is_clean=False)
        for request, answer in zip(batch.requests, applied.answers, strict=True):
            self._take(request, answer)
        for decision in applied.decided:
            number = self._waiting.pop(decision.ticket, None)
            if number is not None:
                self.firsts[number] = decision.answer
        for session in applied.closed:
            if session not in self._closing:
                self.expired_us[session] = self._world.now_us
        for name in LOCKS:
            self._check_lock(name, machine)
        self.claims.end_entry(machine, applied)
        self.locks.end_entry(machine, applied)
        self.jobs.end_entry(machine, applied.record)
        self.applied_index += 1

    def _take(self, request: Request, answer: Answer) -> None:
        if not request.number:
            self.claims.take(request.command, answer)
            self.locks.take(request.command, answer)
            if isinstance(request.command, CloseSession):
                self._closing[request.command.session] = None
                self.jobs.lease_ended(request.command.session, is_clean=True)
            elif not isinstance(answer, Marked | SessionOpened) and (
                not isinstance(answer, Refusal) or answer.reason not in _NEVER_KEPT
            ):
                raise SimFailure(f"{request.command} is answered {answer}")
            return
        key = (request.session, request.number)
        first = self.firsts.get(key)
        if first is None:
            self._take_first(key, request, answer)
        elif isinstance(answer, Refusal) and answer.reason in _NOT_AGAIN:
            return
        elif _kept(answer) != first and not self._is_just_decided(first, answer):
            raise SimFailure(f"number {key} is answered {answer} after {first}")

    def _is_just_decided(self, first: Answer, answer: Answer) -> bool:
        return isinstance(first, Pending) and self._decided.get(first.ticket) == answer

    def _take_first(self, key: Number, request: Request, answer: Answer) -> None:
        if isinstance(answer, Refusal) and answer.reason in _NEVER_KEPT:
            return
        command = request.command
        if self.locks.check_fences(request.fences, answer):
            self.locks.take(command, answer)
        self.claims.take(command, answer)
        self.jobs.take(command, answer)
        if answer == NOTHING_RESERVED:
            return  # it leaves no trace: the same number may reserve later
        self.firsts[key] = _kept(answer)
        if isinstance(answer, Pending):
            self._waiting[answer.ticket] = key
        if isinstance(command, PutKey) and isinstance(answer, KeyPut):
            self._write(command.key, command.value, answer.mod_rev)
        elif isinstance(command, IncrementKey) and isinstance(answer, KeyIncremented):
            value = self._counts.get(command.key, 0) + command.by
            if answer.value != value:
                raise SimFailure(f"{key} counts to {answer.value}, not {value}")
            self._counts[command.key] = value
            self._write(command.key, b"%d" % value, answer.mod_rev)
        elif isinstance(command, ReleaseLock) and isinstance(answer, LockReleased):
            self._released[command.token] = None

    def _write(self, key: bytes, value: bytes, revision: int) -> None:
        revisions = self._revisions.setdefault(key, [])
        if revisions and revisions[-1] >= revision:
            raise SimFailure(f"{key!r}: revision {revision} after {revisions[-1]}")
        revisions.append(revision)
        self._values.setdefault(key, []).append(value)

    def value_at(self, key: bytes, revision: int) -> tuple[bytes, int] | None:
        """Return the value of a key and its revision, as of a revision."""
        revisions = self._revisions.get(key, [])
        at = bisect_right(revisions, revision)
        return (self._values[key][at - 1], revisions[at - 1]) if at else None

    def count(self, key: bytes) -> int:
        """Return a counter's value."""
        return self._counts.get(key, 0)

    def _check_lock(self, name: str, machine: Machine) -> None:
        view = machine.locks.inspect(name)
        old = self._holders.get(name)
        if view is None or not view.holders:
            new = None
        elif len(view.holders) > 1:
            raise SimFailure(f"lock {name} has {len(view.holders)} holders")
        else:
            new = (view.holders[0].token, view.holders[0].lease)
        for claim in (*view.holders, *view.waiters) if view is not None else ():
            if not machine.leases.is_alive(claim.lease):
                raise SimFailure(f"lock {name}: {claim} has a dead lease")
        if new == old:
            return
        if (
            old is not None
            and old[0] not in self._released
            and machine.leases.is_alive(old[1])
        ):
            raise SimFailure(f"lock {name} goes from {old} to {new} without an end")
        if new is not None:
            if new[0] <= self._tokens.get(name, 0):
                raise SimFailure(f"lock {name}: token {new[0]} does not rise")
            self._tokens[name] = new[0]
        self._holders[name] = new

    def check_answer(self, key: Number, answer: Result | Refusal) -> None:
        """Check what a client was told of its numbered write."""
        first = self.firsts.get(key)
        if isinstance(answer, Refusal) and answer.reason in _NEVER_KEPT:
            if isinstance(first, Result):
                raise SimFailure(f"{key} is told {answer}, it was applied: {first}")
        elif answer == NOTHING_RESERVED:
            return  # and a later attempt may have got something
        elif first is None:
            raise SimFailure(f"{key} is told {answer}, and it is not committed")
        elif first != _kept(answer):
            raise SimFailure(f"{key} is told {answer}, the log says {first}")


def _kept(answer: Answer) -> Answer:
    """Return what of an answer is the same each time."""
    return answer.kept() if isinstance(answer, Result) else answer
