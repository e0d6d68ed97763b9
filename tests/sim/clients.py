"""Clients of keys, counters and locks.

Rules: values are unique; a read shows what its revision says. A client takes one lock
at a time, or clients would wait for each other.

Source: RELIABILITY.md section 4 (models) and section 6 (clients).
"""

from __future__ import annotations

from functools import partial

from raftd.node.service import Answered
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Refusal, Result
from raftd.statemachine.schema.kv import KeyIncremented, KeyPut, KeyValue
from raftd.statemachine.schema.locks import AcquireLock, LockGranted, ReleaseLock
from tests.sim.caller import Caller
from tests.sim.model import LOCKS
from tests.sim.ops import Op, draw_op
from tests.sim.world import SimFailure

__all__ = ["Client"]


class Client(Caller):
    """See the module's rules."""

    def _begin_some(self) -> None:
        rng = self._rng
        held = [name for name in LOCKS if name in self._belief.held]
        if held and (self._is_draining or rng.random() < 0.3):
            token = self._belief.held[held[0]]
            self._belief.let_go(held[0])
            self._begin(ReleaseLock(held[0], token), b"")
            return
        if self._is_draining:
            return
        is_locking = bool(self._belief.held) or any(
            isinstance(op.command, AcquireLock | ReleaseLock)
            for op in self._open.values()
        )
        unique = b"%d.%d" % (self._id, self._tag)
        command, key = draw_op(rng, unique, f"c{self._id}", self._session)
        if not (isinstance(command, AcquireLock) and is_locking):
            query = partial(_find, key) if command is None else None
            self._begin(command, key, query=query)

    def _on_told(self, op: Op, answer: Result | Refusal) -> None:
        match answer:
            case KeyPut(mod_rev=revision):
                self._on_revision(op, revision, is_write=True)
            case KeyIncremented(mod_rev=revision):
                counts = self._tally.counts
                counts[op.key] = counts.get(op.key, 0) + 1
                self._on_revision(op, revision, is_write=True)
            case LockGranted(token=token):
                assert isinstance(op.command, AcquireLock)
                self._belief.take(op.command.name, token)
            case _:
                pass

    def _on_read(self, op: Op, answered: Answered) -> None:
        found: object = answered.answer
        shown = (found.value, found.mod_rev) if isinstance(found, KeyValue) else None
        expected = self._model.value_at(op.key, answered.revision)
        if shown != expected:
            raise SimFailure(
                f"c{self._id} read {op.key!r} at {answered.revision}: {shown},"
                f" the log says {expected}"
            )


def _find(key: bytes, machine: Machine) -> KeyValue | None:
    return machine.kv.find(key)
