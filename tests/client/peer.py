"""The other side of plain streams, by hand: a test says each byte itself."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from typing import Final

from raftclient._dialects import Dialects
from raftclient._endpoints import Endpoints
from raftclient._plain import PlainStream
from raftclient._shared import Shared
from raftclient._unary import Channels, Renewer, Unary
from raftpb.v1 import common_pb2
from raftpb.v1.sessions_pb2 import (
    StreamHello,
    StreamReply,
    StreamRequest,
    StreamSessionRequest,
    StreamSessionResponse,
    StreamWelcome,
)
from tests.client.fake_door import GREETING, framed

__all__ = [
    "HELLO",
    "WELCOME",
    "Line",
    "Peer",
    "found",
    "ignore",
    "in_frame",
    "listening",
    "nothing",
    "opened",
    "said",
    "some_turns",
    "stream_to",
]

HELLO: Final = StreamHello(client_version="0")
_HEADER: Final = common_pb2.ResponseHeader(node_id=1, leader=1, cluster_id=bytes(16))
WELCOME: Final = StreamSessionResponse(header=_HEADER, welcome=StreamWelcome(node_id=1))


def said(*replies: StreamReply) -> StreamSessionResponse:
    """Build the message of some replies."""
    return StreamSessionResponse(header=_HEADER, replies=replies)


def found(tag: int, value: bytes) -> StreamReply:
    """Build the answer to a read."""
    reply = StreamReply(tag=tag)
    reply.get_key.found = True
    reply.get_key.key_value.value = value
    return reply


class Line:
    """One connection of a client."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._reader = reader
        self._writer = writer

    async def hello(self) -> StreamHello:
        """Hear the client's greeting and hello."""
        assert await self._reader.readexactly(len(GREETING)) == GREETING
        return (await self.hear()).hello

    async def welcome(self) -> None:
        """Hear the client's hello, and let it in."""
        await self.hello()
        self.write(GREETING + framed(WELCOME))

    async def hear(self) -> StreamSessionRequest:
        """Hear one message."""
        (size,) = struct.unpack(">I", await self._reader.readexactly(4))
        body = await self._reader.readexactly(size)
        return StreamSessionRequest.FromString(body)

    async def asked(self) -> StreamRequest:
        """Hear of one request."""
        while not (requests := (await self.hear()).requests):
            pass
        (request,) = requests
        return request

    async def hear_all(self) -> bytes:
        """Hear whatever comes until the client has ended the stream."""
        with contextlib.suppress(ConnectionError):
            return await self._reader.read()
        return b""

    async def hear_bytes(self, size: int) -> bytes:
        """Hear just so many bytes."""
        return await self._reader.readexactly(size)

    def write(self, data: bytes) -> None:
        """Write just these bytes."""
        self._writer.write(data)

    def say(self, *messages: StreamSessionResponse) -> None:
        """Write messages, all at once."""
        self.write(b"".join(map(framed, messages)))

    def end(self) -> None:
        """End it behind what was said."""
        self._writer.close()

    def reset(self) -> None:
        """Break it."""
        self._writer.transport.abort()


class Peer:
    """Listens; a test takes the connections in the order in which they came."""

    def __init__(self) -> None:
        self.address = ""
        self.port = 0
        self.lines: list[Line] = []
        """All that ever came."""
        self._new: asyncio.Queue[Line] = asyncio.Queue()

    def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Note a connection (asyncio's call)."""
        line = Line(reader, writer)
        self.lines.append(line)
        self._new.put_nowait(line)

    async def line(self) -> Line:
        """Wait for the next connection."""
        return await self._new.get()


@contextlib.asynccontextmanager
async def listening(host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Peer]:
    """Listen while the block runs."""
    peer = Peer()
    server = await asyncio.start_server(peer.take, host, port)
    peer.port = server.sockets[0].getsockname()[1]
    peer.address = f"[{host}]:{peer.port}" if ":" in host else f"{host}:{peer.port}"
    try:
        yield peer
    finally:
        server.close()
        for line in peer.lines:
            line.reset()
        await server.wait_closed()


def stream_to(address: str, dialects: Dialects | None = None) -> PlainStream:
    """Make a stream that is not open yet, of a client of its own."""
    endpoints, channels = Endpoints([address]), Channels()
    shared = Shared(
        endpoints=endpoints,
        channels=channels,
        dialects=dialects or Dialects(),
        unary=Unary(endpoints, channels),
        renewer=Renewer(endpoints),
        ttl_ms=1000,
        claimant="somebody",
        client_version="0",
    )
    return PlainStream(shared, address, is_read_only=True)


async def opened(peer: Peer) -> tuple[PlainStream, Line]:
    """Open a stream, and take its other end."""
    stream = stream_to(peer.address)
    greeting = asyncio.create_task(stream.say_hello(HELLO, 30))
    line = await peer.line()
    await line.welcome()
    assert (await greeting).HasField("welcome")
    return stream, line


async def some_turns() -> None:
    """Let the loop do what it can do without anything from outside."""
    for _ in range(5):
        await asyncio.sleep(0)


def nothing() -> None:
    """Give nothing to write."""


def ignore(message: StreamSessionResponse) -> None:
    """Take a message and make nothing of it."""


def in_frame(body: bytes) -> bytes:
    """Put the length in front."""
    return len(body).to_bytes(4, "big") + body
