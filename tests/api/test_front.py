"""The client port: each kind of client finds its door, and a stranger only an end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Final

import grpc
import pytest

from raftd.api import front
from raftd.api.server import ApiServer, ListenFailed
from raftpb.v1 import cluster_pb2, kv_pb2
from tests.api.clients import Stubs, session_stream
from tests.api.doors import (
    BEGINNING,
    HELLO,
    HTTP_2,
    PING,
    answers_at_both_doors,
    get,
    is_begun,
    is_ponged,
    put,
)
from tests.api.middle import Middle
from tests.api.solo_node import SoloNode
from tests.api.wire import GREETING, Wire, turns
from tests.timers import Timers

TLS: Final = bytes.fromhex("16030100c8010000c40303") + bytes(range(194))


# --- who comes ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "size",
    [len(BEGINNING), 1, 3, len(GREETING), len(GREETING) + 2, len(GREETING) - 1],
)
async def test_a_plain_stream_begins_in_whatever_pieces(
    server: ApiServer, size: int
) -> None:
    async with await Wire.dial(server.port) as wire:
        for start in range(0, len(BEGINNING), size):
            await wire.write(BEGINNING[start : start + size])
            await turns(5)
        await is_begun(wire)


async def test_the_greeting_is_answered_before_anything_is_asked(
    server: ApiServer,
) -> None:
    async with await Wire.dial(server.port) as wire:
        await wire.greet()


async def test_a_client_that_asks_no_more_gets_all_its_answers_through_grpc(
    stubs: Stubs,
) -> None:
    async with session_stream(stubs) as stream:
        await stream.send(put(1), put(2), get(5))
        await stream.send_last()
        while await stream.read() is not None:
            continue
        assert stream.end is None
        assert {1, 2, 5} <= stream.replies.keys()


async def test_bytes_of_grpc_pass_as_they_are_and_in_any_pieces(
    server: ApiServer,
) -> None:
    async with await Wire.dial(server.port) as wire:
        for byte in HTTP_2 + PING:
            await wire.write(bytes([byte]))
            await turns(2)
        await is_ponged(wire)


async def test_what_cannot_be_our_greeting_is_grpcs_at_once(server: ApiServer) -> None:
    """It may wait for the first word of the other side."""
    async with asyncio.timeout(60), await Wire.dial(server.port) as wire:
        await wire.write(HTTP_2[:1])
        settings = await wire.read(9)
        assert settings[3] == 4


@pytest.mark.parametrize(
    "said",
    [
        TLS,
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"RAFTD/2\n" + HELLO,
        b"RAFTD/1\r\n",
        b"raftd/1\n",
        HTTP_2 + b"\xff" * 100,
        bytes(100),
    ],
)
async def test_a_stranger_is_grpcs_and_ends(
    server: ApiServer, caplog: pytest.LogCaptureFixture, said: bytes
) -> None:
    async with asyncio.timeout(60), await Wire.dial(server.port) as wire:
        await wire.write(said)
        assert GREETING not in await wire.read_rest()
    await answers_at_both_doors(server.port)
    assert caplog.records == []


@pytest.mark.parametrize("said", [b"", b"R", GREETING[:-1], b"P", HTTP_2])
async def test_who_goes_before_all_was_said_leaves_nothing(
    server: ApiServer, caplog: pytest.LogCaptureFixture, said: bytes
) -> None:
    for is_reset in (False, True):
        async with asyncio.timeout(60), await Wire.dial(server.port) as wire:
            await wire.write(said)
            if is_reset:
                wire.reset()
            else:
                wire.half_close()
                assert GREETING not in await wire.read_rest()
    await answers_at_both_doors(server.port)
    assert caplog.records == []


@pytest.mark.parametrize("said", [b"", GREETING[:-1]])
async def test_who_does_not_say_what_it_speaks_is_hung_up_on(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(front, "TELL_S_MAX", 0.05)
    async with asyncio.timeout(60), await Wire.dial(server.port) as wire:
        await wire.write(said)
        assert await wire.read_rest() == b""


async def test_who_has_said_it_may_be_silent(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers = Timers(monkeypatch, "raftd.api.front.TELL_S_MAX")
    async with (
        asyncio.timeout(60),
        await Wire.dial(server.port) as plain,
        await Wire.dial(server.port) as piped,
    ):
        await plain.greet()
        await piped.write(HTTP_2)
        await piped.read(9)
        async with await Wire.dial(server.port) as silent:
            await timers.go_off(3)
            assert await silent.read_rest() == b"", "their time is over, too"
        await plain.write(HELLO)
        assert (await plain.answer()).welcome.node_id == 1
        await piped.write(PING)
        await is_ponged(piped)


async def test_the_kernel_asks_for_signs_of_life(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[asyncio.Transport] = []
    monkeypatch.setattr(front, "keep_alive", asked.append)
    async with (
        await Wire.dial(server.port) as plain,
        await Wire.dial(server.port) as piped,
    ):
        await plain.greet()
        await piped.write(HTTP_2)
        await piped.read(9)
        assert len(asked) == 2


# --- clients of gRPC ----------------------------------------------------------------


@pytest.mark.parametrize("is_reset", [False, True])
async def test_a_client_of_grpc_that_is_gone_ends_its_calls(
    server: ApiServer, node: SoloNode, is_reset: bool
) -> None:
    async with (
        asyncio.timeout(60),
        Middle(server.port) as middle,
        grpc.aio.insecure_channel(f"127.0.0.1:{middle.port}") as channel,
    ):
        watch = Stubs(channel).kv.WatchKeys(
            kv_pb2.WatchKeysRequest(to_last=True, initial=True)
        )
        await watch.read()
        assert len(node.watches) == 1
        await middle.cut(is_reset=is_reset)
        await node.has_no_watches()
    await answers_at_both_doors(server.port)


class Counted(list[bytes]):
    """Pieces, and how many of them were taken."""

    taken = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in super().__iter__():
            self.taken += 1
            yield piece


async def test_a_long_answer_is_made_as_it_is_taken_and_comes_whole(
    server: ApiServer, node: SoloNode
) -> None:
    pieces = Counted(bytes([number]) * (1 << 20) for number in range(48))
    node.file = pieces
    async with (
        asyncio.timeout(60),
        Middle(server.port) as middle,
        grpc.aio.insecure_channel(f"127.0.0.1:{middle.port}") as channel,
    ):
        stubs = Stubs(channel)
        call = stubs.cluster.StreamBackup(cluster_pb2.StreamBackupRequest())
        await call.read()
        middle.passes.clear()
        while True:  # what is on its way may come, and no more
            taken = pieces.taken
            await turns(300)
            if pieces.taken == taken:
                break
        assert pieces.taken < 24
        await answers_at_both_doors(server.port)
        middle.passes.set()
        messages: list[cluster_pb2.StreamBackupResponse] = []
        while (message := await call.read()) is not grpc.aio.EOF:
            messages.append(message)
        got = b"".join(message.chunk for message in messages)
        assert got == b"".join(list(pieces))
        assert messages[-1].end.bytes == 48 << 20


@pytest.mark.parametrize("plain", [240, 0])
async def test_many_come_at_once(server: ApiServer, plain: int) -> None:
    """As clients do when the leader is another."""

    async def come(number: int) -> bytes:
        async with await Wire.dial(server.port) as wire:
            if number < plain:
                await wire.write(BEGINNING)
                await is_begun(wire)
                return GREETING
            await wire.write(HTTP_2 + PING)
            await is_ponged(wire)
            return PING

    async with asyncio.timeout(60):
        said = await asyncio.gather(*[come(number) for number in range(300)])
    assert said == [GREETING] * plain + [PING] * (300 - plain)


# --- where it listens ---------------------------------------------------------------


def is_taken(port: int, host: str = "127.0.0.1") -> bool:
    try:
        socket.create_connection((host, port)).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize(
    ("address", "hosts"),
    [
        ("[::1]:0", {"::1"}),
        ("127.0.0.1:0", {"127.0.0.1"}),
        ("[::]:0", {"::1", "127.0.0.1"}),
        ("0.0.0.0:0", {"::1", "127.0.0.1"}),
    ],
)
async def test_an_address_is_of_one_family_and_all_addresses_are_of_both(
    node: SoloNode, address: str, hosts: set[str]
) -> None:
    served = ApiServer(node, address)
    await served.start()
    for host in ("127.0.0.1", "::1"):
        assert is_taken(served.port, host) is (host in hosts)
        if host in hosts:
            await answers_at_both_doors(served.port, host)
    await served.stop(0)


async def test_a_machine_without_ipv6_is_listened_on_through_ipv4(
    node: SoloNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    served = ApiServer(node, "0.0.0.0:0")
    await served.start()
    await answers_at_both_doors(served.port)
    await served.stop(0)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "[::]", "192.0.2.7"])
async def test_an_address_that_is_not_free_is_one_clear_error(
    server: ApiServer, node: SoloNode, host: str
) -> None:
    address = f"{host}:{server.port}"
    second = ApiServer(node, address)
    with pytest.raises(ListenFailed) as caught:
        await second.start()
    assert str(caught.value) == (
        f"cannot listen for clients on {address}: the port is in use or the address is"
        " not this machine's"
    )
    await second.stop(0)
    await answers_at_both_doors(server.port)
