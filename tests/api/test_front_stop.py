"""The client port stops: nobody comes in, who is there hears why, the port is free."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket

import grpc
import pytest

from raftd.api.front import Front
from raftd.api.limits import DEFAULT_DOOR_LIMITS
from raftd.api.registry import Table
from raftd.api.server import ApiServer, ListenFailed
from raftd.api.stream import StreamDoor
from raftd.node.refusals import SHUTTING_DOWN
from raftpb.v1 import cluster_pb2, kv_pb2
from tests.api.clients import Stubs
from tests.api.doors import HTTP_2, answers_at_both_doors, get, put, said, session_on
from tests.api.middle import Middle
from tests.api.solo_node import SoloNode
from tests.api.wire import GREETING, Wire, turns
from tests.ports import free_ports

LONG_S = 600.0
"""Of a stop that has no reason to wait for its end."""


def a_front(node: SoloNode) -> Front:
    limits = DEFAULT_DOOR_LIMITS
    return Front(StreamDoor(node, Table(limits), limits), limits)


def is_taken(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


async def test_the_port_is_free_at_once_and_may_be_listened_on_again(
    node: SoloNode,
) -> None:
    server = ApiServer(node, f"127.0.0.1:{free_ports(1)[0]}")
    await server.start()
    async with session_on(node, server.port) as wire:
        await wire.write(said(put(1)))
        await wire.answer()
        await server.stop(0)
        assert not is_taken(server.port)
        again = ApiServer(node, f"127.0.0.1:{server.port}")
        await again.start()
        assert again.port == server.port
        await answers_at_both_doors(again.port)
        await again.stop(0)


async def test_nobody_comes_in_while_it_stops(
    server: ApiServer, node: SoloNode
) -> None:
    async with session_on(node, server.port) as wire:
        stopping = asyncio.create_task(server.stop(LONG_S))
        await turns(5)
        assert not stopping.done()
        assert not is_taken(server.port)
        wire.close()
        await stopping


async def test_streams_that_hear_their_end_are_waited_for(
    server: ApiServer, node: SoloNode
) -> None:
    async with session_on(node, server.port) as wire:
        node.is_stopped = True
        await wire.write(said(put(1)))
        await node.has_writes(2)
        stopping = asyncio.create_task(server.stop(LONG_S))
        await turns(5)
        node.is_stopped = False
        node.turn()
        (sink,) = node.streams.values()
        sink.close(SHUTTING_DOWN)
        messages = await wire.answers()
        assert messages[0].replies[0].put_key.mod_rev
        assert messages[-1].end.refusal.reason == "SHUTTING_DOWN"
        wire.close()
        await stopping
        assert len(node.detached) == 1


@pytest.mark.parametrize("grace_s", [0, 0.05])
async def test_streams_that_do_not_end_are_ended(
    server: ApiServer, node: SoloNode, grace_s: float
) -> None:
    async with (
        session_on(node, server.port) as wire,
        session_on(node, server.port),
        await Wire.dial(server.port) as early,
    ):
        await early.greet()  # and no hello
        await server.stop(grace_s)
        assert len(node.detached) == 2
        assert await wire.read_rest() == b""
        assert await early.read_rest() == b""


async def test_who_did_not_take_its_answers_is_no_reason_to_wait_longer(
    server: ApiServer, node: SoloNode
) -> None:
    async with session_on(node, server.port, receives_bytes=1 << 16) as wire:
        await wire.write(said(put(1, bytes(1 << 20))))
        await wire.answer()
        for number in range(2, 40):
            await wire.write(said(get(number)))
        await turns(50)
        (sink,) = node.streams.values()
        sink.close(SHUTTING_DOWN)
        await server.stop(0.05)
        assert len(node.detached) == 1


@pytest.mark.parametrize("sent", [b"", GREETING[:3]])
async def test_who_has_not_said_what_it_speaks_is_hung_up_on_at_once(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr("raftd.api.front.TELL_S_MAX", LONG_S)
    async with asyncio.timeout(60), await Wire.dial(server.port) as wire:
        await wire.write(sent)
        await turns(10)
        await server.stop(LONG_S)
        assert await wire.read_rest() == b""


@pytest.mark.parametrize("count", range(8))
async def test_who_comes_just_then_is_not_let_in(
    node: SoloNode, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr("raftd.api.front.TELL_S_MAX", LONG_S)
    front = a_front(node)
    port = await front.listen("127.0.0.1", 0, 1)
    async with asyncio.timeout(60), await Wire.dial(port) as wire:
        await turns(count)
        await front.stop(0)
        with contextlib.suppress(ConnectionError):
            await wire.write(GREETING)
        assert await wire.read_rest() in (b"", GREETING)
        assert not node.streams


@pytest.mark.parametrize("sent", [HTTP_2, HTTP_2[:3]])
async def test_connections_to_grpc_end_with_grpc(
    server: ApiServer, sent: bytes
) -> None:
    async with asyncio.timeout(60), await Wire.dial(server.port) as wire:
        await wire.write(sent)
        await turns(20)
        await server.stop(0)
        await wire.read_rest()
        assert not server._front._pipes  # noqa: SLF001  # no door shows it


async def test_a_call_of_grpc_in_flight_may_end_and_its_connection_does(
    server: ApiServer, node: SoloNode
) -> None:
    async with (
        asyncio.timeout(60),
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        node.is_stopped = True
        call = asyncio.ensure_future(
            Stubs(channel).kv.PutKey(kv_pb2.PutKeyRequest(key=b"k"))
        )
        await node.has_writes(1)
        stopping = asyncio.create_task(server.stop(LONG_S))
        await turns(10)
        assert not stopping.done()
        node.is_stopped = False
        node.turn()
        assert (await call).mod_rev
        await stopping


async def test_the_last_words_of_grpc_are_not_cut_off(node: SoloNode) -> None:
    """It has ended long before a slow client has all of them."""
    front = a_front(node)
    words = random.Random(1).randbytes(32 << 20)
    with socket.create_server(("127.0.0.1", 0)) as behind:
        behind.setblocking(False)
        port = await front.listen("127.0.0.1", 0, behind.getsockname()[1])
        loop = asyncio.get_running_loop()
        async with (
            asyncio.timeout(60),
            await Wire.dial(port, receives_bytes=1 << 16) as client,
        ):
            await client.write(HTTP_2)
            connection, _ = await loop.sock_accept(behind)
            connection.setblocking(False)
            async with Wire(connection) as grpcs:
                await grpcs.read(len(HTTP_2))
                sent, idle = 0, 0
                while idle < 20:
                    some = grpcs.write_some(words[sent : sent + (1 << 20)])
                    sent += some
                    idle = 0 if some else idle + 1
                    await turns(2)
            ending = asyncio.gather(front.stop(LONG_S), front.end_pipes(LONG_S))
            await turns(20)
            assert not ending.done()
            assert await client.read_rest() == words[:sent]
            await ending


async def test_a_client_of_grpc_that_takes_nothing_does_not_stay(
    server: ApiServer, node: SoloNode
) -> None:
    node.file = [bytes(1 << 20)] * 64
    async with (
        asyncio.timeout(60),
        Middle(server.port) as middle,
        grpc.aio.insecure_channel(f"127.0.0.1:{middle.port}") as channel,
    ):
        call = Stubs(channel).cluster.StreamBackup(cluster_pb2.StreamBackupRequest())
        await call.read()
        middle.passes.clear()
        await turns(300)
        await server.stop(0.05)
        await turns(5)
        assert not server._front._pipes  # noqa: SLF001  # no door shows it


async def test_stop_may_be_called_again_and_meanwhile(
    server: ApiServer, node: SoloNode
) -> None:
    async with session_on(node, server.port) as wire:
        await asyncio.gather(server.stop(0), server.stop(0))
        await server.stop(LONG_S)
        assert await wire.read_rest() == b""


async def test_a_start_that_failed_leaves_nothing_behind(
    server: ApiServer, node: SoloNode
) -> None:
    second = ApiServer(node, f"127.0.0.1:{server.port}")
    with pytest.raises(ListenFailed):
        await second.start()
    await second.stop(0)
    assert second.port == 0
    await answers_at_both_doors(server.port)
