"""The error table: complete, equal to the published one, the same at both doors."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2

from raftd.api.errors import DOMAIN, TABLE, applied_of, fill_refusal, to_status
from raftd.statemachine.schema.base import Applied, Reason, Refusal
from raftpb.v1 import common_pb2

# The rows as users read them: reasons, status, what was applied.
PUBLISHED = """
INVALID_NAME INVALID_REQUEST TOO_LARGE NUMBER_REUSED | INVALID_ARGUMENT | no
NOT_FOUND | NOT_FOUND | no
PRECONDITION | FAILED_PRECONDITION | no
LOCK_HELD | FAILED_PRECONDITION | no
FENCED NOT_HOLDER LEASE_EXPIRED SESSION_EXPIRED | FAILED_PRECONDITION | no
RESERVATION_EXPIRED RESERVATION_LOST | FAILED_PRECONDITION | no
JOB_FINAL | FAILED_PRECONDITION | no
NOT_LEADER NO_LEADER SHUTTING_DOWN OVERLOADED | UNAVAILABLE | no
SESSION_UNKNOWN | FAILED_PRECONDITION | unknown
LEADERSHIP_LOST | UNAVAILABLE | unknown
DEADLINE | DEADLINE_EXCEEDED | unknown
STALE_NUMBER | FAILED_PRECONDITION | unknown
UNAUTHENTICATED | UNAUTHENTICATED | no
DENIED | PERMISSION_DENIED | no
COMPACTED | OUT_OF_RANGE | no
QUOTA QUEUE_FULL TOO_MANY DISK_FULL | RESOURCE_EXHAUSTED | no
CORRUPT DIVERGED | DATA_LOSS | no
INTERNAL | INTERNAL | unknown
"""


def published() -> dict[str, tuple[str, str]]:
    rows = {}
    for line in PUBLISHED.strip().splitlines():
        reasons, code, applied = (cell.strip() for cell in line.split("|"))
        rows.update(dict.fromkeys(reasons.split(), (code, applied)))
    return rows


def test_the_table_is_the_published_one_and_every_reason_has_a_row() -> None:
    found = {
        reason.value: (row.code.name, row.applied.value)
        for reason, row in TABLE.items()
    }
    assert found == published()
    assert set(TABLE) == set(Reason)


@pytest.mark.parametrize("reason", list(Reason))
def test_both_doors_say_the_same_of_a_refusal(reason: Reason) -> None:
    refusal = Refusal(reason, "this is why", {"limit": "7"})
    status = to_status(refusal)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    message = common_pb2.Refusal()
    fill_refusal(message, refusal)
    assert (info.domain, info.reason) == (DOMAIN, message.reason)
    assert status.message == message.message == "this is why"
    assert status.code == message.code == TABLE[reason].code.value[0]
    assert info.metadata["applied"] == message.applied == TABLE[reason].applied.value
    assert info.metadata["limit"] == message.details["limit"] == "7"
    assert "applied" not in message.details


@pytest.mark.parametrize("reason", [Reason.DEADLINE, Reason.LEADERSHIP_LOST])
def test_the_node_may_know_that_nothing_was_proposed(reason: Reason) -> None:
    refusal = Refusal(reason, "too late", {"applied": "no"})
    assert applied_of(refusal) is Applied.NO
    assert applied_of(Refusal(reason, "too late")) is Applied.UNKNOWN


def test_no_other_reason_lets_details_overrule_the_table() -> None:
    refusal = Refusal(Reason.FENCED, "not yours", {"applied": "yes"})
    assert applied_of(refusal) is Applied.NO


def test_only_codes_that_grpc_never_makes_of_a_lost_call_say_no() -> None:
    codes = {row.code for row in TABLE.values() if row.applied is Applied.NO}
    assert grpc.StatusCode.UNKNOWN not in codes
    assert grpc.StatusCode.CANCELLED not in codes
    assert grpc.StatusCode.DEADLINE_EXCEEDED not in codes
