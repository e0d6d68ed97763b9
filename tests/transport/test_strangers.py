"""Who greets wrongly or not at all, and peers that say what no member would."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import pytest

from raftd.consensus.messages import Append, Heartbeat, Message
from raftd.consensus.types import Entry, EntryKind, Index, NodeId, Term
from raftd.transport import accepted
from raftd.transport.frames import HELLO_BYTES_MAX, Call, encode
from raftd.transport.links import STRANGERS_MAX
from tests.ports import HOST, free_ports
from tests.transport.link_tools import SETTINGS, link, pair


async def test_who_does_not_greet_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepted, "GREETING_S_MAX", 0.05)
    async with pair() as (_, two):
        reader, writer = await asyncio.open_connection(*two.address)
        writer.write(b"\x00\x00")  # and then nothing, for ever
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()


async def test_a_stranger_cannot_have_much_kept_for_it() -> None:
    async with pair() as (_, two):
        reader, writer = await asyncio.open_connection(*two.address)
        writer.write((HELLO_BYTES_MAX + 1).to_bytes(4, "big"))
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()


async def test_silent_connections_are_bounded_and_members_get_through() -> None:
    async with pair() as (one, two):
        silent = [
            await asyncio.open_connection(*two.address) for _ in range(STRANGERS_MAX)
        ]
        reader, writer = await asyncio.open_connection(*two.address)
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 30) == b""
        for _, other in [*silent, (reader, writer)]:
            other.close()

        async def handler(peer: NodeId, body: bytes) -> bytes:
            return body

        two.serve(handler)
        assert await one.call(NodeId(2), b"still here", 30.0) == b"still here"


async def test_a_peer_that_dials_anew_has_given_its_older_connection_up() -> None:
    async with pair() as (one, two):
        first_reader, first = await asyncio.open_connection(*two.address)
        first.write(encode(one.greeter.hello(2, 2)))
        assert await first_reader.read(1)
        _, second = await asyncio.open_connection(*two.address)
        second.write(encode(one.greeter.hello(2, 2)))
        while await asyncio.wait_for(first_reader.read(65536), 30):
            continue
        first.close()
        second.close()


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00\x01\xc1", encode(Call(1, b"early"))],
    ids=["another protocol", "not msgpack", "no hello first"],
)
async def test_a_stranger_is_hung_up_on_and_the_links_live_on(garbage: bytes) -> None:
    async with pair() as (one, two):
        ports = [address[1] for address in (one.address, two.address)]
        reader, writer = await asyncio.open_connection(HOST, ports[1])
        writer.write(garbage)
        assert await reader.read() == b""
        writer.close()

        async def handler(peer: NodeId, body: bytes) -> bytes:
            return body

        two.serve(handler)
        assert await one.call(NodeId(2), b"still here", 30.0) == b"still here"


async def test_who_is_dialled_cannot_have_much_kept_either() -> None:
    ports = free_ports(2)
    over: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.read(65536)
        writer.write((HELLO_BYTES_MAX + 1).to_bytes(4, "big"))
        told = await reader.read()
        if not over.done():
            over.set_result(told)
        writer.close()

    server = await asyncio.start_server(answer, HOST, ports[1])
    one = await link(1, ports)
    one.start()
    try:
        async with asyncio.timeout(0.8 * SETTINGS.connect_timeout_s):
            assert await over == b""
    finally:
        await one.stop()
        server.close()


# --- peers ------------------------------------------------------------------------


def _append(prev: int, *entries: tuple[int, int], prev_term: int = 1) -> Append:
    """Make an append of (index, term) pairs, of a leader of term 2."""
    return Append(
        NodeId(1),
        NodeId(2),
        Term(2),
        Index(prev),
        Term(prev_term),
        tuple(Entry(Index(i), Term(t), EntryKind.NORMAL, b"") for i, t in entries),
        Index(0),
    )


@pytest.mark.parametrize(
    "bad",
    [
        Heartbeat(NodeId(3), NodeId(2), Term(1), Index(0)),
        Heartbeat(NodeId(1), NodeId(3), Term(1), Index(0)),
        _append(5, (7, 1)),
        _append(5, (6, 1), (8, 1), (8, 1)),
        _append(5, (6, 2), (7, 1)),
        _append(5, (6, 1), prev_term=2),
        _append(5, (6, 3)),
        _append(-1, (0, 1)),
    ],
    ids=[
        "in another's name",
        "to another",
        "a gap before",
        "a gap within",
        "terms that fall",
        "older than what is before",
        "of a term to come",
        "before the log",
    ],
)
async def test_what_no_core_would_send_breaks_the_link_and_reaches_nobody(
    bad: Message,
) -> None:
    async with pair() as (one, two):
        got: list[Message] = []
        complete, down, up = asyncio.Event(), asyncio.Event(), asyncio.Event()

        def take(messages: Sequence[Message]) -> None:
            got.extend(messages)
            complete.set()

        two.on_messages = take
        one.on_down = lambda _, __: down.set()
        one.on_up = lambda _: up.set()
        one.send(NodeId(2), [bad])
        async with asyncio.timeout(30):
            await down.wait()
            await up.wait()
            good = _append(5, (6, 1), (7, 2))
            one.send(NodeId(2), [good])
            await complete.wait()
        assert got == [good]
