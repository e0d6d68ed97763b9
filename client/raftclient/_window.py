"""The numbers of one session: what is unanswered, unsent, waiting for room.

No I/O here. Rules: every request of a stream gets the next tag, and a write the same
as its number, from 1 (reads leave holes, which are legal). At most 4096 tags lie
between the oldest unanswered request and the newest. After a reconnect all unanswered
requests are sent again, in order, before new ones. A number is given up only if the
cluster has certainly not applied it; otherwise it is awaited even when its caller has
gone, so that ``acknowledged`` can go on.

Source: SEMANTICS.md section 1 (numbers).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec

from raftclient._wire import acknowledged_field, encode_request
from raftclient.errors import InvalidRequest, LimitExceeded

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from raftclient._held import Held
    from raftclient.errors import RaftError
    from raftpb.v1.sessions_pb2 import StreamReply, StreamRequest

__all__ = ["Call", "Window"]

MESSAGE_REQUESTS_MAX: Final = 250
"""So that client, leader and followers work at the same time on a long queue: with all
of it in one message each would wait for the others (docs/performance.md)."""
MESSAGE_BYTES_MAX: Final = 1024 * 1024
REQUEST_BYTES_MAX: Final = 15 * 1024 * 1024
"""No member takes a longer message (16 MiB), so that it would be sent for ever."""
SPAN_MAX: Final = 4096
"""The server keeps so many answers; more would be refused for lack of room."""
_HELD_UP_SPAN_MIN: Final = SPAN_MAX // 2
UNANSWERED_BYTES_MAX: Final = 16 * 1024 * 1024
BACKLOG_MAX: Final = 100_000
"""Calls of this process that wait for room; beyond it they are refused at once."""


class Call(msgspec.Struct, eq=False):
    """One request on its way, and who waits for it.

    Attributes:
        deadline_s: On the loop's clock; when the caller stops waiting.
        is_write: It carries its tag as its number too.
        waits: The server may hold the answer back for long (a lock, a reserve).
        held: The claim it is part of; it cannot outlive it.
        orphan: Called with an answer that nobody waits for any more.
        unsettled_sends: How often it was sent without having been refused since. A
            refusal speaks of one sending only: what an earlier stream took may have
            been applied all the same.
        is_dropped: It is not to be sent any more.
    """

    request: StreamRequest
    future: asyncio.Future[StreamReply]
    deadline_s: float
    is_write: bool
    waits: bool = False
    held: Held | None = None
    orphan: Callable[[StreamReply], None] | None = None
    tag: int = 0
    wire: bytes = b""
    unsettled_sends: int = 0
    is_dropped: bool = False

    @property
    def may_be_applied(self) -> bool:
        """Whether the cluster may have applied it."""
        return self.unsettled_sends > 0

    def answer(self, reply: StreamReply) -> None:
        """Hand the answer to its caller, or to ``orphan`` if there is none.

        A process that stood still may read it before it notes that the claim, which
        the answer is a part of, is lost: then it is too late.
        """
        held = self.held
        if held is not None and held.is_lost():
            self.fail(held.error(may_be_applied=self.may_be_applied))
        if not self.future.done():
            self.future.set_result(reply)
        elif self.orphan is not None:
            self.orphan(reply)

    def fail(self, error: RaftError) -> None:
        """End the caller's wait with an error."""
        if not self.future.done():
            self.future.set_exception(error)


class Window:
    """See the module."""

    def __init__(self) -> None:
        self._last = 0
        self._floor = 0
        self._acknowledged_sent = 0
        self._bytes = 0
        self._unanswered: dict[int, Call] = {}
        self._unsent: deque[Call] = deque()
        self._backlog: deque[Call] = deque()

    def __len__(self) -> int:
        """Return how many requests are unanswered or wait for room."""
        return len(self._unanswered) + len(self._backlog)

    @property
    def acknowledged(self) -> int:
        """All answers up to this number have been received."""
        return self._floor

    @property
    def has_unsent(self) -> bool:
        """Whether ``next_message`` has something to send."""
        return bool(self._unsent)

    def is_held_up(self) -> bool:
        """Tell whether a long wait at the lower end takes up half of the room."""
        if self._last - self._floor < _HELD_UP_SPAN_MIN:
            return False
        oldest = next(iter(self._unanswered.values()), None)
        return oldest is not None and oldest.waits

    def is_owed_an_answer(self) -> bool:
        """Tell whether a call is unanswered that the server need not hold back."""
        return any(not call.waits for call in self._unanswered.values())

    def add(self, call: Call) -> bool:
        """Take a call: number it, let it wait for room, or fail it for lack of that.

        Returns:
            Whether nothing was unanswered before.
        """
        if self._backlog or not self._has_room():
            if len(self._backlog) >= BACKLOG_MAX:
                call.fail(LimitExceeded("too many calls wait for room in this client"))
            else:
                self._backlog.append(call)
            return False
        was_empty = not self._unanswered
        self._admit(call)
        return was_empty

    def tag_subscription(self) -> int:
        """Draw a tag for a watch."""
        self._last += 1
        return self._last

    def send_again(self, call: Call) -> None:
        """Queue a request that has its tag already (a watch, on a new stream)."""
        call.wire = encode_request(call.request)
        self._unsent.append(call)

    def next_message(self) -> bytes | None:
        """Return what to send now as one message, None if nothing."""
        unsent = self._unsent
        if not unsent:
            return None
        parts: list[bytes] = []
        left_bytes = MESSAGE_BYTES_MAX
        while unsent and len(parts) < MESSAGE_REQUESTS_MAX:
            call = unsent[0]
            if call.future.done() and not call.may_be_applied:
                call.is_dropped = True  # its caller has gone; ``give_up`` removes it
            if not call.is_dropped:
                wire = call.wire
                left_bytes -= len(wire)
                if left_bytes < 0 and parts:
                    break
                if call.is_write:
                    call.unsettled_sends += 1
                parts.append(wire)
            unsent.popleft()
        if not parts:
            return None
        if self._floor > self._acknowledged_sent:
            self._acknowledged_sent = self._floor
            parts.append(acknowledged_field(self._floor))
        return b"".join(parts)

    def find(self, tag: int) -> Call | None:
        """Return the unanswered call of a tag, None if there is none."""
        return self._unanswered.get(tag)

    def take(self, tag: int) -> Call | None:
        """Remove and return the call that an answer belongs to, None if unknown."""
        call = self._unanswered.pop(tag, None)
        if call is not None:
            self._bytes -= len(call.wire)
        return call

    def settle(self) -> None:
        """Move ``acknowledged`` on and let waiting calls in; once per message."""
        oldest = next(iter(self._unanswered), None)
        self._floor = self._last if oldest is None else oldest - 1
        backlog = self._backlog
        while backlog and self._has_room():
            call = backlog.popleft()
            if not call.future.done():
                self._admit(call)

    def restart(self) -> None:
        """A new stream begins: everything unanswered is to be sent, in order."""
        self._acknowledged_sent = 0
        self._unsent = deque(self._unanswered.values())

    def give_up(self, now_s: float) -> tuple[list[Call], float]:
        """Take out the calls whose deadline has passed.

        Returns:
            Those calls, and the earliest deadline of the others. A call that may have
            been applied stays in the window; it is among them all the same.
        """
        late = []
        earliest_s = float("inf")
        for call in (*self._unanswered.values(), *self._backlog):
            if call.future.done():
                if not call.may_be_applied:
                    late.append(call)  # cancelled by its caller before it was sent
            elif call.deadline_s <= now_s:
                late.append(call)
            else:
                earliest_s = min(earliest_s, call.deadline_s)
        for call in late:
            if not call.may_be_applied:
                call.is_dropped = True
                if self._unanswered.pop(call.tag, None) is not None:
                    self._bytes -= len(call.wire)
        if any(call.is_dropped for call in late):
            self._backlog = deque(c for c in self._backlog if not c.is_dropped)
            self.settle()
        return late, earliest_s

    def calls(self) -> list[Call]:
        """Return what is unanswered or waits for room, in order."""
        return [*self._unanswered.values(), *self._backlog]

    def take_all(self) -> list[Call]:
        """Empty the window: the session is over."""
        calls = self.calls()
        self._unanswered.clear()
        self._backlog.clear()
        self._unsent.clear()
        self._bytes = 0
        return calls

    def _has_room(self) -> bool:
        if self._last - self._floor >= SPAN_MAX:
            return False
        return self._bytes < UNANSWERED_BYTES_MAX

    def _admit(self, call: Call) -> None:
        tag = self._last + 1
        request = call.request
        call.tag = request.tag = tag
        if call.is_write:
            request.number = tag
        wire = encode_request(request)
        if len(wire) > REQUEST_BYTES_MAX:
            call.fail(_too_large(len(wire)))
            return
        self._last = tag
        call.wire = wire
        self._bytes += len(wire)
        self._unanswered[tag] = call
        self._unsent.append(call)


def _too_large(size_bytes: int) -> RaftError:
    return InvalidRequest(
        f"the request is {size_bytes}, over the limit of {REQUEST_BYTES_MAX}",
        reason="TOO_LARGE",
        details={"limit": str(REQUEST_BYTES_MAX), "size": str(size_bytes)},
    )
