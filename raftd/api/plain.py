"""Plain session streams: a session stream in frames on a TCP connection.

The same messages as through gRPC, without gRPC: the loop that serves them reads and
writes the socket itself. Each side begins with ``GREETING``; then come frames (a
length of 4 bytes, big end first, and so many bytes), each of them one
``StreamSessionRequest`` there, one ``StreamSessionResponse`` back. Who closes the
connection, or its half of it, ends the stream.

Rules: a message is served as soon as it is there, without a turn of a task; answers
that are ready in one round of the loop go out as one message. While the client takes
no more, answers wait in the stream's sink, which is bounded.

Source: docs/adr/0018; proto/raftpb/v1/sessions.proto, StreamSession.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final

from raftd.api.carriers import Served
from raftd.api.errors import fill_refusal
from raftd.api.limits import DoorLimits
from raftd.api.stream import StreamDoor
from raftd.sockets.cut import Cutter, FrameTooLong, framed
from raftd.statemachine.refusals import too_large
from raftpb.v1 import sessions_pb2

__all__ = ["GREETING", "PlainStream"]

_logger = logging.getLogger(__name__)

GREETING: Final = b"RAFTD/1\n"
"""What both sides begin with; HTTP/2 begins with another byte, and so does TLS."""

HELLO_S_MAX: Final = 5.0
"""Who has not sent its first message by then is hung up on."""
EARLY_BYTES_MAX: Final = 1 << 20
"""No more is read while so much waits for somebody who takes it."""
MESSAGES_A_TURN: Final = 8
"""More of one client's wait for the next round of the loop; raftclient sends fewer."""
PER_MESSAGE_BYTES: Final = 64
"""What keeping a message costs beside its bytes, about."""
LINGER_S: Final = 5.0
"""How long a client may take over the end of a stream."""


class PlainStream(asyncio.Protocol):
    """One plain stream, from its greeting on; a ``PlainLine``.

    Args:
        door: Serves it.
        limits: Bound its messages.
        on_end: Called once, when it is over.
    """

    def __init__(
        self,
        door: StreamDoor,
        limits: DoorLimits,
        on_end: Callable[[PlainStream], None],
    ) -> None:
        self._door: Final = door
        self._limits: Final = limits
        self._on_end: Final = on_end
        self._loop: Final = asyncio.get_running_loop()
        self._cutter: Final = Cutter(limits.carried_bytes_max)
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._early: Final[deque[bytes]] = deque()
        """Messages that nobody has taken yet."""
        self._early_bytes = 0
        self._take: Callable[[bytes], None] = self._keep
        self._stream: Served | None = None
        self._is_over = False
        self._is_resting = False
        self._is_due = False
        self._deadline: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None

    # --- the connection ----------------------------------------------------------

    def begin(self, transport: asyncio.Transport, data: bytes) -> None:
        """Greet, and take what has come behind the greeting."""
        self._transport = transport
        transport.write(GREETING)
        self._hurry(HELLO_S_MAX)
        self._task = self._loop.create_task(self._serve())
        self.data_received(data)

    def data_received(self, data: bytes) -> None:
        """Bytes came (asyncio's call)."""
        if not self._is_over:
            self._cutter.put(data)
            if not self._is_resting:
                self._take_some()

    def _take_some(self) -> None:
        """Take messages; if there are many, let others have their turns in between."""
        self._rest(is_resting=False)
        cutter = self._cutter
        try:
            for _ in range(MESSAGES_A_TURN):
                body = cutter.next()
                if body is None:
                    return
                self._take(bytes(body))
        except FrameTooLong as error:
            self._refuse(error.size)
        except Exception as error:  # it ends the stream, not the node
            self._fail(error)
        else:
            self._rest(is_resting=True)
            self._loop.call_soon(self._take_some)

    def _rest(self, *, is_resting: bool) -> None:
        """Take no more for now, or go on."""
        if is_resting is self._is_resting:
            return
        self._is_resting = is_resting
        self._read_or_not()

    def _read_or_not(self) -> None:
        """Read on unless enough waits already."""
        transport = self._transport
        if transport is None:
            return
        if self._is_resting or self._early_bytes > EARLY_BYTES_MAX:
            transport.pause_reading()
        else:
            transport.resume_reading()

    def eof_received(self) -> None:
        """The client ends the stream (asyncio's call), which closes the connection."""
        if self._task is not None:
            self._task.cancel()
        self._hurry(LINGER_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over (asyncio's call)."""
        self._transport = None
        self._ease()
        if self._task is not None:
            self._task.cancel()
        self.resume_writing()
        self._forget()
        self._on_end(self)

    def _forget(self) -> None:
        """Keep nothing alive: the collector seldom looks for circles."""
        self._is_over = True
        self._task = self._stream = self._waiter = None
        self._take = _ignore
        self._early.clear()
        self._cutter.clear()

    def pause_writing(self) -> None:
        """The client takes no more for now (asyncio's call)."""
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        """The client takes more (asyncio's call)."""
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)
        self._ring()

    def abort(self) -> None:
        """End it at once, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    # --- the stream --------------------------------------------------------------

    async def _serve(self) -> None:
        try:
            await self._door.serve_plain(self)
        except ConnectionError:
            self.abort()  # the client is gone
        except Exception as error:  # as above
            self._fail(error)
        else:
            self._hang_up()

    async def first(self) -> bytes:
        """Wait for the first message."""
        while not self._early:
            self._waiter = self._loop.create_future()
            await self._waiter
        message = self._early.popleft()
        self._early_bytes -= len(message) + PER_MESSAGE_BYTES
        self._read_or_not()
        return message

    async def others(self) -> AsyncIterator[bytes]:
        """Read the others, for whoever waits for each."""
        while True:
            yield await self.first()

    def join(self, stream: Served) -> Callable[[], None]:
        """Hand each message to the stream from here on, and write all its answers."""
        self._stream, self._take = stream, stream.take
        while self._early:
            stream.take(self._early.popleft())
        self._early_bytes = 0
        self._read_or_not()
        return self._ring

    async def write(self, message: bytes) -> None:
        """Write one message; waits while the client takes no more.

        Raises:
            ConnectionError: The client is gone.
        """
        transport = self._transport
        if transport is None or transport.is_closing() or self._is_over:
            raise ConnectionError("nothing more is said to the client")
        transport.write(framed(message))
        if self._room is not None:
            await self._room

    def _keep(self, message: bytes) -> None:
        """Keep a message until somebody takes it; read no more if there are many."""
        self._ease()
        self._early.append(message)
        self._early_bytes += len(message) + PER_MESSAGE_BYTES
        if self._early_bytes > EARLY_BYTES_MAX:
            self._read_or_not()
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _ring(self) -> None:
        """There are answers: write them at the end of this round of the loop."""
        if self._room is not None:
            if self._stream is not None and self._stream.is_over:
                self._hurry(LINGER_S)
        elif not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._write_answers)

    def _write_answers(self) -> None:
        self._is_due = False
        stream, transport = self._stream, self._transport
        if stream is None or transport is None or transport.is_closing():
            return
        try:
            while self._room is None and (message := stream.next_message()) is not None:
                transport.write(framed(message))
        except Exception as error:  # as above
            self._fail(error)

    # --- its end -----------------------------------------------------------------

    def _fail(self, error: Exception) -> None:
        _logger.error("stream_failed", exc_info=error)
        self.abort()

    def _refuse(self, size_bytes: int) -> None:
        """End a stream whose next message is too large to be read."""
        self._is_over = True
        refusal = too_large(
            "the message",
            size_bytes,
            "message_bytes_max",
            self._limits.carried_bytes_max,
        )
        if self._stream is not None:
            self._stream.refuse(refusal)
            return
        if self._task is not None:
            self._task.cancel()  # it would serve what has come before
        last = sessions_pb2.StreamSessionResponse()
        fill_refusal(last.end.refusal, refusal)
        if self._transport is not None:
            self._transport.write(framed(last.SerializeToString()))
        self._hang_up()

    def _hang_up(self) -> None:
        """End the connection behind what was written.

        Closed with bytes of the client unread, it would be reset, and the last message
        lost with it: so the client is given a moment to take that, and to close.
        """
        transport = self._transport
        if transport is None:
            return
        self._is_over = True
        if not transport.is_closing():
            transport.write_eof()
        self._hurry(LINGER_S)

    def _hurry(self, limit_s: float) -> None:
        """Let go of the connection after so long, unless it is in a hurry already."""
        if self._deadline is None and self._transport is not None:
            self._deadline = self._loop.call_later(limit_s, self.abort)

    def _ease(self) -> None:
        """There is no hurry any more."""
        deadline, self._deadline = self._deadline, None
        if deadline is not None:
            deadline.cancel()


def _ignore(message: bytes) -> None:
    """Nobody takes it any more."""
