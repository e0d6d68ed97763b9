"""How a plain stream comes about: names, addresses, refusals, and what is left open."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import pytest

import raftclient
from raftclient import Unavailable, _plain, aio
from raftclient._dialects import Dialects
from raftclient._stream import StreamEnded
from raftclient._unary import Backoff
from tests.client.fake_server import FakeCluster
from tests.client.fake_state import Act
from tests.client.loops import nothing_left_open, on_each_loop
from tests.client.peer import (
    HELLO,
    Line,
    Peer,
    found,
    listening,
    said,
    some_turns,
    stream_to,
)
from tests.ports import free_ports

Keep = Callable[[str, int], contextlib.AbstractContextManager[int]]

HERE = "127.0.0.1"
ELSEWHERE = "127.0.0.2"
"""Another address of this machine."""


@contextlib.contextmanager
def refusing(host: str = HERE, port: int = 0) -> Iterator[int]:
    """Keep a port at which nobody listens."""
    with socket.socket() as bound:
        bound.bind((host, port))
        yield bound.getsockname()[1]


@contextlib.contextmanager
def silent(host: str = HERE, port: int = 0) -> Iterator[int]:
    """Keep a port that answers no attempt to connect: nobody is let in any more."""
    with socket.create_server((host, port), backlog=0) as full:
        port = full.getsockname()[1]
        with socket.create_connection((host, port)):
            yield port


def named(patch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Let every name stand for these addresses; returns the names asked for."""
    asked: list[str] = []

    async def look_up(
        host: str, port: int, **_: object
    ) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        asked.append(host)
        kind = socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
        return [(*kind, "", (each, port)) for each in addresses]

    patch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    return asked


async def served(peer: Peer) -> Line:
    """Answer the one read of the next stream."""
    line = await peer.line()
    await line.welcome()
    line.say(said(found((await line.asked()).tag, b"1")))
    return line


async def read(client: aio.Client, peer: Peer) -> None:
    """Read once, over a stream to this peer."""
    reading = asyncio.create_task(client.get("a", timeout_s=20))
    serving = asyncio.create_task(served(peer))
    answer = await reading
    await serving
    assert answer is not None
    assert answer.value == b"1"


def never() -> float:
    raise AssertionError("there is nothing to wait for")


# --- who answers ---------------------------------------------------------------------


@on_each_loop
async def test_a_refused_connection_is_said_in_a_sentence() -> None:
    with refusing() as port:
        stream = stream_to(f"127.0.0.1:{port}")
        with pytest.raises(StreamEnded) as ended:
            await stream.say_hello(HELLO, 30)
    error = ended.value.error
    assert isinstance(error, Unavailable)
    assert error.applied == "no"
    assert error.message.startswith(f"no connection to 127.0.0.1:{port}: Conn")


@on_each_loop
@pytest.mark.parametrize(
    "address",
    ["nowhere.invalid:1", "two..dots:1", "x" * 64 + ":1", "host", "127.0.0.1:99999"],
)
async def test_what_is_no_address_is_said_in_a_sentence(address: str) -> None:
    """Members advertise what they were told to."""
    with pytest.raises(StreamEnded) as ended:
        await stream_to(address).say_hello(HELLO, 30)
    assert ended.value.error.message.startswith(f"no connection to {address}: ")


@on_each_loop
async def test_who_refuses_is_followed_by_the_next_endpoint() -> None:
    async with listening() as peer:
        with refusing() as port:
            async with aio.connect([f"127.0.0.1:{port}", peer.address]) as client:
                await read(client, peer)


@on_each_loop
async def test_a_name_of_nobody_is_followed_by_the_next_endpoint() -> None:
    async with (
        listening() as peer,
        aio.connect(["two..dots:7400", peer.address]) as client,
    ):
        await read(client, peer)


@on_each_loop
async def test_who_keeps_silent_is_not_waited_for_too_long() -> None:
    with silent() as port:
        stream = stream_to(f"127.0.0.1:{port}")
        with pytest.raises(StreamEnded, match=r"did not answer in 0\.05 s"):
            await stream.say_hello(HELLO, 0.05)


@on_each_loop
@pytest.mark.parametrize("other", [refusing, silent])
@pytest.mark.parametrize("addresses", [(HERE, ELSEWHERE), (ELSEWHERE, HERE)])
async def test_a_name_is_found_at_the_first_of_its_addresses_that_answers(
    monkeypatch: pytest.MonkeyPatch, other: Keep, addresses: tuple[str, str]
) -> None:
    is_waited_for = other is silent and addresses[0] == ELSEWHERE
    monkeypatch.setattr(_plain, "OTHERS_S_MAX", 0.05 if is_waited_for else 600.0)
    monkeypatch.setattr(Backoff, "next_s", lambda backoff: never())
    asked = named(monkeypatch, *addresses)
    async with listening() as peer:
        with other(ELSEWHERE, peer.port):
            async with aio.connect(f"member:{peer.port}") as client:
                await read(client, peer)
        assert len(peer.lines) == 1
    assert asked == ["member"]


@on_each_loop
async def test_a_name_without_any_address_that_answers_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    named(monkeypatch, ELSEWHERE, HERE)
    with refusing() as port, refusing(ELSEWHERE, port):
        stream = stream_to(f"member:{port}")
        with pytest.raises(StreamEnded, match=f"no connection to member:{port}: "):
            await stream.say_hello(HELLO, 30)


def has_ipv6() -> bool:
    """Tell whether this machine has an address of it."""
    with contextlib.suppress(OSError):
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        return True
    return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@on_each_loop
async def test_an_address_of_ipv6_is_written_in_brackets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = named(monkeypatch)
    async with listening("::1") as peer:
        assert peer.address == f"[::1]:{peer.port}"
        async with aio.connect(peer.address) as client:
            await read(client, peer)
    assert asked == [], "it is no name"


# --- what is left open ---------------------------------------------------------------


@on_each_loop
async def test_who_is_cancelled_while_it_connects_leaves_no_socket_open() -> None:
    with silent() as port:
        stream = stream_to(f"127.0.0.1:{port}")
        greeting = asyncio.create_task(stream.say_hello(HELLO, 60))
        await some_turns()
        assert not greeting.done()
        greeting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await greeting
        stream.cut()


@on_each_loop
async def test_who_is_closed_while_it_connects_leaves_no_socket_open() -> None:
    with silent() as port:
        client = aio.connect(f"127.0.0.1:{port}")
        reading = asyncio.create_task(client.get("a"))
        await some_turns()
        await client.close()
        with pytest.raises(Unavailable):
            await reading


@on_each_loop
async def test_who_is_closed_before_the_welcome_leaves_no_socket_open() -> None:
    async with listening() as peer:
        client = aio.connect(peer.address)
        reading = asyncio.create_task(client.get("a"))
        line = await peer.line()
        await line.hello()
        await client.close()
        with pytest.raises(Unavailable):
            await reading
        assert await line.hear_all() == b""


@on_each_loop
async def test_who_is_closed_while_a_stream_is_up_ends_it() -> None:
    async with listening() as peer:
        client = aio.connect(peer.address)
        reading = asyncio.create_task(client.get("a"))
        line = await served(peer)
        await reading
        asking = asyncio.create_task(client.get("b"))
        await line.asked()
        await client.close()
        with pytest.raises(Unavailable):
            await asking
        assert await line.hear_all() == b""


@on_each_loop
async def test_a_stream_that_makes_room_for_a_session_is_closed() -> None:
    """Reads alone need no session; the first write ends their stream for another."""
    with FakeCluster() as cluster:
        async with aio.connect(cluster.endpoints) as client:
            await client.get("a")
            await client.put("a", "1")
            await client.get("a")
        streams = cluster.nodes[1].streams
        await cluster.until(lambda: not any(each.is_open for each in streams))
        assert cluster.nodes[1].dialects == ["plain", "plain"]


# --- more than one client ------------------------------------------------------------


def test_a_blocking_client_speaks_plain_and_leaves_nothing_open(
    cluster: FakeCluster,
) -> None:
    with nothing_left_open():
        with raftclient.connect(cluster.endpoints) as client:
            assert [client.incr("n") for _ in range(3)] == [1, 2, 3]
            assert client.get("n") is not None
        assert cluster.nodes[1].dialects == ["plain"]


@on_each_loop
async def test_clients_of_one_process_do_not_share_a_connection_s_fate() -> None:
    with FakeCluster() as cluster:
        streams = cluster.nodes[1].streams
        async with (
            aio.connect(cluster.endpoints) as one,
            aio.connect(cluster.endpoints) as other,
        ):
            assert await one.incr("n") == 1
            assert await other.incr("n") == 2
            cluster.state.behave = lambda request: Act.HOLD
            waiting = asyncio.create_task(other.incr("n"))
            await cluster.until(lambda: cluster.held)
            cluster.state.behave = lambda request: Act.ANSWER
            streams[0].cut()
            assert await one.incr("n") == 3
            cluster.release_held()
            assert await waiting == 4
        assert cluster.nodes[1].dialects == ["plain"] * 3


@on_each_loop
async def test_a_member_that_was_away_is_found_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    has_failed = asyncio.Event()

    def next_s(backoff: Backoff) -> float:
        has_failed.set()
        return 0.001

    monkeypatch.setattr(Backoff, "next_s", next_s)
    monkeypatch.setattr(Dialects, "is_plain", lambda *_: True)  # the peer is plain only
    with refusing(port=free_ports(1)[0]) as port:
        client = aio.connect(f"127.0.0.1:{port}")
        reading = asyncio.create_task(client.get("a", timeout_s=20))
        await has_failed.wait()
    async with client, listening(port=port) as peer:
        await served(peer)
        assert await reading is not None
