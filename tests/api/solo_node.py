"""A node of one, in this process: a real machine behind the Protocol of the doors.

There is no log and no disk: what arrives within one turn of the loop is applied as one
entry, in order. The lease clock moves when a test says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

import msgspec

from raftd.node.future_sink import FutureSink
from raftd.node.service import (
    Answered,
    AnswerSink,
    Header,
    MemberChange,
    MemberInfo,
    MemberState,
    ReadAnswer,
    StreamSink,
    WatchSpec,
    WatchStream,
    WriteCall,
)
from raftd.node.watches import Watches
from raftd.node.writes import hash_key
from raftd.statemachine.answers import AppliedEntry, Marked, Pending
from raftd.statemachine.limits import DEFAULT_LIMITS, Limits
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.entry import encode_batch, seal
from raftd.statemachine.schema.jobs import JobsReserved

__all__ = ["CLUSTER_ID", "SoloNode", "hash_key"]

CLUSTER_ID = b"c" * 16
T = TypeVar("T")
_Waiting = tuple[AnswerSink, int]
_Offered = tuple[msgspec.Raw, AnswerSink, int, WriteCall]


class SoloNode:
    """Leads itself, until a test says otherwise.

    Attributes:
        refusing: What every write, read and stream is refused with, if set.
        writes: Every write that came in.
        changes: Every change of members, and every hand-over, that came in.
        changed: What a change of members is answered with.
        file: The pieces of a backup.
        is_stopped: Nothing is applied; requests stay in flight.
    """

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self.machine = Machine(limits)
        self.node_id = 1
        self.leader = 1
        self.members: tuple[MemberInfo, ...] = (
            MemberInfo(1, "n1", "h1:7401", "h1:7400"),
            MemberInfo(2, "n2", "h2:7401", "h2:7400"),
        )
        self.refusing: Refusal | None = None
        self.is_stopped = False
        self.writes: list[WriteCall] = []
        self.changes: list[MemberChange | int | None] = []
        self.changed = MemberInfo(3, "n3", "h3:7401", "", "learner", is_joining=True)
        self.file = [b"one", b"two"]
        self.timeouts: list[float | None] = []
        self.streams: dict[int, StreamSink] = {}
        self.detached: list[int] = []
        self.is_detached = asyncio.Event()
        self.watches = Watches(self.machine)
        self._now_ms = 1000
        self._queue: list[_Offered] = []
        self._renewals: list[int] = []
        self._renewed: list[Callable[[tuple[int, ...]], None]] = []
        self._reads: list[tuple[Callable[[Machine], Any], AnswerSink, int]] = []
        self._waiting: dict[int, list[_Waiting]] = {}
        self._parked: list[_Offered] = []
        self._is_turn_due = False
        self._came_in = asyncio.Event()
        self._watch_closed = asyncio.Event()
        self._deadline: asyncio.Timeout | None = None

    def give_up(self) -> None:
        """Have the deadline of the newest unary write pass."""
        assert self._deadline is not None, "a write is under way"
        self._deadline.reschedule(asyncio.get_running_loop().time())

    async def has_writes(self, count: int) -> None:
        """Wait until so many writes have come in."""
        while len(self.writes) < count:
            self._came_in.clear()
            await self._came_in.wait()

    async def has_no_watches(self) -> None:
        """Wait until the last watch is closed."""
        while len(self.watches):
            await self._watch_closed.wait()
            self._watch_closed.clear()

    def header(self) -> Header:
        return Header(self.machine.revision, 7, self.leader, CLUSTER_ID, self.node_id)

    def have_members(self, *members: MemberInfo) -> None:
        """Let these be the members, and tell all streams."""
        self.members = members
        for sink in self.streams.values():
            sink.members_changed()

    def drop_queued(self) -> None:
        """Forget what was not applied yet."""
        self._queue.clear()

    def advance(self, by_ms: int) -> None:
        """Move the lease clock, and apply what is due."""
        self._now_ms += by_ms
        self.turn()

    # --- unary ---------------------------------------------------------------------

    async def write(self, call: WriteCall, timeout_s: float | None) -> Answered:
        self.timeouts.append(timeout_s)
        refusal = self.refusing or self._check_key(call.session, call.session_key)
        if refusal is not None:
            return Answered(refusal, self.machine.revision)
        sink = FutureSink()
        self.submit(call, sink, 0)
        try:
            async with asyncio.timeout(timeout_s) as self._deadline:
                return await sink.future
        except TimeoutError:
            refusal = Refusal(
                Reason.DEADLINE, "the deadline passed", {"applied": "unknown"}
            )
            return Answered(refusal, self.machine.revision)

    async def keep_alive(self, lease: int, session_key: bytes) -> int | Refusal:
        if self.machine.sessions.key_hash(lease) is not None:
            denied = self._check_key(lease, session_key)
            if denied is not None:
                return denied
        refusal = self.machine.leases.require(lease)
        if refusal is not None:
            return refusal
        self._renewals.append(lease)
        self.turn()
        return self.machine.leases.ttl_ms(lease)

    async def read(
        self,
        query: Callable[[Machine], T],
        *,
        is_stale: bool = False,
        min_revision: int = 0,
        timeout_s: float | None = None,
    ) -> ReadAnswer:
        self.turn()
        if self.refusing is not None and not is_stale:
            return ReadAnswer(self.refusing, self.machine.revision, 0)
        assert min_revision <= self.machine.revision
        value = query(self.machine)
        return ReadAnswer(value, self.machine.revision, 5 if is_stale else 0)

    def watch(self, spec: WatchSpec) -> WatchStream | Refusal:
        if self.refusing is not None:
            return self.refusing
        return _Closing(self.watches.open(spec), self._watch_closed)

    async def status(self, *, is_for_all: bool) -> Sequence[MemberState]:
        states = [
            MemberState(info=info, role="leader" if info.node_id == 1 else "", term=7)
            for info in self.members
        ]
        return states if is_for_all else states[:1]

    # --- the cluster ---------------------------------------------------------------

    async def change_members(
        self, change: MemberChange, timeout_s: float
    ) -> MemberInfo | Refusal:
        self.changes.append(change)
        self.timeouts.append(timeout_s)
        return self.refusing or self.changed

    async def transfer_leadership(
        self, to: int | None, timeout_s: float
    ) -> int | Refusal:
        self.changes.append(to)
        if self.refusing is not None:
            return self.refusing
        self.leader = to or 2
        return self.leader

    async def backup(self, timeout_s: float | None) -> AsyncIterator[bytes] | Refusal:
        self.timeouts.append(timeout_s)
        return self.refusing or self._pieces()

    async def _pieces(self) -> AsyncIterator[bytes]:
        for piece in self.file:
            yield piece

    # --- streams -------------------------------------------------------------------

    def attach(
        self, session: int, session_key: bytes, sink: StreamSink
    ) -> Refusal | None:
        refusal = self.refusing or self._check_key(session, session_key)
        if session and refusal is None:
            refusal = self.machine.leases.require(session)
        if refusal is None:
            self.streams[session] = sink
        return refusal

    def detach(self, session: int, sink: StreamSink) -> None:
        self.detached.append(session)
        self.is_detached.set()
        self._parked = [each for each in self._parked if each[1] is not sink]

    def submit(self, call: WriteCall, sink: AnswerSink, tag: int) -> None:
        self.writes.append(call)
        self._came_in.set()
        sealed = seal(
            call.session, call.number, call.acknowledged, call.command, call.fences
        )
        self._queue.append((sealed, sink, tag, call))
        self._wake()

    def renew(
        self,
        session: int,
        leases: Sequence[int],
        done: Callable[[bool, Sequence[int]], None],
    ) -> None:
        self._renewals.extend((session, *leases))
        self._renewed.append(
            lambda lost: done(session not in lost, [x for x in leases if x in lost])
        )
        self._wake()

    def read_soon(
        self, query: Callable[[Machine], Any], sink: AnswerSink, tag: int
    ) -> None:
        self._reads.append((query, sink, tag))
        self._wake()

    # --- the driver ----------------------------------------------------------------

    def _check_key(self, session: int, key: bytes) -> Refusal | None:
        if not session:
            return None
        known = self.machine.sessions.key_hash(session)
        if known is None:
            return Refusal(Reason.SESSION_UNKNOWN, f"session {session} is unknown here")
        if known != hash_key(key):
            return Refusal(Reason.DENIED, f"not the key of session {session}")
        return None

    def _wake(self) -> None:
        if not self._is_turn_due:
            self._is_turn_due = True
            asyncio.get_running_loop().call_soon(self.turn)

    def turn(self) -> None:
        """Apply one entry with all that has arrived, and answer."""
        self._is_turn_due = False
        if self.is_stopped:
            return
        offered, self._queue = self._queue, []
        renewals, self._renewals = self._renewals, []
        payload = encode_batch(
            self._now_ms, 0, tuple(renewals), [each[0] for each in offered]
        )
        entry = self.machine.apply(self.machine.applied_index + 1, payload)
        sinks: dict[int, AnswerSink] = {}
        self._answer(offered, entry, sinks)
        renewed, self._renewed = self._renewed, []
        for done in renewed:
            done(entry.lost)
        reads, self._reads = self._reads, []
        for query, sink, tag in reads:
            sink.answer(tag, Answered(query(self.machine), self.machine.revision))
            sinks[id(sink)] = sink
        for sink in sinks.values():
            sink.flush()
        if entry.record is not None:
            self.watches.publish(entry.record)
            self._ask_again()

    def _answer(
        self, offered: list[_Offered], entry: AppliedEntry, sinks: dict[int, AnswerSink]
    ) -> None:
        for each, answer, revision in zip(
            offered, entry.answers, entry.revisions, strict=True
        ):
            _, sink, tag, call = each
            if isinstance(answer, Pending):
                self._waiting.setdefault(answer.ticket, []).append((sink, tag))
            elif answer == JobsReserved() and call.wait_ms != 0:
                self._parked.append(each)
            else:
                assert not isinstance(answer, Marked)
                sink.answer(tag, Answered(answer, revision))
                sinks[id(sink)] = sink
        for decision in entry.decided:
            for sink, tag in self._waiting.pop(decision.ticket, []):
                sink.answer(tag, Answered(decision.answer, self.machine.revision))
                sinks[id(sink)] = sink

    def _ask_again(self) -> None:
        """Offer the waiting reserves once more: something has changed."""
        if self._parked:
            self._queue.extend(self._parked)
            self._parked.clear()
            self._wake()


class _Closing:
    """A watch that tells when it is closed."""

    def __init__(self, watch: WatchStream, closed: asyncio.Event) -> None:
        self._watch = watch
        self._closed = closed
        self.next = watch.next

    def close(self) -> None:
        self._watch.close()
        self._closed.set()
