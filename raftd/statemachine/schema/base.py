"""What every command and result in the log is made of.

Rules: structs are msgpack arrays with an integer tag in front; a tag, once
released, keeps its fields for ever (a changed command is a new tag; the golden
file in ``tests/golden`` holds them). Unknown tags and surplus fields are
errors, never skipped. Tags go in blocks per primitive: sessions 10, leases 20,
keys 30, transactions 40, locks 50, elections 60, queues 70 to 99, the log's own
housekeeping 1 to 9; a result has the tag of its command.

Source: DESIGN.md section 5; docs/adr/0004.
"""

from __future__ import annotations

import enum
from typing import NewType

import msgspec

__all__ = [
    "Applied",
    "Command",
    "Fence",
    "FenceKind",
    "LeaseId",
    "Millis",
    "Reason",
    "Refusal",
    "Result",
    "Revision",
]

Revision = NewType("Revision", int)
"""The state's counter; ids and tokens are drawn from the same line."""

Millis = NewType("Millis", int)
"""A span or an instant on the lease clock, in milliseconds."""

LeaseId = NewType("LeaseId", int)
"""A lease or a session (a session is a lease with numbered writes)."""


class Command(
    msgspec.Struct,
    frozen=True,
    array_like=True,
    gc=False,
    forbid_unknown_fields=True,
    tag_field="tag",
):
    """A typed intent, as it stands in the log."""


class Result(
    msgspec.Struct,
    frozen=True,
    array_like=True,
    gc=False,
    forbid_unknown_fields=True,
    tag_field="tag",
):
    """What a command answers; a session's window keeps it, without payloads."""

    def kept(self) -> Result:
        """Return what a reply window stores: ids and tokens, no payloads."""
        return self


class Applied(enum.StrEnum):
    """Whether a refused request changed anything."""

    NO = "no"
    YES = "yes"
    UNKNOWN = "unknown"


class Reason(enum.StrEnum):
    """Why a request was refused; the rows of the error table."""

    INVALID_NAME = "INVALID_NAME"
    INVALID_REQUEST = "INVALID_REQUEST"
    TOO_LARGE = "TOO_LARGE"
    NUMBER_REUSED = "NUMBER_REUSED"
    NOT_FOUND = "NOT_FOUND"
    PRECONDITION = "PRECONDITION"
    LOCK_HELD = "LOCK_HELD"
    FENCED = "FENCED"
    NOT_HOLDER = "NOT_HOLDER"
    LEASE_EXPIRED = "LEASE_EXPIRED"
    SESSION_EXPIRED = "SESSION_EXPIRED"
    RESERVATION_EXPIRED = "RESERVATION_EXPIRED"
    RESERVATION_LOST = "RESERVATION_LOST"
    JOB_FINAL = "JOB_FINAL"
    NOT_LEADER = "NOT_LEADER"
    NO_LEADER = "NO_LEADER"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    OVERLOADED = "OVERLOADED"
    SESSION_UNKNOWN = "SESSION_UNKNOWN"
    LEADERSHIP_LOST = "LEADERSHIP_LOST"
    DEADLINE = "DEADLINE"
    STALE_NUMBER = "STALE_NUMBER"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    DENIED = "DENIED"
    COMPACTED = "COMPACTED"
    QUOTA = "QUOTA"
    QUEUE_FULL = "QUEUE_FULL"
    TOO_MANY = "TOO_MANY"
    DISK_FULL = "DISK_FULL"
    CORRUPT = "CORRUPT"
    DIVERGED = "DIVERGED"
    INTERNAL = "INTERNAL"


class Refusal(
    msgspec.Struct, frozen=True, array_like=True, gc=False, tag=1, tag_field="tag"
):
    """An expected "no": a value, never an exception.

    Attributes:
        reason: The row of the error table.
        sentence: One sentence for a person, without a final stop.
        details: What helps a program: limit, size, token, state, op ...
    """

    reason: Reason
    sentence: str
    details: dict[str, str] = {}


class FenceKind(enum.IntEnum):
    """What a fencing token belongs to."""

    LOCK = 1
    ELECTION = 2
    RESERVATION = 3
    LEASE = 4


class Fence(
    msgspec.Struct,
    frozen=True,
    array_like=True,
    gc=False,
    forbid_unknown_fields=True,
):
    """A condition any write may carry: "only while this claim is mine".

    Attributes:
        kind: What is claimed.
        name: Lock or election name; empty for a reservation or a lease.
        token: Lock token, election epoch, reservation token or lease id.
        job: Job id of a reservation, else 0.
    """

    kind: FenceKind
    name: str
    token: int
    job: int = 0
