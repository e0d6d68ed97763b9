"""The error table, and the one boundary where foreign errors become ours."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

import raftclient
from raftclient import errors
from raftclient._status import error_from_refusal, error_from_rpc, is_retryable
from raftpb.v1.common_pb2 import Refusal

# Reason, applied, class, exit code, whether the engine asks again: ERRORS.md.
TABLE = [
    ("INVALID_NAME", "no", errors.InvalidRequest, 2, False),
    ("INVALID_REQUEST", "no", errors.InvalidRequest, 2, False),
    ("TOO_LARGE", "no", errors.InvalidRequest, 2, False),
    ("NUMBER_REUSED", "no", errors.InvalidRequest, 2, False),
    ("NOT_FOUND", "no", errors.NotFound, 3, False),
    ("PRECONDITION", "no", errors.PreconditionFailed, 4, False),
    ("LOCK_HELD", "no", errors.LockHeld, 4, False),
    ("JOB_FINAL", "no", errors.JobFinal, 4, False),
    ("FENCED", "no", errors.Fenced, 5, False),
    ("NOT_HOLDER", "no", errors.Fenced, 5, False),
    ("LEASE_EXPIRED", "no", errors.LeaseLost, 5, False),
    ("SESSION_EXPIRED", "no", errors.LeaseLost, 5, False),
    ("RESERVATION_EXPIRED", "no", errors.ReservationLost, 5, False),
    ("RESERVATION_LOST", "no", errors.ReservationLost, 5, False),
    ("NOT_LEADER", "no", errors.Unavailable, 6, True),
    ("NO_LEADER", "no", errors.Unavailable, 6, True),
    ("SHUTTING_DOWN", "no", errors.Unavailable, 6, True),
    ("OVERLOADED", "no", errors.Unavailable, 6, True),
    ("CORRUPT", "no", errors.Unavailable, 6, True),
    ("DIVERGED", "no", errors.Unavailable, 6, True),
    ("DEADLINE", "no", errors.Unavailable, 6, True),
    ("SESSION_UNKNOWN", "unknown", errors.OutcomeUnknown, 7, False),
    ("STALE_NUMBER", "unknown", errors.OutcomeUnknown, 7, False),
    ("LEADERSHIP_LOST", "unknown", errors.OutcomeUnknown, 7, True),
    ("DEADLINE", "unknown", errors.OutcomeUnknown, 7, True),
    ("UNAUTHENTICATED", "no", errors.Denied, 8, False),
    ("DENIED", "no", errors.Denied, 8, False),
    ("COMPACTED", "no", errors.Compacted, 9, False),
    ("QUOTA", "no", errors.LimitExceeded, 10, False),
    ("QUEUE_FULL", "no", errors.LimitExceeded, 10, False),
    ("TOO_MANY", "no", errors.LimitExceeded, 10, False),
    ("DISK_FULL", "no", errors.LimitExceeded, 10, False),
    ("INTERNAL", "unknown", errors.InternalError, 1, False),
    ("FROM_THE_FUTURE", "no", errors.InternalError, 1, False),
    ("FROM_THE_FUTURE", "unknown", errors.OutcomeUnknown, 7, False),
]


@pytest.mark.parametrize(("reason", "applied", "kind", "exit_code", "again"), TABLE)
def test_each_reason_becomes_its_class(
    reason: str,
    applied: str,
    kind: type[errors.RaftError],
    exit_code: int,
    again: bool,
) -> None:
    refusal = Refusal(reason=reason, message="no", applied=applied, details={"a": "b"})
    error = error_from_refusal(refusal)
    assert type(error) is kind
    assert (error.reason, error.applied, error.exit_code) == (
        reason,
        applied,
        exit_code,
    )
    assert error.details == {"a": "b"}
    assert error.message == "no"
    assert is_retryable(error) is again


class FailedCall(grpc.RpcError):
    """A call that failed, as grpc shows it."""

    def __init__(self, code: grpc.StatusCode, status: bytes | None) -> None:
        self._code = code
        self._status = status

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "what the status says"

    def trailing_metadata(self) -> Any:
        if self._status is None:
            return (("other", b"x"),)
        return (("grpc-status-details-bin", self._status),)


def rich_status(domain: str) -> bytes:
    info = error_details_pb2.ErrorInfo(
        reason="FENCED", domain=domain, metadata={"applied": "no", "current": "9"}
    )
    packed = any_pb2.Any()
    packed.Pack(info)
    status: bytes = status_pb2.Status(code=9, details=[packed]).SerializeToString()
    return status


def test_a_rich_status_says_what_happened() -> None:
    failure = FailedCall(grpc.StatusCode.FAILED_PRECONDITION, rich_status("raftd"))
    error = error_from_rpc(failure)
    assert type(error) is errors.Fenced
    assert error.applied == "no"
    assert error.details == {"current": "9"}


@pytest.mark.parametrize(
    "status", [None, rich_status("elsewhere")], ids=["none", "another domain"]
)
def test_a_bare_status_says_nothing_about_the_outcome(status: bytes | None) -> None:
    error = error_from_rpc(FailedCall(grpc.StatusCode.UNAVAILABLE, status))
    assert type(error) is errors.OutcomeUnknown
    assert error.applied == "unknown"
    assert error.reason == "UNAVAILABLE"


def test_a_fresh_error_is_equal_but_another() -> None:
    error = errors.JobFinal("over", details={"state": "DONE"})
    again = error.fresh()
    assert again is not error
    assert type(again) is errors.JobFinal
    assert (again.message, again.reason, again.state) == ("over", "JOB_FINAL", "DONE")


def test_every_error_is_in_the_public_namespace_and_in_the_tree() -> None:
    kinds = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.RaftError)
    ]
    assert len(kinds) == 15
    assert errors.__doc__ is not None
    for kind in kinds:
        assert getattr(raftclient, kind.__name__) is kind
        assert kind.__name__ in errors.__doc__
