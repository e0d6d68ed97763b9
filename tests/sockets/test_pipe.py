"""Pipes: all bytes, in order, no more kept than must be, and one end for both sides."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import socket
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, Self, cast

import pytest

from raftd.sockets.pipe import Pipe
from tests.api.wire import Wire, turns

HOST: Final = "127.0.0.1"
KEPT_BYTES_MAX: Final = 24 << 20
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
        asyncio.timeout(60),
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
            async with asyncio.timeout(60), await Wire.dial(place.port) as outer:
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
            async with asyncio.timeout(60), await Wire.dial(place.port) as outer:
                await outer.write(b"hello")
                assert await outer.read(8) == b"settings"
        speaker.close()
        await turns(5)


async def test_a_side_that_does_not_take_its_bytes_stops_the_other() -> None:
    """Little waits in between; when it takes them again, all are there, in order."""
    async with Place() as place, both(place) as (outer, inner):
        for sender, taker in ((inner, outer), (outer, inner)):
            sent = 0
            idle = 0
            while idle < 50 and sent < KEPT_BYTES_MAX:
                some = sender.write_some(text()[sent : sent + (1 << 18)])
                sent += some
                idle = 0 if some else idle + 1
                await turns(2)
            assert sent < KEPT_BYTES_MAX, "somebody keeps all of it"
            assert await taker.read(sent) == text()[:sent]
        await inner.write(b"more")
        assert await outer.read(4) == b"more"


@functools.cache
def text() -> bytes:
    """Return what shows at any place whether it is the right one."""
    return random.Random(7).randbytes(KEPT_BYTES_MAX)


async def test_a_lot_passes_while_both_are_slow() -> None:
    async with Place() as place, both(place) as (outer, inner):
        some = text()[: 8 << 20]

        async def take(wire: Wire) -> bytes:
            got = bytearray()
            while len(got) < len(some):
                got += await wire.read_some()
                await turns(1)
            return bytes(got)

        got = await asyncio.gather(
            outer.write(some), take(inner), inner.write(some), take(outer)
        )
        assert got[1] == got[3] == some


@pytest.mark.parametrize("is_outer", [True, False])
@pytest.mark.parametrize("how", ["close", "half_close", "reset"])
async def test_an_end_at_one_side_is_an_end_at_the_other(
    is_outer: bool, how: str
) -> None:
    async with Place() as place, both(place) as wires:
        near, far = wires if is_outer else wires[::-1]
        getattr(near, how)()
        assert await far.read_rest() == b""
        far.close()
        await place.is_over.wait()
        assert place.ended == place.pipes


@pytest.mark.parametrize("is_outer", [True, False])
async def test_an_end_comes_behind_what_was_on_its_way(is_outer: bool) -> None:
    async with Place() as place, both(place) as wires:
        near, far = wires if is_outer else wires[::-1]
        some = text()[: 4 << 20]
        sending = asyncio.create_task(near.write(some))
        got = await far.read(1 << 20)
        await asyncio.gather(sending, turns(20))
        near.close()
        assert got + await far.read_rest() == some


async def test_where_nobody_is_the_outer_side_ends() -> None:
    async with Place() as place:
        place.refuse()
        async with asyncio.timeout(60), await Wire.dial(place.port) as outer:
            await outer.write(b"first")
            assert await outer.read_rest() == b""
            await place.is_over.wait()
        assert place.ended == place.pipes


async def test_who_goes_while_the_other_side_is_dialled_leaves_nothing() -> None:
    async with Place() as place:
        for count in range(6):
            place.is_over.clear()
            async with asyncio.timeout(60), await Wire.dial(place.port) as outer:
                await outer.write(b"first")
                while len(place.pipes) <= count:
                    await turns(1)
                await turns(count)
                outer.reset()
                place.pipes[-1].close()
                await place.is_over.wait()
        assert place.ended == place.pipes


async def test_close_ends_both_sides_behind_what_was_written() -> None:
    async with Place() as place, both(place) as (outer, inner):
        await inner.write(b"last words")
        await turns(20)
        (pipe,) = place.pipes
        pipe.close()
        pipe.close()
        assert await outer.read_rest() == b"last words"
        assert await inner.read_rest() == b""
        await place.is_over.wait()
        assert place.ended == [pipe]
