"""The error table, and how a refusal leaves through each door.

A unary call ends with a status that carries ``ErrorInfo`` (domain ``raftd``, the
reason, metadata with ``applied`` and what helps); a stream carries a ``Refusal``
message with the same words. Only ``applied`` = "no" says that nothing happened; a
status without ``ErrorInfo`` says nothing about the outcome.

What a row is to callers is kept by them: its Python exception in ``raftclient``, its
exit code in ``raftctl`` (2 mend the call, 3 not found, 4 precondition, 5 claim lost,
6 unavailable, 7 outcome unknown, 8 denied, 9 compacted, 10 limit, 1 a bug).

Source: ERRORS.md; SEMANTICS.md section 0.
"""

from __future__ import annotations

import logging
from typing import Any, Final, NamedTuple, NoReturn

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from raftd.statemachine.schema.base import Applied, Reason, Refusal
from raftpb.v1 import common_pb2

__all__ = [
    "DOMAIN",
    "TABLE",
    "Row",
    "abort",
    "applied_of",
    "fill_refusal",
    "internal",
    "to_proto",
    "to_status",
]

_logger = logging.getLogger(__name__)

DOMAIN: Final = "raftd"

_APPLIED: Final = "applied"


class Row(NamedTuple):
    """What a reason means on the wire.

    Attributes:
        code: The status of a unary call.
        applied: Whether the request changed anything, unless the refusal knows better.
    """

    code: grpc.StatusCode
    applied: Applied


def _rows(
    code: grpc.StatusCode, applied: Applied, *reasons: Reason
) -> dict[Reason, Row]:
    return dict.fromkeys(reasons, Row(code, applied))


TABLE: Final[dict[Reason, Row]] = {
    **_rows(
        grpc.StatusCode.INVALID_ARGUMENT,
        Applied.NO,
        Reason.INVALID_NAME,
        Reason.INVALID_REQUEST,
        Reason.TOO_LARGE,
        Reason.NUMBER_REUSED,
    ),
    **_rows(grpc.StatusCode.NOT_FOUND, Applied.NO, Reason.NOT_FOUND),
    **_rows(
        grpc.StatusCode.FAILED_PRECONDITION,
        Applied.NO,
        Reason.PRECONDITION,
        Reason.LOCK_HELD,
        Reason.FENCED,
        Reason.NOT_HOLDER,
        Reason.LEASE_EXPIRED,
        Reason.SESSION_EXPIRED,
        Reason.RESERVATION_EXPIRED,
        Reason.RESERVATION_LOST,
        Reason.JOB_FINAL,
    ),
    **_rows(
        grpc.StatusCode.UNAVAILABLE,
        Applied.NO,
        Reason.NOT_LEADER,
        Reason.NO_LEADER,
        Reason.SHUTTING_DOWN,
        Reason.OVERLOADED,
    ),
    # A repeat of the very same call cannot help with these two; a new look can.
    **_rows(
        grpc.StatusCode.FAILED_PRECONDITION,
        Applied.UNKNOWN,
        Reason.SESSION_UNKNOWN,
        Reason.STALE_NUMBER,
    ),
    **_rows(grpc.StatusCode.UNAVAILABLE, Applied.UNKNOWN, Reason.LEADERSHIP_LOST),
    **_rows(grpc.StatusCode.DEADLINE_EXCEEDED, Applied.UNKNOWN, Reason.DEADLINE),
    **_rows(grpc.StatusCode.UNAUTHENTICATED, Applied.NO, Reason.UNAUTHENTICATED),
    **_rows(grpc.StatusCode.PERMISSION_DENIED, Applied.NO, Reason.DENIED),
    **_rows(grpc.StatusCode.OUT_OF_RANGE, Applied.NO, Reason.COMPACTED),
    **_rows(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        Applied.NO,
        Reason.QUOTA,
        Reason.QUEUE_FULL,
        Reason.TOO_MANY,
        Reason.DISK_FULL,
    ),
    **_rows(grpc.StatusCode.DATA_LOSS, Applied.NO, Reason.CORRUPT, Reason.DIVERGED),
    **_rows(grpc.StatusCode.INTERNAL, Applied.UNKNOWN, Reason.INTERNAL),
}

# Where it depends on how far the request had come; the node says so in the details.
_NODE_KNOWS: Final = frozenset({Reason.DEADLINE, Reason.LEADERSHIP_LOST})


def internal(what: str, error: Exception) -> Refusal:
    """Log a bug of this member and make the refusal that the caller gets."""
    _logger.error("answer_failed call=%s", what, exc_info=error)
    return Refusal(
        Reason.INTERNAL, f"this member could not make its answer to {what}: {error!r}"
    )


def applied_of(refusal: Refusal) -> Applied:
    """Say whether a refused request changed anything."""
    if refusal.reason in _NODE_KNOWS and _APPLIED in refusal.details:
        return Applied(refusal.details[_APPLIED])
    return TABLE[refusal.reason].applied


def fill_refusal(message: common_pb2.Refusal, refusal: Refusal) -> None:
    """Write a refusal into a stream's message."""
    message.reason = refusal.reason.value
    message.message = refusal.sentence
    message.applied = applied_of(refusal).value
    message.code = _number(TABLE[refusal.reason].code)
    for name, value in refusal.details.items():
        if name != _APPLIED:
            message.details[name] = value


def to_proto(refusal: Refusal) -> common_pb2.Refusal:
    """Make a stream's message of a refusal."""
    message = common_pb2.Refusal()
    fill_refusal(message, refusal)
    return message


def to_status(refusal: Refusal) -> status_pb2.Status:
    """Make the rich status of a refusal."""
    info = error_details_pb2.ErrorInfo(
        reason=refusal.reason.value,
        domain=DOMAIN,
        metadata={**refusal.details, _APPLIED: applied_of(refusal).value},
    )
    packed = any_pb2.Any()
    packed.Pack(info)
    return status_pb2.Status(
        code=_number(TABLE[refusal.reason].code),
        message=refusal.sentence,
        details=[packed],
    )


async def abort(
    context: grpc.aio.ServicerContext[Any, Any], refusal: Refusal
) -> NoReturn:
    """End a call with the rich status of a refusal.

    Raises:
        grpc.aio.AbortError: Always; it ends the handler.
    """
    status = rpc_status.to_status(to_status(refusal))
    await context.abort(status.code, status.details, status.trailing_metadata)


def _number(code: grpc.StatusCode) -> int:
    number: int = code.value[0]
    return number
