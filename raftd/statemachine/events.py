"""What happened, as the history tells it to watches: a closed union.

A key's event *is* its version record (``KeyValue``, version 0 for a deletion): a put
allocates nothing for its watchers. The previous record of a key is found through its
version chain (``Kv.previous``).

Rules: every event carries the revision of its command; the events of one revision are
never split. Event tags are stored in history rows: a released tag keeps its fields.

Source: DESIGN.md section 5; SEMANTICS.md section 2.
"""

import enum

import msgspec

from raftd.statemachine.schema.jobs import JobState
from raftd.statemachine.schema.kv import KeyValue

__all__ = [
    "ElectionEvent",
    "Event",
    "HistoryRecord",
    "JobEvent",
    "LockLost",
    "LossReason",
    "revision_of",
]


class LossReason(enum.IntEnum):
    """Why a claim ended against its holder's will."""

    EXPIRED = 1
    REVOKED = 2
    CLOSED = 3
    BROKEN = 4


class ElectionEvent(
    msgspec.Struct, frozen=True, array_like=True, gc=False, tag=2, tag_field="tag"
):
    """An election has another leader, value, or nobody.

    Attributes:
        claimant: The leader; empty = nobody.
        epoch: Its epoch; 0 = nobody.
    """

    rev: int
    name: str
    claimant: str
    value: bytes
    epoch: int


class JobEvent(
    msgspec.Struct, frozen=True, array_like=True, gc=False, tag=3, tag_field="tag"
):
    """A job changed its state.

    Attributes:
        state: None = the job is gone (retention, purge).
        previous: None = the job is new.
    """

    rev: int
    queue: str
    job: int
    state: JobState | None
    previous: JobState | None


class LockLost(
    msgspec.Struct, frozen=True, array_like=True, gc=False, tag=4, tag_field="tag"
):
    """A holder lost its lock against its will (a release is no event)."""

    rev: int
    name: str
    claimant: str
    token: int
    reason: LossReason


Event = KeyValue | ElectionEvent | JobEvent | LockLost


def revision_of(event: Event) -> int:
    """Return the revision of an event's command."""
    return event.mod_rev if isinstance(event, KeyValue) else event.rev


class HistoryRecord(msgspec.Struct, frozen=True, gc=False):
    """The events of one entry, in the order of their revisions.

    Attributes:
        first_rev: The first revision drawn by the entry.
        last_rev: The last revision or token drawn by it.
        now_ms: The entry's lease clock.
        size_bytes: What the record counts against ``history_bytes_max``.
    """

    first_rev: int
    last_rev: int
    now_ms: int
    size_bytes: int
    events: list[Event]
