"""A served node of one, and stubs on it, for the tests of the doors."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest

from raftd.api.server import ApiServer
from tests.api.clients import Stubs
from tests.api.solo_node import SoloNode


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
async def stubs(server: ApiServer) -> AsyncIterator[Stubs]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield Stubs(channel)
