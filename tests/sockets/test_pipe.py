"""Pipes: all bytes, in order, no more kept than must be, and one end for both sides."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, Self, cast

from raftd.sockets.pipe import Pipe
from tests.api.wire import Wire, turns

HOST: Final = "127.0.0.1"
KEPT_BYTES_MAX: Final = 40 << 20
"""Of one direction: the kernel keeps most of it, on two connections."""


class Entrance(asyncio.Protocol):
    """Pipes whoever comes, with its first bytes."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        pipe = Pipe(self._transport, data, self._place.note_end)
        self._place.pipes.append(pipe)
        pipe.open(HOST, self._place.inner_port)


class Place:
    """A port, behind it a pipe to another, whose connections a test accepts itself."""

    def __init__(self) -> None:
        self.pipes: list[Pipe] = []
        self.ended: list[Pipe] = []
        self.is_over = asyncio.Event()
        self._listener = socket.create_server((HOST, 0))
        self._listener.setblocking(False)
        self.inner_port = self._listener.getsockname()[1]
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Entrance(self), HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        self._listener.close()
        for pipe in self.pipes:
            pipe.close()
        await turns(5)

    def note_end(self, pipe: Pipe) -> None:
        self.ended.append(pipe)
        self.is_over.set()

    async def accept(self) -> Wire:
        connection, _ = await asyncio.get_running_loop().sock_accept(self._listener)
        connection.setblocking(False)
        return Wire(connection)

    def refuse(self) -> None:
        """Have nobody there any more."""
        self._listener.close()


@contextlib.asynccontextmanager
async def both(
    place: Place, first: bytes = b"first"
) -> AsyncIterator[tuple[Wire, Wire]]:
    """Be at both ends of a pipe."""
    async with (
        asyncio.timeout(20),
        await Wire.dial(place.port, receives_bytes=1 << 16) as outer,
    ):
        await outer.write(first)
        async with await place.accept() as inner:
            assert await inner.read(len(first)) == first
            yield outer, inner


async def test_bytes_go_both_ways() -> None:
    async with Place() as place, both(place) as (outer, inner):
        for number in range(20):
            await outer.write(b"there %d" % number)
            assert await inner.read(len(b"there %d" % number)) == b"there %d" % number
            await inner.write(b"back %d" % number)
            assert await outer.read(len(b"back %d" % number)) == b"back %d" % number


async def test_what_the_inner_side_says_at_once_is_not_lost() -> None:
    """As gRPC's server does, before it has read anything."""
    loop = asyncio.get_running_loop()
    async with Place() as place:
        for _ in range(50):
            async with asyncio.timeout(20), await Wire.dial(place.port) as outer:
                accepting = loop.create_task(place.accept())
                await outer.write(b"hello")
                async with await accepting as inner:
                    await inner.write(b"settings")
                    assert await outer.read(8) == b"settings"


async def test_what_waits_to_be_accepted_is_answered_as_soon_as_it_is_there() -> None:
    """The kernel of the inner side speaks in the very round in which it is dialled."""
    loop = asyncio.get_running_loop()

    class Speaker(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            cast("asyncio.Transport", transport).write(b"settings")

    async with Place() as place:
        speaker = await loop.create_server(Speaker, HOST, 0)
        place.inner_port = speaker.sockets[0].getsockname()[1]
        for _ in range(50):
            async with asyncio.timeout(20), await Wire.dial(place.port) as outer:
                await outer.write(b"hello")
                assert await outer.read(8) == b"settings"
        speaker.close()
        await turns(5)
