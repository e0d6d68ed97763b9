"""Links of a few members on loopback, for tests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from raftd.consensus.types import NodeId
from raftd.storage.identity import Identity
from raftd.transport.greeting import Greeting
from raftd.transport.links import Links, LinkSettings
from tests.ports import HOST, free_ports

__all__ = ["SETTINGS", "link", "pair", "passed"]

SETTINGS = LinkSettings(
    connect_timeout_s=10.0, retry_s_min=0.01, retry_s_max=0.05, linger_s=0.1
)


async def link(node_id: int, ports: Sequence[int]) -> Links:
    ids = tuple(range(1, len(ports) + 1))
    identity = Identity("c", NodeId(node_id), bytes([node_id]) * 16)
    peers = {NodeId(peer): [(HOST, ports[peer - 1])] for peer in ids if peer != node_id}
    links = Links(peers, Greeting(identity, ids), SETTINGS)
    await links.listen(HOST, ports[node_id - 1])
    return links


@contextlib.asynccontextmanager
async def pair() -> AsyncIterator[tuple[Links, Links]]:
    ports = free_ports(2)
    both = [await link(node_id, ports) for node_id in (1, 2)]
    up = asyncio.Event()
    both[0].on_up = lambda _: up.set()
    for links in both:
        links.start()
    await up.wait()
    try:
        yield both[0], both[1]
    finally:
        for links in both:
            await links.stop()
            await links.stop()


async def passed(seconds: float) -> None:
    """Let an instant of the loop's clock come."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    loop.call_later(seconds, future.set_result, None)
    await future
