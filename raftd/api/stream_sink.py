"""The way back of one session stream: answers gathered, and taken by what carries it.

The node calls ``answer`` many times and ``flush`` once per batch; watches and renewals
come in beside. All that is ready when it is taken goes in one message, up to a cap; so
a busy stream costs one write per batch and no task, future or lock per request.

Rules:
* A tag in ``pending`` is answered once; it is free again with its answer.
* After a write was refused for lack of room or of a leader, all later numbers are
  refused alike, until the client comes again with a new stream: order is kept.
* What the client does not take is bounded. Watches wait in time; if answers pile up
  all the same, the stream ends and its session lives on.

Source: SEMANTICS.md section 1 (numbers); DESIGN.md section 7.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from raftd.api.calls import Read, Write
from raftd.api.carriers import MessageWriter
from raftd.api.errors import fill_refusal, internal
from raftd.api.headers import fill_header
from raftd.api.limits import DoorLimits
from raftd.node.service import Answered, NodeService
from raftd.statemachine.schema.base import Reason, Refusal
from raftpb.v1 import sessions_pb2

__all__ = ["ReplySink"]

_SMALL_BYTES: Final = 64
"""About what a reply of ids and tokens takes."""

_HOLDS_BACK: Final = frozenset(
    {Reason.NOT_LEADER, Reason.NO_LEADER, Reason.SHUTTING_DOWN, Reason.OVERLOADED}
)
_WINDOW: Final = "window_"
"""How the names of the limits begin that leave no trace of a number."""

_Message = sessions_pb2.StreamSessionResponse


class ReplySink:
    """Collects what goes to one client; implements ``AnswerSink``.

    Args:
        node: Says where answers come from.
        limits: Bound messages and what may wait.
        on_end: Called once, when the sink takes no more.
    """

    def __init__(
        self, node: NodeService, limits: DoorLimits, on_end: Callable[[], None]
    ) -> None:
        self.pending: Final[dict[int, Write | Read]] = {}
        self.hold_back: Refusal | None = None
        """Set when all later numbers must be refused."""
        self._node: Final = node
        self._machine: Final = node.machine  # a leader never takes in another state
        self._limits: Final = limits
        self._replies_max: Final = limits.replies_max
        self._replies_bytes_max: Final = limits.replies_bytes_max
        self._on_end: Final = on_end
        self._is_open = True
        self._is_last_request_in = False
        self.on_ready: Callable[[], None] = _nothing
        """Called when ``next_message`` has something to return."""
        self.ended: Final = asyncio.Event()
        """Set when the last message was taken."""
        self._room: Final = asyncio.Event()
        self._room.set()
        self._full: Final[deque[tuple[_Message, int]]] = deque()
        self._full_bytes = 0
        self._end: sessions_pb2.StreamEnd | None = None
        self.watches: Final[dict[int, asyncio.Task[None]]] = {}
        self._open_message()

    @property
    def is_over(self) -> bool:
        """Whether it takes no more; what it has may still have to be taken."""
        return not self._is_open

    # --- in: the node ----------------------------------------------------------------

    def answer(self, tag: int, answered: Answered) -> None:
        """Take one answer: of a write its result, of a read what its query returned."""
        call = self.pending.pop(tag, None)
        if call is None or not self._is_open:
            return
        result: Any = answered.answer
        reply = self._next_reply()
        reply.tag = tag
        reply.revision = answered.revision
        if type(result) is Refusal:
            self._refuse(call, reply, result)
        elif type(call) is Write:
            # As ``fill_guarded``, without its call: this runs once per write.
            try:
                refusal = call.fill(getattr(reply, call.field), result, self._machine)
            except Exception as error:  # told to the caller and the log
                refusal = internal(call.field, error)
            if refusal is not None:
                fill_refusal(reply.refusal, refusal)
            is_large = call.is_large
            if is_large is not None and is_large(result):
                self._bytes += reply.ByteSize()
        else:
            getattr(reply, call.field).CopyFrom(result)
            self._bytes += reply.ByteSize()

    def flush(self) -> None:
        """Tell what carries the stream if there is something: a batch is complete."""
        if self._count or self._has_news:
            self.on_ready()
        if self._is_last_request_in:
            self._end_if_idle()

    def close(self, refusal: Refusal) -> None:
        """End the stream with its reason; the session lives on."""
        end = sessions_pb2.StreamEnd()
        fill_refusal(end.refusal, refusal)
        named = refusal.details.get("leader", "0")
        leader = self._node.header().leader or int(named)
        end.leader = leader
        for member in self._node.members:
            if member.node_id == leader:
                end.leader_address = member.client_address
        self._finish(end)

    # --- in: the stream --------------------------------------------------------------

    def welcome(self, ttl_ms: int, number_max: int) -> None:
        """Answer a hello."""
        welcome = self._message.welcome
        welcome.node_id = self._node.node_id
        welcome.ttl_ms = ttl_ms
        welcome.number_max = number_max
        self._fill_members(welcome)
        self._has_news = True
        self.flush()

    def members_changed(self) -> None:
        """Tell the client who the members are, once, however many changes there were.

        The list is made when the message is complete, so that it is the newest.
        """
        if not self._is_open:
            return
        self._has_news = self._are_members_due = True
        self.flush()

    def refuse(self, tag: int, refusal: Refusal) -> None:
        """Refuse a request that never came to the node."""
        if not self._is_open:
            return
        reply = self._next_reply()
        reply.tag = tag
        reply.revision = self._machine.revision
        fill_refusal(reply.refusal, refusal)
        self._bytes += reply.ByteSize()

    async def push(self, tag: int, field: str, revision: int, message: Message) -> None:
        """Take one message of a watch, when there is room for it."""
        # Woken together, all but the first may find the room taken again.
        while not self._room.is_set():
            await self._room.wait()
        if not self._is_open:
            return
        reply = self._next_reply()
        reply.tag = tag
        reply.revision = revision
        getattr(reply, field).CopyFrom(message)
        self._bytes += reply.ByteSize()
        if self._full_bytes + self._bytes > self._limits.stream_watch_bytes_max:
            self._room.clear()
        self.flush()

    def renewed(self, keepalive_id: int, lost: Sequence[int]) -> None:
        """Take a renewal that counts."""
        if not self._is_open:
            return
        message = self._message
        message.keepalive_id = max(message.keepalive_id, keepalive_id)
        message.lost_leases.extend(lost)
        self._has_news = True
        self.flush()

    def last_request_in(self) -> None:
        """End as soon as nothing is pending: the client will ask no more.

        Through gRPC alone; who closes its half of a plain stream ends it.
        """
        self._is_last_request_in = True
        self._end_if_idle()

    # --- out -------------------------------------------------------------------------

    def next_message(self) -> bytes | None:
        """Return all that is ready as one message, up to a cap; the end comes last.

        Returns:
            None: There is nothing now, and nothing any more if ``ended`` is set.
        """
        self._close_message()
        if self._full:
            message, size_bytes = self._full.popleft()
            self._full_bytes -= size_bytes
            if self._full_bytes <= self._limits.stream_watch_bytes_max:
                self._room.set()
            return self._encode(message)
        if self._is_open or self.ended.is_set():
            return None
        self.ended.set()
        if self._end is None:
            return None
        last = _Message(end=self._end)
        self._fill_members(last)
        return self._encode(last)

    async def write_all(self, writer: MessageWriter) -> None:
        """Write messages until the sink has ended, or nobody takes them any more."""
        wake = asyncio.Event()
        self.on_ready = wake.set
        self.on_ready()
        try:
            while not self.ended.is_set():
                await wake.wait()
                wake.clear()
                while (message := self.next_message()) is not None:
                    await writer.write(message)
        except grpc.aio.InternalError:
            # gRPC's word for a client that is gone or has refused a message.
            self._finish(None)

    def abandon(self) -> None:
        """Nobody takes what is left: let go of it."""
        self._full.clear()
        self._full_bytes = 0
        self.pending.clear()
        self._open_message()

    def _encode(self, message: _Message) -> bytes:
        fill_header(message.header, self._node.header())
        return message.SerializeToString()

    # --- inside ----------------------------------------------------------------------

    def _refuse(
        self, call: Write | Read, reply: sessions_pb2.StreamReply, refusal: Refusal
    ) -> None:
        if type(call) is Write:
            if call.mend is not None:
                refusal = call.mend(refusal)
            is_traceless = refusal.reason is Reason.TOO_MANY and refusal.details.get(
                "limit_name", ""
            ).startswith(_WINDOW)
            if refusal.reason in _HOLDS_BACK or is_traceless:
                self.hold_back = refusal
        fill_refusal(reply.refusal, refusal)
        self._bytes += reply.ByteSize()

    def _next_reply(self) -> sessions_pb2.StreamReply:
        if self._count >= self._replies_max or self._bytes >= self._replies_bytes_max:
            self._close_message()
        self._count += 1
        self._bytes += _SMALL_BYTES
        return self._add_reply()

    def _open_message(self) -> None:
        self._message = _Message()
        self._add_reply = self._message.replies.add
        self._count = 0
        self._bytes = 0
        self._has_news = False
        self._are_members_due = False

    def _fill_members(
        self, message: sessions_pb2.StreamWelcome | sessions_pb2.StreamSessionResponse
    ) -> None:
        message.members_index = self._machine.applied_index
        for member in self._node.members:
            message.members.add(
                node_id=member.node_id,
                name=member.name,
                client_address=member.client_address,
            )

    def _close_message(self) -> None:
        """Queue the open message, if it says anything."""
        if not self._count and not self._has_news:
            return
        if self._are_members_due:
            self._fill_members(self._message)
        self._full.append((self._message, self._bytes))
        self._full_bytes += self._bytes
        self._open_message()
        limit = self._limits.stream_queued_bytes_max
        if self._full_bytes > limit and self._is_open:
            # What waits is given up: a client that comes again sends its numbers again.
            self._full.clear()
            self._full_bytes = 0
            self.close(_too_slow(limit))

    def _end_if_idle(self) -> None:
        if not self.pending and not self.watches:
            self._finish(None)

    def _finish(self, end: sessions_pb2.StreamEnd | None) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self._end = end
        self._room.set()
        self.on_ready()
        self._on_end()


def _nothing() -> None:
    """Nobody writes yet."""


def _too_slow(limit_bytes: int) -> Refusal:
    return Refusal(
        Reason.OVERLOADED,
        f"more than {limit_bytes} bytes of answers wait for this client"
        " (stream_queued_bytes_max)",
        {"limit": str(limit_bytes), "limit_name": "stream_queued_bytes_max"},
    )
