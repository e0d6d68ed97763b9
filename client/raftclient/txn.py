"""Transactions: if all compares hold then these operations, else those.

One revision, all or nothing, across keys, locks, elections and jobs. This module has
the constructors of compares and operations; a client runs them::

    from raftclient import txn

    result = await (
        client.txn()
        .when(txn.value("stock", b"1"), txn.lock_held("orders", grant.token))
        .then(txn.put("stock", b"0"), txn.enqueue("ship", JobSpec(order)))
        .otherwise(txn.get("stock"))
        .commit()
    )

Source: SEMANTICS.md section 3; proto/raftpb/v1/txn.proto.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, Self

import msgspec

from raftclient._clock import to_ms
from raftclient._values import Data, LeaseRef, as_bytes, lease_id_of, range_of
from raftclient.results import TxnResult, results_from_wire
from raftpb.v1 import txn_pb2
from raftpb.v1.sessions_pb2 import StreamRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from raftclient._core import Core
    from raftclient.fences import Fence
    from raftclient.specs import JobSpec

__all__ = [
    "Compare",
    "Op",
    "Operator",
    "Transaction",
    "TxnCalls",
    "complete",
    "create_rev",
    "delete",
    "delete_range",
    "enqueue",
    "exists",
    "fail",
    "get",
    "increment",
    "leadership_held",
    "lease",
    "lease_alive",
    "lock_held",
    "missing",
    "mod_rev",
    "ops_to_wire",
    "proclaim",
    "put",
    "queue_depth",
    "release_lock",
    "reservation_held",
    "resign",
    "value",
    "version",
]

_C = txn_pb2.Compare


class Operator(enum.StrEnum):
    """How a value is compared."""

    EQUAL = "=="
    NOT_EQUAL = "!="
    LESS = "<"
    GREATER = ">"


_OPERATORS: Final = {
    Operator.EQUAL: _C.OPERATOR_EQUAL,
    Operator.NOT_EQUAL: _C.OPERATOR_NOT_EQUAL,
    Operator.LESS: _C.OPERATOR_LESS,
    Operator.GREATER: _C.OPERATOR_GREATER,
}


class Compare(msgspec.Struct, frozen=True):
    """One condition; made by the functions of this module."""

    wire: txn_pb2.Compare


class Op(msgspec.Struct, frozen=True):
    """One operation; made by the functions of this module."""

    wire: txn_pb2.Op


# --- compares --------------------------------------------------------------------


def value(key: Data, value: Data, operator: Operator = Operator.EQUAL) -> Compare:
    """Compare the value of a key; a missing key equals nothing."""
    return _key(key, _C.TARGET_VALUE, operator, value=as_bytes(value))


def version(key: Data, number: int, operator: Operator = Operator.EQUAL) -> Compare:
    """Compare how often a key was changed since its creation; 0 = missing."""
    return _key(key, _C.TARGET_VERSION, operator, number)


def create_rev(key: Data, number: int, operator: Operator = Operator.EQUAL) -> Compare:
    """Compare the revision that created a key; 0 = missing."""
    return _key(key, _C.TARGET_CREATE_REV, operator, number)


def mod_rev(key: Data, number: int, operator: Operator = Operator.EQUAL) -> Compare:
    """Compare the revision that changed a key last; 0 = missing."""
    return _key(key, _C.TARGET_MOD_REV, operator, number)


def lease(key: Data, lease_id: int, operator: Operator = Operator.EQUAL) -> Compare:
    """Compare the lease that a key lives with; 0 = none."""
    return _key(key, _C.TARGET_LEASE, operator, lease_id)


def exists(key: Data) -> Compare:
    """Require that a key exists."""
    return _key(key, _C.TARGET_EXISTS, Operator.EQUAL, 1)


def missing(key: Data) -> Compare:
    """Require that a key does not exist."""
    return _key(key, _C.TARGET_EXISTS, Operator.EQUAL, 0)


def lease_alive(lease: LeaseRef) -> Compare:
    """Require that a lease or session is alive."""
    return Compare(_C(target=_C.TARGET_LEASE_ALIVE, number=lease_id_of(lease)))


def lock_held(name: str, token: int) -> Compare:
    """Require that a lock is held with this token."""
    return Compare(_C(target=_C.TARGET_LOCK_HELD, name=name, number=token))


def leadership_held(name: str, epoch: int) -> Compare:
    """Require that a name is led with this epoch."""
    return Compare(_C(target=_C.TARGET_LEADERSHIP_HELD, name=name, number=epoch))


def reservation_held(job_id: int, token: int) -> Compare:
    """Require that a job is reserved with this token."""
    return Compare(_C(target=_C.TARGET_RESERVATION_HELD, job_id=job_id, number=token))


def queue_depth(
    queue: str, number: int, operator: Operator = Operator.EQUAL
) -> Compare:
    """Compare how many jobs of a queue wait."""
    return Compare(
        _C(
            target=_C.TARGET_QUEUE_DEPTH,
            operator=_OPERATORS[operator],
            name=queue,
            number=number,
        )
    )


# --- operations ------------------------------------------------------------------


def put(
    key: Data,
    value: Data,
    *,
    lease: LeaseRef | None = None,
    if_mod_rev: int | None = None,
    want_previous: bool = False,
) -> Op:
    """Set a key; arguments as of ``client.put``. Gives ``Put``."""
    body = txn_pb2.PutOp(
        key=as_bytes(key),
        value=as_bytes(value),
        lease_id=0 if lease is None else lease_id_of(lease),
        if_mod_rev=if_mod_rev,
        want_previous=want_previous,
    )
    return Op(txn_pb2.Op(put=body))


def get(key: Data) -> Op:
    """Read a key as the operations before have left it. Gives ``KeyValue | None``."""
    return Op(txn_pb2.Op(get=txn_pb2.GetOp(key=as_bytes(key))))


def delete(
    key: Data, *, if_mod_rev: int | None = None, want_previous: bool = False
) -> Op:
    """Delete a key. Gives ``Removed``."""
    body = txn_pb2.DeleteOp(
        key=as_bytes(key), if_mod_rev=if_mod_rev, want_previous=want_previous
    )
    return Op(txn_pb2.Op(delete=body))


def delete_range(
    *,
    prefix: Data | None = None,
    start: Data | None = None,
    end: Data | None = None,
) -> Op:
    """Delete a range of keys. Gives ``Removed``."""
    first, last = range_of(prefix, start, end)
    body = txn_pb2.DeleteRangeOp(start=first, end=last)
    return Op(txn_pb2.Op(delete_range=body))


def increment(key: Data, by: int = 1, *, lease: LeaseRef | None = None) -> Op:
    """Add to an integer key. Gives ``Sum``."""
    body = txn_pb2.IncrementOp(
        key=as_bytes(key), by=by, lease_id=0 if lease is None else lease_id_of(lease)
    )
    return Op(txn_pb2.Op(increment=body))


def release_lock(name: str, token: int) -> Op:
    """Give a lock back. Gives ``Done``."""
    return Op(txn_pb2.Op(release_lock=txn_pb2.ReleaseLockOp(name=name, token=token)))


def proclaim(name: str, epoch: int, value: Data) -> Op:
    """Change what observers of an election see. Gives ``Done``."""
    body = txn_pb2.ProclaimOp(name=name, epoch=epoch, value=as_bytes(value))
    return Op(txn_pb2.Op(proclaim=body))


def resign(name: str, epoch: int) -> Op:
    """Give leadership up. Gives ``Done``."""
    return Op(txn_pb2.Op(resign=txn_pb2.ResignOp(name=name, epoch=epoch)))


def enqueue(queue: str, *specs: JobSpec) -> Op:
    """Enqueue jobs, all or none. Gives ``Enqueued``."""
    body = txn_pb2.EnqueueOp(jobs=[spec.to_wire(queue) for spec in specs])
    return Op(txn_pb2.Op(enqueue=body))


def complete(job_id: int, token: int, result: Data = b"") -> Op:
    """Complete a reserved job. Gives ``Done``."""
    body = txn_pb2.CompleteOp(job_id=job_id, token=token, result=as_bytes(result))
    return Op(txn_pb2.Op(complete=body))


def fail(
    job_id: int,
    token: int,
    error: str,
    *,
    retry_in_s: float | None = None,
    fatal: bool = False,
) -> Op:
    """Fail a reserved job. Gives ``Done``."""
    body = txn_pb2.FailOp(
        job_id=job_id,
        token=token,
        error=error,
        retry_in_ms=None if retry_in_s is None else to_ms(retry_in_s),
        fatal=fatal,
    )
    return Op(txn_pb2.Op(fail=body))


# --- running ---------------------------------------------------------------------


class Transaction:
    """A transaction in the making; ``commit`` runs it, once or many times."""

    def __init__(self, core: Core) -> None:
        self._core: Final = core
        self._body: Final = txn_pb2.TransactRequest()

    def when(self, *compares: Compare) -> Self:
        """Add conditions; all must hold."""
        self._body.compares.extend(each.wire for each in compares)
        return self

    def then(self, *ops: Op) -> Self:
        """Add operations that run if they do."""
        self._body.then_ops.extend(each.wire for each in ops)
        return self

    def otherwise(self, *ops: Op) -> Self:
        """Add operations that run if they do not."""
        self._body.else_ops.extend(each.wire for each in ops)
        return self

    async def commit(
        self, *, fences: Sequence[Fence] = (), timeout_s: float | None = None
    ) -> TxnResult:
        """Run it.

        Raises:
            RaftError: An operation was refused, and with it all of them;
                ``details["op"]`` is its place in its branch.
            Unavailable: Not applied, and never will be: try again.
            OutcomeUnknown: Sent, and not answered in time: read, then decide.
        """
        request = StreamRequest(transact=self._body)
        reply = await self._core.write(request, timeout_s, fences=fences)
        answer = reply.transact
        results = results_from_wire(answer.results)
        return TxnResult(answer.succeeded, reply.revision, results)


class TxnCalls:
    """The call that begins a transaction."""

    _core: Core

    def txn(self) -> Transaction:
        """Begin a transaction; see ``raftclient.txn``."""
        return Transaction(self._core)


def ops_to_wire(ops: Iterable[Op]) -> list[txn_pb2.Op]:
    """Turn operations into the API's messages."""
    return [op.wire for op in ops]


def _key(
    key: Data,
    target: txn_pb2.Compare.Target.ValueType,
    operator: Operator,
    number: int = 0,
    *,
    value: bytes = b"",
) -> Compare:
    return Compare(
        _C(
            target=target,
            operator=_OPERATORS[operator],
            key=as_bytes(key),
            number=number,
            value=value,
        )
    )
