"""Transactions at the doors.

Source: SEMANTICS.md section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raftd.api.calls import Call, Write
from raftd.api.limits import DoorLimits
from raftd.api.ops import Ops, compares_of, fill_results
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.txn import Transact, Transacted
from raftpb.v1 import txn_pb2

__all__ = ["TxnCalls"]


class TxnCalls:
    """The calls of TxnService."""

    def __init__(self, limits: DoorLimits) -> None:
        self._limits: Final = limits
        self._ops: Final = Ops(limits)

    def calls(self) -> Sequence[Call]:
        """Return the entries of the table."""
        return (
            Write(
                "transact",
                self._transact,
                _fill_transacted,
                is_large=lambda result: bool(result.results),
            ),
        )

    def _transact(
        self, request: txn_pb2.TransactRequest, session: int
    ) -> Transact | Refusal:
        compares = compares_of(request.compares, self._limits)
        if isinstance(compares, Refusal):
            return compares
        then = self._ops.translate(request.then_ops)
        if isinstance(then, Refusal):
            return then
        orelse = self._ops.translate(request.else_ops)
        if isinstance(orelse, Refusal):
            return orelse
        return Transact(compares, then, orelse)


def _fill_transacted(
    response: txn_pb2.TransactResponse, result: Transacted, machine: Machine
) -> None:
    response.succeeded = result.has_succeeded
    fill_results(response.results, result.results, machine)
