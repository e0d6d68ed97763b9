"""The traffic of one session on one stream.

Rules: everything queued goes out as one message, every message that comes in is taken
apart once. A retryable refusal (no leader, no room) ends the stream, because the member
refuses all later numbers of it anyway; so does one that says the session is over.
Silence while something is awaited is probed, and then taken for death; what this loop
was late to look, because its process was stopped or busy, is no silence of the member.

Source: SEMANTICS.md section 1 (numbers); PERFORMANCE.md, rules.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from raftclient._status import (
    SESSION_OVER_REASONS,
    UNLOGGED_REASONS,
    error_from_refusal,
    is_retryable,
)
from raftclient._stream import Stream, StreamEnded
from raftclient._window import Call
from raftclient._wire import cancel_message, keepalive_message

if TYPE_CHECKING:
    from raftclient._shared import Shared, Subscription
    from raftclient._window import Window
    from raftclient.errors import RaftError
    from raftpb.v1.sessions_pb2 import StreamReply, StreamSessionResponse

__all__ = ["PROBE_AFTER_S", "Pump"]

PROBE_AFTER_S: Final = 0.5
DEAD_AFTER_S: Final = 1.5
"""A member that owes an answer and keeps silent for so long is given up."""
PATIENCE: Final = 4
"""So many times longer while all that is awaited are waits and watches."""
_NEVER_S: Final = float("inf")


class Pump:
    """See the module."""

    def __init__(
        self,
        stream: Stream,
        window: Window,
        subscriptions: dict[int, Subscription],
        shared: Shared,
        led_by: int,
    ) -> None:
        """Begin to carry.

        Args:
            stream: It was answered.
            window: Of writes and calls.
            subscriptions: Watches, by tag; each is begun again.
            shared: By all sessions of a client.
            led_by: The node id of who led when the stream was answered: its member, or
                who that relays to.
        """
        self.stream: Final = stream
        self._led_by: Final = led_by
        self._window: Final = window
        self._subscriptions: Final = subscriptions
        self._shared: Final = shared
        self._loop: Final = asyncio.get_running_loop()
        self._control: list[bytes] = []
        self.alive_s = self._loop.time()
        """When the member last gave a sign, or was last owed none."""
        self.has_served = False
        """Whether it has answered anything, so that a next attempt may be quick."""
        self._is_given_up = False
        window.restart()
        for tag, subscription in subscriptions.items():
            self.begin(tag, subscription)

    async def run(self) -> None:
        """Carry messages until the stream ends; raises ``StreamEnded``."""
        try:
            await self.stream.carry(self._take_message, self._next_message)
        except StreamEnded as ended:
            ended.is_silent = self._is_given_up
            raise

    def wake(self) -> None:
        """There is something to send."""
        self.stream.ring()

    def begin(self, tag: int, subscription: Subscription) -> None:
        """Queue the request of a watch, in line with all others."""
        request = subscription.request()
        request.tag = tag
        future: asyncio.Future[StreamReply] = self._loop.create_future()
        self._window.send_again(Call(request, future, _NEVER_S, is_write=False))

    def cancel(self, tag: int) -> None:
        """End a watch."""
        self._control.append(cancel_message(tag))
        self.wake()

    def look_for_silence(self, now_s: float, late_s: float) -> bool:
        """Probe a member that owes an answer, and give a dead one up.

        Args:
            now_s: On the loop's clock.
            late_s: For how long this look was due: messages may wait to be taken.

        Returns:
            Whether it is doubtful that the member still leads.
        """
        self.alive_s = min(now_s, self.alive_s + late_s)
        silence_s = now_s - self.alive_s
        if not self._window.is_owed_an_answer():
            silence_s /= PATIENCE
        if silence_s > DEAD_AFTER_S:
            self.give_up()
        elif silence_s > PROBE_AFTER_S and not self.stream.is_read_only:
            self._control.append(keepalive_message(1))
            self.wake()
            return True
        return False

    def is_led_elsewhere(self, leader: int) -> bool:
        """Tell whether who leads, by node id, is another than when this began."""
        return leader != self._led_by

    def give_up(self) -> None:
        """Take the member for dead."""
        self._is_given_up = True
        self.stream.cut()

    def _next_message(self) -> bytes | None:
        message = self._window.next_message()
        if self._control:
            message = b"".join((message or b"", *self._control))
            self._control.clear()
        return message

    def _take_message(self, message: StreamSessionResponse) -> None:
        self.alive_s = self._loop.time()
        window = self._window
        take = window.take
        ends: RaftError | None = None
        for reply in message.replies:
            if reply.HasField("refusal"):
                ends = self._take_refusal(reply) or ends
            elif (call := take(reply.tag)) is not None:
                call.answer(reply)
            elif (watch := self._subscriptions.get(reply.tag)) is not None:
                watch.on_reply(reply)
        window.settle()
        shared = self._shared
        shared.revision = max(shared.revision, message.header.revision)
        if message.HasField("end"):
            raise Stream.end_of(message)
        self.has_served = ends is None
        if ends is not None:
            raise StreamEnded(ends)
        if window.has_unsent:
            self.wake()

    def _take_refusal(self, reply: StreamReply) -> RaftError | None:
        """End the call or watch; returns the error if it ends the stream instead."""
        error = error_from_refusal(reply.refusal)
        call = self._window.find(reply.tag)
        is_for_later = is_retryable(error) or error.reason in SESSION_OVER_REASONS
        if call is not None:
            is_of_this_sending = is_for_later or error.reason in UNLOGGED_REASONS
            if is_of_this_sending and call.is_write and error.applied == "no":
                call.unsettled_sends -= 1
            if is_for_later or (is_of_this_sending and call.may_be_applied):
                return error
            self._window.take(reply.tag)
            call.fail(error)
        elif reply.tag in self._subscriptions:
            if is_for_later:
                return error
            self._subscriptions.pop(reply.tag).fail(error)
        return None
