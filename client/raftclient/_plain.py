"""A session stream on a plain connection: its messages in frames, without gRPC.

Each side begins with ``GREETING``; then come frames (a length of 4 bytes, big end
first, and so many bytes), each of them one message of the stream. Who answers with
anything else knows no plain streams: a member of an older release, or something in
between that speaks HTTP/2. What follows from that is ``raftclient._dialects``'s.

Source: docs/adr/0018; proto/raftpb/v1/sessions.proto, StreamSession.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Final, cast

from google.protobuf.message import DecodeError

from raftclient._stream import Stream, StreamEnded
from raftclient.errors import Unavailable
from raftpb.v1 import sessions_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftclient._shared import Shared
    from raftpb.v1.sessions_pb2 import StreamSessionResponse

__all__ = ["GREETING", "PlainStream"]

GREETING: Final = b"RAFTD/1\n"
"""What both sides begin with; HTTP/2 begins with another byte, and so does TLS."""

OTHERS_S_MAX: Final = 0.5
"""An address of a name that has more of them is waited for so long."""
_IDLE_S: Final = 30
"""The kernel shows the way that an idle stream lives, for what forgets idle ways."""

_LENGTH: Final = struct.Struct(">I")
_length_of: Final = _LENGTH.unpack_from
_parse: Final = sessions_pb2.StreamSessionResponse.FromString


class PlainStream(Stream):
    """See the module."""

    def __init__(self, shared: Shared, address: str, *, is_read_only: bool) -> None:
        super().__init__(shared, address, is_read_only=is_read_only)
        self._connection = _Connection()

    async def _open(self) -> None:
        try:
            self._connection = await _connect(self.address)
        except (OSError, OverflowError, ValueError) as error:  # or it is no address
            why = (isinstance(error, OSError) and error.strerror) or str(error)
            refused = Unavailable(f"no connection to {self.address}: {why}")
            raise StreamEnded(refused) from error

    async def send(self, message: bytes) -> None:
        """Write one message; waits while the connection takes no more."""
        connection = self._connection
        if connection.is_over:
            raise self._end()
        connection.write(message)
        if connection.room is not None:
            await connection.room

    async def _next(self) -> StreamSessionResponse:
        connection = self._connection
        while not connection.messages:
            if connection.is_over or self.is_cut:
                raise self._end()
            await connection.more()
        return connection.messages.popleft()

    async def carry(
        self,
        take: Callable[[StreamSessionResponse], None],
        give: Callable[[], bytes | None],
    ) -> None:
        """Take and give in the loop's own calls, without a turn of a task for each."""
        connection = self._connection

        def take_in(message: StreamSessionResponse) -> None:
            self._look_at(message)
            take(message)

        try:
            while connection.messages:
                take_in(connection.messages.popleft())
            await connection.carry(take_in, give)
            raise self._end()
        finally:
            self.cut()

    def ring(self) -> None:
        """There is something to write."""
        self._connection.ring()

    def _end(self) -> StreamEnded:
        """Say why there is no more."""
        if self.is_cut:
            return self._given_up()
        if self._connection.speaks_otherwise:
            return self._of_dialect()
        return self._ended_there()

    def _note_hello(self) -> None:
        connection, now_s = self._connection, self._now_s()
        if connection.is_greeted:
            self._dialects.note_greeted(self.address)
        elif connection.speaks_otherwise:
            self._dialects.note_other(self.address, now_s)
        else:
            self._dialects.note_unheard(self.address, now_s)

    def _cut(self) -> None:
        self._connection.abort()


class _Connection(asyncio.Protocol):
    """The client's end: what came in, and room for what goes out."""

    def __init__(self) -> None:
        self.messages: Final[deque[StreamSessionResponse]] = deque()
        """Not taken yet, in order."""
        self.room: asyncio.Future[None] | None = None
        """Done when more can be written; None: at once."""
        self.is_greeted = False
        """Whether the other side greeted back."""
        self.speaks_otherwise = False
        """Whether the other side answered in other words."""
        self.is_over = False
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._waiter: asyncio.Future[None] | None = None
        self._take_in: Callable[[StreamSessionResponse], None] = self._keep
        self._give: Callable[[], bytes | None] = _nothing
        self._is_due = False

    async def carry(
        self,
        take_in: Callable[[StreamSessionResponse], None],
        give: Callable[[], bytes | None],
    ) -> None:
        """Hand messages in, and write what is given, until it is over."""
        self._take_in, self._give = take_in, give
        self.ring()
        if not self.is_over:
            await self.more()

    def ring(self) -> None:
        """There is something to write: do it at the end of this round of the loop."""
        if not self._is_due and self.room is None:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._write_given)

    def _write_given(self) -> None:
        self._is_due = False
        give = self._give
        try:
            while self.room is None and (message := give()) is not None:
                self.write(message)
        except Exception as error:  # of whoever waits for the end
            self._fail(error)

    def write(self, message: bytes) -> None:
        """Write one message."""
        if self._transport is not None:
            self._transport.write(_LENGTH.pack(len(message)) + message)

    async def more(self) -> None:
        """Wait until there is a message, or none any more."""
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        await waiter

    def abort(self) -> None:
        """Let go of the connection; what waits for it finds out."""
        if self._transport is not None:
            self._transport.abort()
        self._end()

    # --- asyncio's calls ---------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        _keep_alive(self._transport)
        self._transport.write(GREETING)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        # Mostly it is just one message.
        if self.is_greeted and not self._buffer:
            size = len(data) - _LENGTH.size
            if size >= 0 and _length_of(data)[0] == size:
                self._take(data[_LENGTH.size :])
                return
        self._buffer += data
        if self.is_greeted or self._take_greeting():
            self._take_frames()

    def pause_writing(self) -> None:
        """The other side takes no more for now."""
        self.room = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """The other side takes more."""
        room, self.room = self.room, None
        if room is not None and not room.done():
            room.set_result(None)
        if not self.is_over:
            self.ring()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        self._transport = None
        self._end()

    # --- inside ------------------------------------------------------------------

    def _take_greeting(self) -> bool:
        start = bytes(self._buffer[: len(GREETING)])
        if not GREETING.startswith(start):
            self.speaks_otherwise = True
            self.abort()
        elif len(start) == len(GREETING):
            del self._buffer[: len(GREETING)]
            self.is_greeted = True
        return self.is_greeted

    def _take_frames(self) -> None:
        buffer, start = self._buffer, 0
        while len(buffer) - start >= _LENGTH.size:
            end = start + _LENGTH.size + _length_of(buffer, start)[0]
            if len(buffer) < end:
                break
            self._take(bytes(memoryview(buffer)[start + _LENGTH.size : end]))
            start = end
        del buffer[:start]

    def _take(self, body: bytes) -> None:
        if self.is_over:  # nothing is taken from behind what was no message
            return
        try:
            self._take_in(_parse(body))
        except DecodeError:
            self.abort()
        except Exception as error:  # of whoever waits for the end
            self._fail(error)

    def _keep(self, message: StreamSessionResponse) -> None:
        self.messages.append(message)
        self._wake()

    def _fail(self, error: Exception) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        self.abort()

    def _end(self) -> None:
        self.is_over = True
        self._give = _nothing
        self.resume_writing()
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


def _nothing() -> None:
    """There is nothing to write."""


async def _connect(address: str) -> _Connection:
    """Connect to the first address of a name that answers.

    Raises:
        OSError: None of them did.
    """
    loop = asyncio.get_running_loop()
    host, _, port = address.rpartition(":")
    *others, last = await _resolve(loop, host.strip("[]"), int(port))
    for each in others:
        with contextlib.suppress(OSError):
            async with asyncio.timeout(OTHERS_S_MAX):
                _, connection = await loop.create_connection(_Connection, *each)
                return connection
    _, connection = await loop.create_connection(_Connection, *last)
    return connection


async def _resolve(
    loop: asyncio.AbstractEventLoop, host: str, port: int
) -> list[tuple[str, int]]:
    """Return the addresses of a name, in the order in which they deserve a try."""
    with contextlib.suppress(ValueError):  # it is a name
        ipaddress.ip_address(host)
        return [(host, port)]
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((str(at[0]), port) for *_, at in found))


def _keep_alive(transport: asyncio.Transport) -> None:
    connection = transport.get_extra_info("socket")
    if connection is None:
        return
    with contextlib.suppress(OSError):  # reset meanwhile: told in due course
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):  # not every system has it
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE_S)
