"""What a judge knows of one job and of one queue.

Source: SEMANTICS.md section 6 and its table of states.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from sortedcontainers import SortedSet

if TYPE_CHECKING:
    from tests.checkers.parts import Fields

__all__ = [
    "WAITING",
    "Group",
    "JobLife",
    "QueueState",
    "Span",
    "is_final",
    "retry_span",
]

_FINAL: Final = frozenset({"DONE", "DEAD", "CANCELLED", "EXPIRED"})
WAITING: Final = frozenset({"SCHEDULED", "READY", "BLOCKED"})

_DEFAULTS: Final[Fields] = {
    "depth_max": 1_000_000,
    "max_attempts": 20,
    "max_crashes": 5,
    "backoff": "EXPONENTIAL",
    "backoff_base_ms": 1000,
    "backoff_cap_ms": 3_600_000,
    "backoff_jitter": 25,
    "reservation_ms": 30_000,
    "grace_ms": 0,
    "concurrency_max": 0,
    "may_complete_late": False,
    "done_retention_ms": 3_600_000,
    "dead_retention_ms": 14 * 86_400_000,
}

Span = tuple[int, int]
"""Between which times, on the lease clock, something falls due."""


def is_final(state: str) -> bool:
    """Tell whether a job in this state has ended."""
    return state in _FINAL


@dataclasses.dataclass(slots=True)
class JobLife:
    """One job, after the entries so far.

    Attributes:
        spec: As enqueued.
        who: How a sentence calls the enqueue.
        op: The operation that enqueued it; 0 = not known.
        due: When a SCHEDULED job is due, on its clock; None = it is not.
        is_wall: ``due`` is wall time.
        token: Of the newest reservation in this life.
        holder: How a sentence calls the reserve.
        until_ms: When the reservation ends.
        ended_by: The call and token that ended it; empty = something else did.
        waits_for: Parents that have not ended.
        is_failed: A parent ended otherwise than DONE, so that it is cancelled.
    """

    id: int
    queue: str
    spec: Fields
    who: str
    op: int
    enqueued_ms: int
    state: str = ""
    due: Span | None = None
    is_wall: bool = False
    attempt: int = 0
    crashes: int = 0
    delivery: int = 0
    token: int = 0
    newest_token: int = 0
    holder: str = ""
    lease: int = 0
    since_ms: int = 0
    until_ms: int = 0
    reservation_ms: int = 0
    is_started: bool = False
    is_cancel_requested: bool = False
    has_deadline: bool = True
    ended_ms: int = 0
    ended_by: tuple[str, int] = ("", 0)
    waits_for: set[int] = dataclasses.field(default_factory=set)
    is_failed: bool = False

    @property
    def group(self) -> str:
        """Its group; empty = none."""
        return str(self.spec.get("group", ""))

    @property
    def order(self) -> tuple[int, int]:
        """Its place among the ready."""
        return self.spec.get("priority", 5), self.id

    @property
    def deadline_ms(self) -> int | None:
        """Until when it may wait."""
        span_ms = self.spec.get("deadline_ms")
        if span_ms is None or not self.has_deadline:
            return None
        return int(self.enqueued_ms + span_ms)

    def revive(self) -> None:
        """Begin another life."""
        self.attempt = self.crashes = self.delivery = self.token = 0
        self.is_started = self.is_cancel_requested = self.has_deadline = False
        self.is_failed = False
        self.ended_by = ("", 0)


@dataclasses.dataclass(slots=True)
class Group:
    """The members of a group that have not ended, by id."""

    limit: int = 1
    members: SortedSet = dataclasses.field(default_factory=SortedSet)


@dataclasses.dataclass(slots=True)
class QueueState:
    """One queue, after the entries so far.

    Attributes:
        ready: The ready jobs in the order of reserving.
        depth: Jobs that have not ended.
        enqueued: Jobs that it ever took in.
        completed: How often one of its jobs was done.
        redriven: A redrive was asked for, so that ended jobs may come back.
        purged: A purge or a deletion was asked for, so that jobs may go.
    """

    name: str
    options: Fields = dataclasses.field(default_factory=lambda: dict(_DEFAULTS))
    is_paused: bool = False
    ready: SortedSet = dataclasses.field(default_factory=SortedSet)
    depth: int = 0
    reserved: int = 0
    enqueued: int = 0
    completed: int = 0
    redriven: bool = False
    purged: bool = False
    groups: dict[str, Group] = dataclasses.field(default_factory=dict)


def retry_span(job: JobLife, options: Fields, failures: int) -> Span:
    """Return the least and the longest delay after so many failures."""
    settings: Fields = {**options, **job.spec}
    base_ms: int = settings["backoff_base_ms"]
    match settings["backoff"]:
        case "EXPONENTIAL":
            delay_ms = base_ms << min(failures - 1, 40)
        case "LINEAR":
            delay_ms = base_ms * failures
        case _:
            delay_ms = base_ms
    delay_ms = min(delay_ms, int(settings["backoff_cap_ms"]))
    jitter: int = settings["backoff_jitter"]
    return delay_ms - -(-delay_ms * jitter // 100), delay_ms
