"""A TCP client that does only what it is told: no byte is read or sent by itself.

Source: docs/adr/0018.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from types import TracebackType
from typing import Final, Self

from raftpb.v1 import sessions_pb2

__all__ = ["GREETING", "Wire", "framed", "turns"]

GREETING: Final = b"RAFTD/1\n"
"""Spelt out, as a client of another language would."""
_AT_ONCE: Final = struct.pack("ii", 1, 0)
_PIECE_BYTES: Final = 1 << 16


def framed(message: bytes | sessions_pb2.StreamSessionRequest) -> bytes:
    """Put the length in front of a message."""
    body = message if isinstance(message, bytes) else message.SerializeToString()
    return len(body).to_bytes(4, "big") + body


async def turns(count: int) -> None:
    """Let the loop, and so the server, go round so often."""
    for _ in range(count):
        await asyncio.sleep(0)


class Wire:
    """One connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket: Final = connection
        self._loop: Final = asyncio.get_running_loop()
        self._came = b""

    @classmethod
    async def dial(
        cls, port: int, host: str = "127.0.0.1", receives_bytes: int = 0
    ) -> Self:
        """Connect; what the kernel may keep for us unread can be bounded."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receives_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives_bytes)
        wire = cls(connection)
        try:
            await wire._loop.sock_connect(connection, (host, port))
        except BaseException:
            connection.close()
            raise
        return wire

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- bytes -------------------------------------------------------------------

    async def write(self, data: bytes) -> None:
        """Send all of it."""
        await self._loop.sock_sendall(self._socket, data)

    def write_some(self, data: bytes) -> int:
        """Send what there is room for, and say how much that was."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    async def read(self, size: int) -> bytes:
        """Read so many bytes; fewer only at the end of the connection."""
        while len(self._came) < size and (piece := await self.read_some()):
            self._came += piece
        data, self._came = self._came[:size], self._came[size:]
        return data

    async def read_rest(self) -> bytes:
        """Read until the connection ends, however it does."""
        pieces = [self._came]
        self._came = b""
        while piece := await self.read_some():
            pieces.append(piece)
        return b"".join(pieces)

    async def read_some(self) -> bytes:
        """Read what comes next; nothing at the end, however it comes."""
        try:
            return await self._loop.sock_recv(self._socket, _PIECE_BYTES)
        except ConnectionError:
            return b""

    # --- plain streams -----------------------------------------------------------

    async def greet(self) -> None:
        """Greet, and be greeted."""
        await self.write(GREETING)
        await self.greeted()

    async def greeted(self) -> None:
        """Be greeted."""
        assert await self.read(len(GREETING)) == GREETING

    async def frame(self) -> bytes | None:
        """Read one frame; None at the end, which never cuts a frame."""
        head = await self.read(4)
        if not head:
            return None
        size = int.from_bytes(head, "big")
        body = await self.read(size)
        assert (len(head), len(body)) == (4, size), "a frame was cut off"
        return body

    async def answer(self) -> sessions_pb2.StreamSessionResponse:
        """Read one message."""
        body = await self.frame()
        assert body is not None, "the stream ended"
        return sessions_pb2.StreamSessionResponse.FromString(body)

    async def answers(self) -> list[sessions_pb2.StreamSessionResponse]:
        """Read all messages until the connection ends."""
        found: list[sessions_pb2.StreamSessionResponse] = []
        while (body := await self.frame()) is not None:
            found.append(sessions_pb2.StreamSessionResponse.FromString(body))
        return found

    # --- ends --------------------------------------------------------------------

    def half_close(self) -> None:
        """Say that nothing more comes."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Be gone as a process that is killed."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self._socket.close()

    def close(self) -> None:
        """Close; may be called twice."""
        self._socket.close()
