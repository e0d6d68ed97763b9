"""Health, readiness and metrics of a node, over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from raftd.node.node import Node
from raftd.node.refusals import DIVERGED
from raftd.server.http import HttpServer
from raftd.transport.links import ListenFailed
from tests.node.cluster import Cluster

_HOST = "127.0.0.1"


class _Door:
    def __init__(self, node: Node, port: int) -> None:
        self.node = node
        self.port = port

    async def send(self, request: bytes) -> bytes:
        """Send bytes, and return all that comes back."""
        reader, writer = await asyncio.open_connection(_HOST, self.port)
        try:
            writer.write(request)
            async with asyncio.timeout(10):
                return await reader.read()
        finally:
            writer.close()

    async def get(self, path: str) -> tuple[int, str]:
        """Return the status and the body of one page."""
        answer = await self.send(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        head, _, body = answer.decode().partition("\r\n\r\n")
        return int(head.split()[1]), body


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[_Door]:
    """Serve a node that leads itself."""
    async with Cluster(tmp_path, size=1) as cluster:
        node = await cluster.leader()
        while not node.readiness.is_ready:
            await node.leader_changed()
        server = HttpServer(node)
        port = await server.start(_HOST, 0)
        yield _Door(node, port)
        await server.stop()


async def test_pages(door: _Door) -> None:
    assert await door.get("/health") == (200, "ok\n")
    assert await door.get("/ready") == (200, "ready\n")
    assert await door.get("/") == (404, "try /health, /ready or /metrics\n")
    door.node.refuse_writes(DIVERGED)
    assert await door.get("/ready") == (503, "not ready\n")
    assert await door.get("/health") == (200, "ok\n")


async def test_a_member_that_has_not_caught_up_is_not_ready(door: _Door) -> None:
    door.node.readiness.fall_behind()
    door.node.readiness.begin_install()
    assert await door.get("/ready") == (503, "not ready\n")
    door.node.readiness.end_install()
    while not door.node.readiness.is_ready:
        await door.node.leader_changed()
    assert await door.get("/ready") == (200, "ready\n")


async def test_metrics_tell_the_node_s_own_numbers(door: _Door) -> None:
    status, text = await door.get("/metrics")
    assert status == 200
    lines = dict(
        line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")
    )
    core = door.node.driver.replica.core
    assert float(lines["raftd_is_leader"]) == 1
    assert float(lines["raftd_term"]) == core.term
    assert 0 < float(lines["raftd_applied_index"]) <= core.applied_index
    assert float(lines["raftd_streams"]) == 0


@pytest.mark.parametrize(
    "garbage",
    [b"\x00\xff\x00\r\n\r\n", b"GET\r\n\r\n", b"POST /health HTTP/1.0\r\n\r\n"],
)
async def test_garbage_is_refused_and_harms_nobody(door: _Door, garbage: bytes) -> None:
    assert b"200" not in (await door.send(garbage)).partition(b"\r\n")[0]
    assert (await door.get("/health"))[0] == 200


async def test_a_port_in_use_is_one_sentence(door: _Door) -> None:
    with pytest.raises(ListenFailed, match=f"cannot listen for HTTP on .*{door.port}"):
        await HttpServer(door.node).start(_HOST, door.port)
