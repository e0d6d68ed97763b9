"""The one boundary where foreign errors become ours.

A refusal inside a stream and a status with ErrorInfo (domain ``raftd``) say what
happened; a status without one says nothing, because gRPC makes some by itself when a
connection breaks: it is *outcome unknown* for a write, and a reason to ask again for a
read.

Source: ERRORS.md; SEMANTICS.md section 0.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from raftclient.errors import OutcomeUnknown, RaftError, error_class

if TYPE_CHECKING:
    from collections.abc import Iterable

    from raftpb.v1.common_pb2 import Refusal

__all__ = [
    "RETRYABLE_REASONS",
    "SESSION_OVER_REASONS",
    "UNLOGGED_REASONS",
    "error_from_refusal",
    "error_from_rpc",
    "is_retryable",
]

RETRYABLE_REASONS: Final = frozenset(
    {"NOT_LEADER", "NO_LEADER", "SHUTTING_DOWN", "OVERLOADED", "CORRUPT", "DIVERGED"}
)
"""Never proposed; another member, or the same one soon, may do better."""

UNLOGGED_REASONS: Final = frozenset({"DISK_FULL"})
"""For the caller to decide on, but never proposed: they say nothing of what became of
the same number when it was sent before."""

SESSION_OVER_REASONS: Final = frozenset({"SESSION_EXPIRED", "SESSION_UNKNOWN"})
"""The session ended, or is not even remembered."""

_UNSURE_REASONS: Final = frozenset({"LEADERSHIP_LOST", "DEADLINE"})
"""Perhaps proposed: worth asking again only under the same number. The deadline is that
of one attempt, so even one that proposed nothing says nothing of the next."""

_DOMAIN: Final = "raftd"
_DETAILS_KEY: Final = "grpc-status-details-bin"


def error_from_refusal(refusal: Refusal) -> RaftError:
    """Return the error that a refusal of the stream means."""
    return _error(
        refusal.reason, refusal.message, refusal.applied, dict(refusal.details)
    )


def error_from_rpc(error: grpc.RpcError) -> RaftError:
    """Return the error that a failed call means."""
    info = _error_info(_trailing_metadata(error))
    text = _details_of(error)
    if info is None:
        code = _code_of(error)
        return OutcomeUnknown(
            f"the connection failed ({code.name}): {text}", reason=code.name
        )
    metadata = dict(info.metadata)
    applied = metadata.pop("applied", "unknown")
    return _error(info.reason, text, applied, metadata)


def is_retryable(error: RaftError) -> bool:
    """Tell whether the same numbered request, or read, should be sent again."""
    limit = error.details.get("limit_name", "")
    if limit == "stream_requests_max" or limit.startswith("window_"):
        return True  # no room for it, or its answer, yet: nothing was left behind
    return error.reason in RETRYABLE_REASONS or error.reason in _UNSURE_REASONS


def _error(
    reason: str, message: str, applied: str, details: dict[str, str]
) -> RaftError:
    found = error_class(reason, applied)
    return found(
        message or reason, reason=reason, applied=applied or None, details=details
    )


def _error_info(metadata: Iterable[tuple[str, Any]]) -> Any:
    for key, value in metadata:
        if key == _DETAILS_KEY:
            # What is between us and a member may put anything there.
            with contextlib.suppress(DecodeError):
                return _our_info(value)
    return None


def _our_info(status: bytes) -> Any:
    for detail in status_pb2.Status.FromString(status).details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == _DOMAIN:
            return info
    return None


# grpc's sync and asyncio errors answer the same questions, but only the latter
# says so in its type.


def _trailing_metadata(error: Any) -> Iterable[tuple[str, Any]]:
    return error.trailing_metadata() or ()


def _details_of(error: Any) -> str:
    return str(error.details() or "no reason given")


def _code_of(error: Any) -> grpc.StatusCode:
    code = error.code()
    assert isinstance(code, grpc.StatusCode)
    return code
