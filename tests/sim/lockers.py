"""Clients of all kinds of locks, and of what locks guard.

Rules: a lock is for one, or for those that share it, or a semaphore, as its name says.
What is guarded is written to under the token of a lock that is held, or was: the
committed log says whether it had to be done. In the end all is given back.

Source: SEMANTICS.md section 4; RELIABILITY.md section 4 (lock), rules 47 and 48.
"""

from __future__ import annotations

from typing import Any, Final

from raftd.node.service import Answered
from raftd.statemachine.schema.base import Fence, FenceKind, Refusal, Result
from raftd.statemachine.schema.kv import PutKey
from raftd.statemachine.schema.locks import (
    AcquireLock,
    BreakLock,
    CancelAcquire,
    LockGranted,
    LockMode,
    ReleaseLock,
)
from tests.sim.caller import Caller
from tests.sim.ops import Op
from tests.sim.world import SimFailure

__all__ = ["GATES", "Locker"]

GATES: Final = ("gate", "pool")
_GUARDED: Final = b"guarded"
_POOL_LIMIT: Final = 2

_Held = tuple[str, int]
"""Lock and token."""


class Locker(Caller):
    """See the module's rules."""

    def __init__(self, *args: Any) -> None:
        """Begin to exist; see ``Caller``."""
        super().__init__(*args)
        self._held: Final[list[_Held]] = []
        self._had: Final[list[_Held]] = []

    @property
    def is_idle(self) -> bool:
        """Whether it holds nothing, and waits for nothing."""
        return not self._open and not self._held

    def _leave(self) -> None:
        super()._leave()
        self._held.clear()

    def _begin_some(self) -> None:
        rng = self._rng
        draw = rng.random()
        if self._held and (self._is_draining or draw < 0.3):
            at = rng.randrange(len(self._held))
            self._begin(ReleaseLock(*self._held.pop(at)), b"")
        elif self._is_draining:
            return
        elif self._held and draw < 0.6:
            self._write(rng.choice(self._held))
        elif self._had and draw < 0.65:
            self._write(rng.choice(self._had))
        elif draw < 0.68:
            self._begin(BreakLock(rng.choice(GATES)), b"")
        elif draw < 0.72:
            name = rng.choice(GATES)
            self._begin(CancelAcquire(name, self._session, f"c{self._id}"), b"")
        elif not any(isinstance(op.command, AcquireLock) for op in self._open.values()):
            self._begin(self._acquire(), b"")

    def _acquire(self) -> AcquireLock:
        rng = self._rng
        name = rng.choice(GATES)
        mode = rng.choice([LockMode.EXCLUSIVE, LockMode.SHARED, LockMode.SHARED])
        return AcquireLock(
            name,
            self._session,
            f"c{self._id}",
            LockMode.SEMAPHORE if name == "pool" else mode,
            _POOL_LIMIT if name == "pool" else 1,
            wait_ms=rng.choice([0, 500, None]),
            delay_ms=rng.choice([0, 0, 700]),
        )

    def _write(self, held: _Held) -> None:
        """Write under a token, which may be that of a lock that was lost."""
        name, token = held
        unique = b"%d.%d" % (self._id, self._tag)
        fence = Fence(FenceKind.LOCK, name, token)
        self._begin(PutKey(_GUARDED, unique), _GUARDED, fences=(fence,))

    def _on_told(self, op: Op, answer: Result | Refusal) -> None:
        if isinstance(answer, LockGranted):
            assert isinstance(op.command, AcquireLock)
            self._held.append((op.command.name, answer.token))
            self._had.append((op.command.name, answer.token))
            del self._had[:-6]
        if self._is_lost:
            self._held.clear()

    def _on_read(self, op: Op, answered: Answered) -> None:
        raise SimFailure(f"{op} was never asked: {answered}")
