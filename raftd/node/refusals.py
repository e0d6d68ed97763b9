"""The node's own refusals: those that no state decides."""

from __future__ import annotations

from typing import Final

from raftd.statemachine.schema.base import Reason, Refusal

__all__ = [
    "DEADLINE_NOT_PROPOSED",
    "DEADLINE_UNKNOWN",
    "DISK_FULL",
    "DIVERGED",
    "HANDING_OVER",
    "LEADERSHIP_LOST",
    "NOT_APPLIED",
    "NO_LEADER",
    "OVERLOADED",
    "SHUTTING_DOWN",
    "UNREADABLE",
    "behind_for_lack_of_room",
    "handed_over",
    "not_leader",
]

OVERLOADED: Final = Refusal(
    Reason.OVERLOADED,
    "too many requests are waiting on this member; try again later",
    {"retry_after_ms": "100"},
)

NO_LEADER: Final = Refusal(Reason.NO_LEADER, "no member leads at the moment; try again")

NOT_APPLIED: Final = Refusal(
    Reason.NOT_LEADER,
    "the leader changed before the request was agreed; it was not applied",
)

DIVERGED: Final = Refusal(
    Reason.DIVERGED,
    "the members' states differ and no majority agrees: writes are refused until an"
    " operator has compared them",
)

DISK_FULL: Final = Refusal(
    Reason.DISK_FULL,
    "the disk of the leading member is full: writes are refused until there is room"
    " again; reads go on",
    {"applied": "no"},
)

HANDING_OVER: Final = Refusal(
    Reason.NOT_LEADER,
    "leadership is being handed over; try again",
    {"applied": "no"},
)

SHUTTING_DOWN: Final = Refusal(
    Reason.SHUTTING_DOWN, "this member is stopping; use another"
)

LEADERSHIP_LOST: Final = Refusal(
    Reason.LEADERSHIP_LOST,
    "the leader was lost before it answered; the request may have been applied",
    {"applied": "unknown"},
)

DEADLINE_NOT_PROPOSED: Final = Refusal(
    Reason.DEADLINE,
    "the deadline passed before the request could be proposed; nothing happened",
    {"applied": "no"},
)

DEADLINE_UNKNOWN: Final = Refusal(
    Reason.DEADLINE,
    "the deadline passed before the answer came; the request may have been applied",
    {"applied": "unknown"},
)


UNREADABLE: Final = Refusal(
    Reason.PRECONDITION,
    "the leading member's release does not know this request; it was not applied: try"
    " again when all members run one release",
    {"applied": "no"},
)


def not_leader(leader: int | None) -> Refusal:
    """Say who leads, if anybody."""
    if not leader:
        return NO_LEADER
    return Refusal(
        Reason.NOT_LEADER,
        f"this member does not lead; member {leader} does",
        {"leader": str(leader)},
    )


def handed_over(to: int) -> Refusal:
    """Say who is about to lead."""
    return Refusal(
        Reason.NOT_LEADER,
        f"this member does not lead any more; it hands over to member {to}",
        {"leader": str(to)},
    )


def behind_for_lack_of_room(leader: int | None) -> Refusal:
    """Say that a member with a full disk cannot answer a read."""
    return Refusal(
        Reason.NOT_LEADER if leader else Reason.NO_LEADER,
        "this member's disk is full, so it has not the newest state; ask another",
        {"leader": str(leader)} if leader else {},
    )
