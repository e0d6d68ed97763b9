"""Transactions in the log: compares, then-ops, else-ops.

Source: SEMANTICS.md section 3.
"""

from __future__ import annotations

import enum

import msgspec

from raftd.statemachine.schema.base import Command, Result
from raftd.statemachine.schema.elections import Proclaim, Proclaimed, Resign, Resigned
from raftd.statemachine.schema.jobs import (
    CompleteJob,
    EnqueueJobs,
    FailJob,
    JobCompleted,
    JobFailed,
    JobsEnqueued,
)
from raftd.statemachine.schema.kv import (
    DeleteKey,
    DeleteRange,
    GetKey,
    IncrementKey,
    KeyDeleted,
    KeyGot,
    KeyIncremented,
    KeyPut,
    PutKey,
    RangeDeleted,
)
from raftd.statemachine.schema.locks import LockReleased, ReleaseLock

__all__ = [
    "Compare",
    "CompareOp",
    "CompareTarget",
    "Op",
    "OpResult",
    "Transact",
    "Transacted",
]

Op = (
    PutKey
    | DeleteKey
    | DeleteRange
    | IncrementKey
    | GetKey
    | ReleaseLock
    | Proclaim
    | Resign
    | EnqueueJobs
    | CompleteJob
    | FailJob
)
"""What may stand in a transaction: nothing that waits, no nesting."""

OpResult = (
    KeyPut
    | KeyDeleted
    | RangeDeleted
    | KeyIncremented
    | KeyGot
    | LockReleased
    | Proclaimed
    | Resigned
    | JobsEnqueued
    | JobCompleted
    | JobFailed
)


class CompareTarget(enum.IntEnum):
    """What is compared; which fields of Compare count is said in brackets."""

    VALUE = 1  # key, value
    VERSION = 2  # key, number
    CREATE_REV = 3  # key, number
    MOD_REV = 4  # key, number
    LEASE = 5  # key, number
    EXISTS = 6  # key, number 1 or 0
    LEASE_ALIVE = 7  # number = lease id
    LOCK_HELD = 8  # name, number = token
    LEADERSHIP_HELD = 9  # name, number = epoch
    RESERVATION_HELD = 10  # job, number = token
    QUEUE_DEPTH = 11  # name, number


class CompareOp(enum.IntEnum):
    """How; the "held" and "alive" targets ignore it."""

    EQUAL = 1
    NOT_EQUAL = 2
    LESS = 3
    GREATER = 4


class Compare(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One condition; a missing key has version, revisions and lease 0."""

    target: CompareTarget
    op: CompareOp = CompareOp.EQUAL
    key: bytes = b""
    name: str = ""
    job: int = 0
    number: int = 0
    value: bytes = b""


class Transact(Command, frozen=True, tag=40):
    """If all compares hold then ``then``, else ``orelse``; at most 128 ops."""

    compares: tuple[Compare, ...]
    then: tuple[Op, ...]
    orelse: tuple[Op, ...] = ()


class Transacted(Result, frozen=True, tag=40):
    """Which branch ran, and a result for each of its ops."""

    has_succeeded: bool
    results: tuple[OpResult, ...]

    def kept(self) -> Transacted:
        """Drop the payloads of each result."""
        return Transacted(
            self.has_succeeded,
            tuple(result.kept() for result in self.results),  # type: ignore[misc]  # kept() keeps the class
        )
