"""What a node offers to its doors (gRPC, session streams), and in which words.

Rules: the doors translate and refuse, the node decides; a business "no" comes back as
a ``Refusal`` value, never as an exception. Callbacks run on the node's loop, in the
order of the log, and must not block.

Source: DESIGN.md sections 3 and 7.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from raftd.node.member_words import (
    AddMember,
    MemberChange,
    MemberInfo,
    MemberState,
    RemoveMember,
    ReplaceMember,
    UpdateMember,
)
from raftd.node.watch_index import About
from raftd.statemachine.events import Event
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Fence, Refusal, Result
from raftd.statemachine.schema.entry import AnyCommand

__all__ = [
    "AddMember",
    "AnswerSink",
    "Answered",
    "Header",
    "MemberChange",
    "MemberInfo",
    "MemberState",
    "NodeService",
    "ReadAnswer",
    "RemoveMember",
    "ReplaceMember",
    "StreamSink",
    "UpdateMember",
    "WatchBatch",
    "WatchKind",
    "WatchSpec",
    "WatchStream",
    "WriteCall",
]

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """Where an answer comes from."""

    revision: int
    raft_term: int
    leader: int
    cluster_id: bytes
    node_id: int


class WriteCall(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One write with what binds it to its sender.

    Attributes:
        session: 0 = not in a session.
        session_key: As the client gave it; checked on the leader.
        number: 0 = not numbered.
        acknowledged: The client has all answers up to this number.
        wait_ms: For a reserve: how long it may wait for a job; None = for ever.
    """

    command: AnyCommand
    session: int = 0
    session_key: bytes = b""
    number: int = 0
    acknowledged: int = 0
    fences: tuple[Fence, ...] = ()
    wait_ms: int | None = 0


class Answered(msgspec.Struct, frozen=True, gc=False):
    """The end of a write: its result or refusal, and the revision after it."""

    answer: Result | Refusal
    revision: int


@dataclasses.dataclass(frozen=True, slots=True)
class ReadAnswer:
    """The answer of a query.

    Attributes:
        value: What the query returned, or why it was not run.
        revision: Of the state it saw.
        age_ms: Of a stale read: time since the leader was heard; else 0.
    """

    value: Any
    revision: int
    age_ms: int


class WatchKind(enum.Enum):
    """What a batch of a watch is; the kinds of WatchKeysResponse."""

    EVENTS = "events"
    INITIAL = "initial"
    SYNCED = "synced"
    PROGRESS = "progress"
    RESYNC = "resync"


@dataclasses.dataclass(frozen=True, slots=True)
class WatchBatch:
    """One message of a watch; all up to ``revision`` has been delivered.

    Attributes:
        items: Events (EVENTS), or what ``WatchSpec.snapshot`` returned (INITIAL).
    """

    kind: WatchKind
    revision: int
    items: Sequence[Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WatchSpec:
    """What is watched.

    Attributes:
        keep: Which events; called once per event, must be cheap.
        about: The one subject of all events that ``keep`` wants; None if there is
            none, and then the watch is asked about everything that happens.
        from_rev: First revision wanted; 0 = from now on.
        wants_initial: Begin with ``snapshot``.
        snapshot: Lists the present state, for ``wants_initial`` and after a RESYNC.
        prepare: Turns a kept event into an item, at once (what it needs of the
            machine may be compacted later); identity if None.
    """

    keep: Callable[[Event], bool]
    about: About | None = None
    from_rev: int = 0
    wants_initial: bool = False
    snapshot: Callable[[Machine], Sequence[Any]]
    prepare: Callable[[Machine, Event], Any] | None = None


class WatchStream(Protocol):
    """A running watch; ordered, complete, never a revision split or repeated."""

    async def next(self) -> WatchBatch:
        """Wait for the next batch; PROGRESS at least every second when idle."""

    def close(self) -> None:
        """End it; may be called twice."""


class AnswerSink(Protocol):
    """Where the answers of a session stream go."""

    def answer(self, tag: int, answered: Answered) -> None:
        """Take one answer; called many times, then ``flush`` once."""

    def flush(self) -> None:
        """A batch of answers is complete: send it."""

    def close(self, refusal: Refusal) -> None:
        """The node can serve this stream no longer (leader lost, session over)."""


class StreamSink(AnswerSink, Protocol):
    """The way back of a whole stream, which also hears what concerns its client."""

    def members_changed(self) -> None:
        """A member came, went or moved: ``NodeService.members`` says who is where."""


class NodeService(Protocol):
    """A node, as its doors see it."""

    @property
    def node_id(self) -> int:
        """This member."""

    @property
    def members(self) -> Sequence[MemberInfo]:
        """All members as this one knows them, by id."""

    @property
    def machine(self) -> Machine:
        """This member's state, for stream handlers on the node's loop."""

    def header(self) -> Header:
        """Say where an answer made now comes from."""

    async def write(self, call: WriteCall, timeout_s: float | None) -> Answered:
        """Carry out one write, here or through the leader; waits as long as it waits.

        At the deadline a DEADLINE refusal whose details say ``applied`` = "no" (never
        proposed) or "unknown".
        """

    async def keep_alive(self, lease: int, session_key: bytes) -> int | Refusal:
        """Renew a lease or session; returns its ttl in milliseconds, or a refusal."""

    async def read(
        self,
        query: Callable[[Machine], T],
        *,
        is_stale: bool = False,
        min_revision: int = 0,
        timeout_s: float | None = None,
    ) -> ReadAnswer:
        """Run a query on this member's state, linearizable unless stale."""

    def watch(self, spec: WatchSpec) -> WatchStream | Refusal:
        """Begin a watch on this member's state."""

    async def status(self, *, is_for_all: bool) -> Sequence[MemberState]:
        """Say how this member, or each member, does."""

    # --- the cluster --------------------------------------------------------------

    async def change_members(
        self, change: MemberChange, timeout_s: float
    ) -> MemberInfo | Refusal:
        """Change the members, here or through the leader.

        Returns when the change is in effect (of a replacement: when the new member is a
        learner): the member that was added, changed or removed, or why not.
        """

    async def transfer_leadership(
        self, to: int | None, timeout_s: float
    ) -> int | Refusal:
        """Hand leadership to a voter (None: the best), and wait until it leads."""

    async def backup(self, timeout_s: float | None) -> AsyncIterator[bytes] | Refusal:
        """Make a backup file of the whole state, piece by piece."""

    # --- session streams (only on the leader; see api/stream.py) -----------------

    def attach(
        self, session: int, session_key: bytes, sink: StreamSink
    ) -> Refusal | None:
        """Bind a sink to a live session; an older stream of the session is closed."""

    def detach(self, session: int, sink: StreamSink) -> None:
        """Unbind it; answers that come later stay in the window."""

    def submit(self, call: WriteCall, sink: AnswerSink, tag: int) -> None:
        """Queue a write of a stream; its answer comes to the sink."""

    def renew(
        self,
        session: int,
        leases: Sequence[int],
        done: Callable[[bool, Sequence[int]], None],
    ) -> None:
        """Renew a session and leases; ``done(counts, lost leases)`` when it counts."""

    def read_soon(
        self, query: Callable[[Machine], Any], sink: AnswerSink, tag: int
    ) -> None:
        """Queue a linearizable read of a stream; batched with the others."""
