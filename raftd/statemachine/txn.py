"""Transactions: if all compares hold then these operations, else those.

Rules: one revision for all; each operation sees the earlier ones; one refused operation
refuses the whole, with its place (from 0) in ``details["op"]``. A missing key has
version, revisions and lease 0, and a value that differs from every value.

Source: SEMANTICS.md section 3.
"""

from collections.abc import Mapping
from typing import Final, TypeVar, assert_never

from raftd.statemachine import refusals
from raftd.statemachine.answers import Answer
from raftd.statemachine.context import Context
from raftd.statemachine.fences import Fences
from raftd.statemachine.module import Handler, Handlers, KeyReader, Module
from raftd.statemachine.schema.base import Command, Refusal, Result
from raftd.statemachine.schema.txn import (
    Compare,
    CompareOp,
    CompareTarget,
    OpResult,
    Transact,
    Transacted,
)
from raftd.statemachine.tables import Rank

__all__ = ["Transactions"]

_T = TypeVar("_T", int, bytes)


class Transactions(Module):
    """Runs operations of other modules as one command; owns no rows."""

    rank = Rank.TXN

    def __init__(self, context: Context, keys: KeyReader, claims: Fences) -> None:
        super().__init__(context)
        self._keys: Final = keys
        self._claims: Final = claims
        self._handlers: Mapping[type[Command], Handler] = {}

    def bind(self, handlers: Mapping[type[Command], Handler]) -> None:
        """Tell who handles the operations."""
        self._handlers = handlers

    def handlers(self) -> Handlers:
        """Return who handles which command type."""
        return {Transact: self._transact}

    def _transact(self, command: Transact) -> Answer:
        limit = self.context.limits.txn_ops_max
        longest = max(len(command.then), len(command.orelse), len(command.compares))
        if longest > limit:
            return refusals.too_large(
                "the number of operations", longest, "txn_ops_max", limit
            )
        has_succeeded = all(map(self._holds, command.compares))
        results: list[OpResult] = []
        ops = command.then if has_succeeded else command.orelse
        for place, op in enumerate(ops):
            answer = self._handlers[type(op)](op)
            if isinstance(answer, Refusal):
                return _refuse_op(place, answer)
            assert isinstance(answer, Result), f"operation {place} waits"
            results.append(answer)  # type: ignore[arg-type]  # an Op gives an OpResult
        return Transacted(has_succeeded, tuple(results))

    def _holds(self, compare: Compare) -> bool:
        target = compare.target
        number = compare.number
        match target:
            case CompareTarget.LEASE_ALIVE:
                return self._claims.leases.is_alive(number)
            case CompareTarget.LOCK_HELD:
                return self._claims.locks.holds(compare.name, number)
            case CompareTarget.LEADERSHIP_HELD:
                return self._claims.elections.holds(compare.name, number)
            case CompareTarget.RESERVATION_HELD:
                return self._claims.jobs.holds_reservation(compare.job, number)
            case CompareTarget.QUEUE_DEPTH:
                depth = self._claims.jobs.queue_depth(compare.name)
                return _compare(compare.op, depth, number)
            case _:
                return self._holds_key(compare)

    def _holds_key(self, compare: Compare) -> bool:
        record = self._keys.find(compare.key)
        if compare.target is CompareTarget.VALUE:
            if record is None:
                return compare.op is CompareOp.NOT_EQUAL
            return _compare(compare.op, record.value, compare.value)
        actual = 0
        match compare.target:
            case CompareTarget.EXISTS:
                actual = int(record is not None)
            case CompareTarget.VERSION:
                actual = record.version if record is not None else 0
            case CompareTarget.CREATE_REV:
                actual = record.create_rev if record is not None else 0
            case CompareTarget.MOD_REV:
                actual = record.mod_rev if record is not None else 0
            case CompareTarget.LEASE:
                actual = record.lease if record is not None else 0
            case _:
                raise AssertionError(f"{compare.target.name} is about no key")
        return _compare(compare.op, actual, compare.number)


def _compare(op: CompareOp, actual: _T, wanted: _T) -> bool:
    match op:
        case CompareOp.EQUAL:
            return actual == wanted
        case CompareOp.NOT_EQUAL:
            return actual != wanted
        case CompareOp.LESS:
            return actual < wanted
        case CompareOp.GREATER:
            return actual > wanted
        case _:
            assert_never(op)


def _refuse_op(place: int, refusal: Refusal) -> Refusal:
    return Refusal(
        refusal.reason,
        f"operation {place} of the transaction: {refusal.sentence}",
        {**refusal.details, "op": str(place)},
    )
