"""Links on real sockets: messages, calls, strangers, and a port that is taken."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from raftd.consensus.messages import Heartbeat, Message
from raftd.consensus.types import Index, NodeId, Term
from raftd.node.errors import LinkDown, LinkLost
from raftd.node.roster import first_roster
from raftd.storage.identity import Identity
from raftd.transport.frames import (
    Frames,
    Hello,
    OldHello,
    encode,
)
from raftd.transport.greeting import Greeting
from raftd.transport.links import (
    Links,
    ListenFailed,
)
from tests.ports import HOST, free_ports
from tests.transport.link_tools import SETTINGS, link, pair, passed


async def test_messages_arrive_in_order() -> None:
    async with pair() as (one, two):
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


async def test_an_address_that_cannot_be_one_does_not_end_the_dialling() -> None:
    ports = free_ports(2)
    identity = Identity("c", NodeId(1), bytes([1]) * 16)
    peers = {NodeId(2): [("no..name", ports[1]), (HOST, ports[1])]}
    one, two = (
        Links(peers, Greeting(identity, (1, 2)), SETTINGS),
        await link(2, ports),
    )
    up = asyncio.Event()
    one.on_up = lambda _: up.set()
    await one.listen(HOST, ports[0])
    one.start()
    try:
        async with asyncio.timeout(30):
            await up.wait()
        assert one.is_up(NodeId(2))
    finally:
        await one.stop()
        await two.stop()


async def test_a_call_that_breaks_its_handler_is_lost_at_once() -> None:
    async with pair() as (one, two):

        async def handler(peer: NodeId, body: bytes) -> bytes:
            raise ValueError(body)

        two.serve(handler)
        with pytest.raises(LinkLost):
            async with asyncio.timeout(30):
                await one.call(NodeId(2), b"what?", 3600.0)


async def test_a_call_is_answered_by_the_handler() -> None:
    async with pair() as (one, two):

        async def handler(peer: NodeId, body: bytes) -> bytes:
            return b"%d:" % peer + body

        two.serve(handler)
        assert await one.call(NodeId(2), b"hello", 30.0) == b"1:hello"


async def test_a_call_whose_link_breaks_is_of_unknown_outcome() -> None:
    async with pair() as (one, two):
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
    links = await link(1, free_ports(2))
    with pytest.raises(LinkDown):
        await links.call(NodeId(2), b"hello", 1.0)
    await links.stop()


async def test_a_port_in_use_is_one_sentence() -> None:
    ports = free_ports(1)
    first = await link(1, ports)
    with pytest.raises(ListenFailed, match=f"peers on {HOST}:{ports[0]}: .*in use"):
        await link(1, ports)
    await first.stop()


# --- who is dialled may change ----------------------------------------------------


async def test_a_peer_is_dialled_when_it_is_named_and_at_its_newest_address() -> None:
    ports = free_ports(3)
    one, two = [await link(node_id, ports[:2]) for node_id in (1, 2)]
    up = asyncio.Event()
    one.on_up = lambda _: up.set()
    try:
        one.set_peers({})
        one.start()
        assert not one.is_up(NodeId(2))
        with pytest.raises(LinkDown, match="nobody is known"):
            await one.call(NodeId(2), b"x", 1.0)
        one.set_peers({NodeId(2): [(HOST, ports[2])]})  # nobody listens there
        one.set_peers({NodeId(2): [(HOST, ports[2]), (HOST, ports[1])]})
        await up.wait()
        assert one.is_up(NodeId(2))
        one.set_peers({})
        assert one.is_up(NodeId(2)), "what is under way may still be said"
        async with asyncio.timeout(30):
            while one.is_up(NodeId(2)):
                await passed(SETTINGS.linger_s)
    finally:
        await one.stop()
        await two.stop()


async def test_a_peer_that_is_wanted_again_in_time_keeps_its_link() -> None:
    async with pair() as (one, two):
        peers = {NodeId(2): [two.address]}
        one.on_down = lambda peer, _: pytest.fail(f"the link to {peer} broke")
        one.set_peers({})
        one.set_peers(peers)
        await asyncio.wait_for(passed(2 * SETTINGS.linger_s), 10)
        assert one.is_up(NodeId(2))
        one.on_down = lambda _, __: None


async def test_whoever_is_at_an_address_is_met_by_knocking() -> None:
    ports = free_ports(2)
    member, blank = await link(2, ports), await link(1, ports)
    blank.set_peers({})
    greeting = blank.greeter
    assert isinstance(greeting, Greeting)
    met = asyncio.Event()
    greeting.on_seen = lambda hello: met.set() if hello.node_id == 2 else None
    try:
        blank.knock([(HOST, ports[1])])
        await met.wait()
        assert not blank.is_up(NodeId(2)), "a knock is no link"
    finally:
        await blank.stop()
        await member.stop()


async def test_knocking_ends_when_a_member_is_met() -> None:
    ports = free_ports(3)
    member, other = await link(2, ports), await link(1, ports)
    other.set_peers({NodeId(2): [(HOST, ports[1])]})
    up = asyncio.Event()
    other.on_up = lambda _: up.set()
    server_met: list[object] = []
    try:
        other.knock([(HOST, ports[2])])  # nobody there
        other.start()
        await up.wait()
        await passed(0)
        server = await asyncio.get_running_loop().create_server(
            lambda: _OldPeer(server_met), HOST, ports[2]
        )
        await passed(4 * SETTINGS.retry_s_max)
        assert not server_met
        server.close()
    finally:
        await other.stop()
        await member.stop()


async def test_a_removed_peer_is_told_so_on_the_link_that_it_has() -> None:
    async with pair() as (one, two):
        mine, theirs = one.greeter, two.greeter
        assert isinstance(mine, Greeting)
        assert isinstance(theirs, Greeting)
        await theirs.formed
        await mine.formed
        two_is_up = asyncio.Event()
        two.on_up = lambda _: two_is_up.set()
        if not two.is_up(NodeId(1)):
            await two_is_up.wait()
        left = first_roster([1])
        mine.note_roster(msgspec.structs.replace(left, removed=(2,)))
        mine.note_certain([2])
        one.set_peers({})
        assert "was removed" in await asyncio.wait_for(theirs.banned, 30)


# --- the release before -----------------------------------------------------------


class _OldPeer(asyncio.Protocol):
    """Member 2 as the release before was: it hangs up on what it cannot read."""

    def __init__(self, heard: list[object]) -> None:
        self._heard = heard
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        for frame in self._frames.feed(data):
            self._heard.append(frame)
            if not isinstance(frame, OldHello):
                self._transport.close()
                return
            mark = {1: bytes([1]) * 16, 2: bytes([2]) * 16}
            answer = OldHello(1, "c", b"", 2, mark[2], {})
            self._transport.write(encode(answer))


async def test_the_release_before_is_greeted_in_its_own_version() -> None:
    ports = free_ports(2)
    heard: list[object] = []
    server = await asyncio.get_running_loop().create_server(
        lambda: _OldPeer(heard), HOST, ports[1]
    )
    links = await link(1, ports)
    up = asyncio.Event()
    links.on_up = lambda _: up.set()
    links.start()
    await up.wait()
    assert [type(frame) for frame in heard] == [Hello, OldHello]
    assert links.level(NodeId(2)) == 1
    server.close()
    await links.stop()
    assert links.level(NodeId(2)) == 0


async def test_a_peer_that_is_upgraded_is_greeted_anew_in_the_newer_version() -> None:
    """It dials us first: from then on it is known to understand."""
    ports = free_ports(2)
    heard: list[object] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _OldPeer(heard), HOST, ports[1])
    one = await link(1, ports)
    ups: asyncio.Queue[int] = asyncio.Queue()
    one.on_up = lambda peer: ups.put_nowait(one.level(peer))
    one.start()
    assert await ups.get() == 1
    # The upgraded peer is elsewhere, so that the old link does not break by itself.
    two = await link(2, [ports[0], free_ports(1)[0]])
    two.start()
    one.set_peers({NodeId(2): [two.address]})
    assert await asyncio.wait_for(ups.get(), 30) == 2
    server.close()
    await one.stop()
    await two.stop()


async def test_who_greets_in_the_older_version_is_answered_in_it() -> None:
    async with pair() as (one, two):
        reader, writer = await asyncio.open_connection(*two.address)
        old = one.greeter.hello(2, 1)
        writer.write(encode(old))
        got = list(Frames().feed(await reader.read(65536)))
        assert [type(frame) for frame in got] == [OldHello]
        writer.close()
