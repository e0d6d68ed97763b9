"""Links on real sockets: messages, calls, strangers, and a port that is taken."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest

from raftd.consensus.messages import Heartbeat, Message
from raftd.consensus.types import Index, NodeId, Term
from raftd.node.errors import LinkDown, LinkLost
from raftd.storage.identity import Identity
from raftd.transport.frames import Call, encode
from raftd.transport.greeting import Greeting
from raftd.transport.links import Links, LinkSettings, ListenFailed
from tests.ports import HOST, free_ports

_SETTINGS = LinkSettings(connect_timeout_s=1.0, retry_s_min=0.01, retry_s_max=0.05)


async def _link(node_id: int, ports: Sequence[int]) -> Links:
    ids = tuple(range(1, len(ports) + 1))
    identity = Identity("c", NodeId(node_id), bytes([node_id]) * 16)
    peers = {NodeId(peer): [(HOST, ports[peer - 1])] for peer in ids if peer != node_id}
    links = Links(peers, Greeting(identity, ids), _SETTINGS)
    await links.listen(HOST, ports[node_id - 1])
    return links


@contextlib.asynccontextmanager
async def _pair() -> AsyncIterator[tuple[Links, Links]]:
    ports = free_ports(2)
    pair = [await _link(node_id, ports) for node_id in (1, 2)]
    up = asyncio.Event()
    pair[0].on_up = lambda _: up.set()
    for links in pair:
        links.start()
    await up.wait()
    try:
        yield pair[0], pair[1]
    finally:
        for links in pair:
            await links.stop()
            await links.stop()


async def test_messages_arrive_in_order() -> None:
    async with _pair() as (one, two):
        got: list[Message] = []
        complete = asyncio.Event()

        def take(messages: Sequence[Message]) -> None:
            got.extend(messages)
            if len(got) == 3:
                complete.set()

        two.on_messages = take
        sent = [
            Heartbeat(NodeId(1), NodeId(2), Term(1), Index(index), 0)
            for index in range(3)
        ]
        one.send(NodeId(2), sent[:2])
        one.send(NodeId(2), sent[2:])
        await complete.wait()
        assert got == sent


async def test_a_call_that_breaks_its_handler_is_lost_at_once() -> None:
    async with _pair() as (one, two):

        async def handler(peer: NodeId, body: bytes) -> bytes:
            raise ValueError(body)

        two.serve(handler)
        with pytest.raises(LinkLost):
            async with asyncio.timeout(10):
                await one.call(NodeId(2), b"what?", 3600.0)


async def test_a_call_is_answered_by_the_handler() -> None:
    async with _pair() as (one, two):

        async def handler(peer: NodeId, body: bytes) -> bytes:
            return b"%d:" % peer + body

        two.serve(handler)
        assert await one.call(NodeId(2), b"hello", 5.0) == b"1:hello"


async def test_a_call_whose_link_breaks_is_of_unknown_outcome() -> None:
    async with _pair() as (one, two):
        arrived = asyncio.Event()

        async def handler(peer: NodeId, body: bytes) -> bytes:
            arrived.set()
            await asyncio.Event().wait()
            return body

        two.serve(handler)
        call = asyncio.create_task(one.call(NodeId(2), b"hello", 30.0))
        await arrived.wait()
        await two.stop()
        with pytest.raises(LinkLost):
            await call


async def test_a_call_without_a_link_was_never_sent() -> None:
    links = await _link(1, free_ports(2))
    with pytest.raises(LinkDown):
        await links.call(NodeId(2), b"hello", 1.0)
    await links.stop()


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00\x01\xc1", encode(Call(1, b"early"))],
    ids=["another protocol", "not msgpack", "no hello first"],
)
async def test_a_stranger_is_hung_up_on_and_the_links_live_on(garbage: bytes) -> None:
    async with _pair() as (one, two):
        ports = [address[1] for address in (one.address, two.address)]
        reader, writer = await asyncio.open_connection(HOST, ports[1])
        writer.write(garbage)
        assert await reader.read() == b""
        writer.close()

        async def handler(peer: NodeId, body: bytes) -> bytes:
            return body

        two.serve(handler)
        assert await one.call(NodeId(2), b"still here", 5.0) == b"still here"


async def test_a_port_in_use_is_one_sentence() -> None:
    ports = free_ports(1)
    first = await _link(1, ports)
    with pytest.raises(ListenFailed, match=f"peers on {HOST}:{ports[0]}: .*in use"):
        await _link(1, ports)
    await first.stop()
