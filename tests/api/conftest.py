"""A served node of one, and stubs on it, for the tests of the doors.

Session streams go through gRPC, or as ``carrier`` says. What is about sockets is
tried on the loop of the standard library, and on the one that nodes run on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import grpc
import pytest
import uvloop

from raftd.api.server import ApiServer
from tests.api.clients import Stubs
from tests.api.solo_node import SoloNode

_LOOPS: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Say on which loops a test runs."""
    if item.path.name.startswith(("test_front", "test_plain")):
        return _LOOPS
    return {"asyncio": _LOOPS["asyncio"]}


@pytest.fixture
def carrier(request: pytest.FixtureRequest) -> str:
    """What carries session streams: ``grpc``, or ``plain``."""
    found: str = getattr(request, "param", "grpc")
    return found


@pytest.fixture
async def node() -> SoloNode:
    return SoloNode()


@pytest.fixture
async def server(node: SoloNode) -> AsyncIterator[ApiServer]:
    served = ApiServer(node, "127.0.0.1:0")
    await served.start()
    yield served
    await served.stop(0)


@pytest.fixture
async def stubs(server: ApiServer, carrier: str) -> AsyncIterator[Stubs]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        found = Stubs(channel, server.port if carrier == "plain" else None)
        yield found
        found.cut_streams()
