"""Operations and compares of transactions, and their results.

Rules: an operation is translated by the translator of the single write with the same
fields; a refused one is refused with its place, in the state machine's words.

Source: SEMANTICS.md section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, assert_never

from raftd.api.checks import check_bytes, check_key, enum_of, invalid
from raftd.api.elections import ElectionCalls
from raftd.api.job_writes import JobWrites
from raftd.api.kv import KeyCalls
from raftd.api.kv_messages import (
    fill_deleted,
    fill_got,
    fill_incremented,
    fill_put,
    fill_range_deleted,
)
from raftd.api.limits import DoorLimits
from raftd.api.locks import LockCalls
from raftd.statemachine.machine import Machine
from raftd.statemachine.refusals import check_name, too_large
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.elections import Proclaimed, Resigned
from raftd.statemachine.schema.jobs import JobCompleted, JobFailed, JobsEnqueued
from raftd.statemachine.schema.kv import (
    GetKey,
    KeyDeleted,
    KeyGot,
    KeyIncremented,
    KeyPut,
    RangeDeleted,
)
from raftd.statemachine.schema.locks import LockReleased
from raftd.statemachine.schema.txn import (
    Compare,
    CompareOp,
    CompareTarget,
    Op,
    OpResult,
)
from raftpb.v1 import txn_pb2

__all__ = ["Ops", "compares_of", "fill_results", "op_prefix", "refuse_op"]

_KEY_TARGETS: Final = frozenset(
    {
        CompareTarget.VALUE,
        CompareTarget.VERSION,
        CompareTarget.CREATE_REV,
        CompareTarget.MOD_REV,
        CompareTarget.LEASE,
        CompareTarget.EXISTS,
    }
)
_NAMES: Final = {
    CompareTarget.LOCK_HELD: "lock",
    CompareTarget.LEADERSHIP_HELD: "election",
    CompareTarget.QUEUE_DEPTH: "queue",
}


class Ops:
    """Translates operations through the translators of single writes."""

    def __init__(self, limits: DoorLimits) -> None:
        self._limits: Final = limits
        keys, jobs = KeyCalls(limits), JobWrites(limits)
        locks, elections = LockCalls(limits), ElectionCalls(limits)
        self._by_name: Final[dict[str, Callable[[Any, int], Op | Refusal]]] = {
            "put": keys.put,
            "delete": keys.delete,
            "delete_range": keys.delete_range,
            "increment": keys.increment,
            "get": self._get,
            "release_lock": locks.release,
            "proclaim": elections.proclaim,
            "resign": elections.resign,
            "enqueue": jobs.enqueue,
            "complete": jobs.complete,
            "fail": jobs.fail,
        }

    def translate(self, ops: Sequence[txn_pb2.Op]) -> tuple[Op, ...] | Refusal:
        """Translate one branch."""
        limit = self._limits.apply.txn_ops_max
        if len(ops) > limit:
            return too_large("the number of operations", len(ops), "txn_ops_max", limit)
        found = []
        for place, message in enumerate(ops):
            name = message.WhichOneof("op")
            if name is None:
                unknown = invalid("it is none that this version knows")
                return refuse_op(place, unknown)
            op = self._by_name[name](getattr(message, name), 0)
            if isinstance(op, Refusal):
                return refuse_op(place, op)
            found.append(op)
        return tuple(found)

    def _get(self, op: txn_pb2.GetOp, session: int) -> GetKey | Refusal:
        return check_key(op.key, self._limits) or GetKey(op.key)


def op_prefix(place: int) -> str:
    """Return how the sentence of a refused operation begins, as in the state."""
    return f"operation {place} of the transaction: "


def refuse_op(place: int, refusal: Refusal) -> Refusal:
    """Say which operation of a branch is refused, as the state does."""
    return Refusal(
        refusal.reason,
        op_prefix(place) + refusal.sentence,
        {**refusal.details, "op": str(place)},
    )


def compares_of(
    compares: Sequence[txn_pb2.Compare], limits: DoorLimits
) -> tuple[Compare, ...] | Refusal:
    """Translate the conditions of a transaction."""
    limit = limits.apply.txn_ops_max
    if len(compares) > limit:
        return too_large("the number of compares", len(compares), "txn_ops_max", limit)
    found = []
    for message in compares:
        compare = _compare_of(message, limits)
        if isinstance(compare, Refusal):
            return compare
        found.append(compare)
    return tuple(found)


def _compare_of(message: txn_pb2.Compare, limits: DoorLimits) -> Compare | Refusal:
    target = enum_of(CompareTarget, message.target)
    if isinstance(target, Refusal):
        return target
    operator = enum_of(CompareOp, message.operator, CompareOp.EQUAL)
    if isinstance(operator, Refusal):
        return operator
    refusal = None
    if target in _KEY_TARGETS:
        refusal = check_key(message.key, limits) or check_bytes(
            "the value of a compare", message.value, limits
        )
    elif target in _NAMES:
        name_bytes_max = limits.apply.name_bytes_max
        refusal = check_name(_NAMES[target], message.name, name_bytes_max)
    if refusal is not None:
        return refusal
    if target is CompareTarget.EXISTS:
        operator = CompareOp.EQUAL
    return Compare(
        target,
        operator,
        message.key,
        message.name,
        message.job_id,
        message.number,
        message.value,
    )


def fill_results(messages: Any, results: Sequence[OpResult], machine: Machine) -> None:
    """Write the results of a branch into a repeated field of OpResult."""
    for result in results:
        _fill_result(messages.add(), result, machine)


def _fill_result(message: txn_pb2.OpResult, result: OpResult, machine: Machine) -> None:
    match result:
        case KeyPut():
            fill_put(message.put, result, machine)
        case KeyDeleted():
            fill_deleted(message.delete, result, machine)
        case RangeDeleted():
            fill_range_deleted(message.delete, result)
        case KeyIncremented():
            fill_incremented(message.increment, result)
        case KeyGot():
            fill_got(message.get, result, machine)
        case JobsEnqueued():
            message.enqueue.job_ids.extend(result.ids)
            message.enqueue.existed.extend(result.existed)
        case LockReleased() | Proclaimed() | Resigned() | JobCompleted() | JobFailed():
            message.done.SetInParent()
        case _:
            assert_never(result)
