"""Signs of life: what the kernel is told about a connection."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

import pytest

from raftd.sockets.alive import keep_alive


async def a_transport(connection: socket.socket) -> asyncio.Transport:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=connection)
    return transport


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="Linux has it")
async def test_a_silent_connection_is_asked_after_and_given_up_soon() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = socket.create_connection(server.getsockname())
        transport = await a_transport(connection)
        option = connection.getsockopt
        assert option(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
        keep_alive(transport)
        assert option(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        idle_s, interval_s, probes = (
            option(socket.IPPROTO_TCP, name)
            for name in (
                socket.TCP_KEEPIDLE,
                socket.TCP_KEEPINTVL,
                socket.TCP_KEEPCNT,
            )
        )
        assert (idle_s, idle_s + interval_s * probes) == (10, 25)
        transport.abort()
        await asyncio.sleep(0)


async def test_a_connection_that_is_over_is_no_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        transport = await a_transport(socket.create_connection(server.getsockname()))
        transport.abort()
        for _ in range(3):
            await asyncio.sleep(0)
        keep_alive(transport)
        assert transport.is_closing()


async def test_what_is_no_socket_is_left_alone() -> None:
    asked: list[str] = []

    class Memory:
        def get_extra_info(self, name: str) -> Any:
            asked.append(name)

    keep_alive(cast("asyncio.Transport", Memory()))
    assert asked == ["socket"]
