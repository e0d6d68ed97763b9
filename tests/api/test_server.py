"""The server: ports, health, reflection, stop."""

from __future__ import annotations

import asyncio
import importlib
import logging
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from raftd.api.registry import service_names
from raftd.api.server import ApiServer
from raftpb.v1 import kv_pb2
from tests.api.clients import Stubs
from tests.api.solo_node import SoloNode

Health = health_pb2.HealthCheckResponse


async def health_of(stubs: Stubs, service: str = "") -> int:
    channel: Any = stubs.channel
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    status: int = answer.status
    return status


async def test_port_0_is_any_free_port(server: ApiServer) -> None:
    assert server.port > 0


async def test_health_says_whether_the_member_can_serve(
    server: ApiServer, stubs: Stubs
) -> None:
    assert await health_of(stubs) == Health.NOT_SERVING
    await server.set_serving(is_serving=True)
    for service in ("", *service_names()):
        assert await health_of(stubs, service) == Health.SERVING
    await server.set_serving(is_serving=False)
    assert await health_of(stubs) == Health.NOT_SERVING


async def test_reflection_names_all_services_and_describes_their_files(
    stubs: Stubs,
) -> None:
    channel: Any = stubs.channel
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    call = stub.ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services="*"))
    listed = await call.read()
    names = {service.name for service in listed.list_services_response.service}
    assert set(service_names()) <= names
    assert "grpc.health.v1.Health" in names
    for name in service_names():
        await call.write(
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=name)
        )
        described = await call.read()
        assert described.file_descriptor_response.file_descriptor_proto
    call.cancel()


async def test_a_call_in_flight_ends_before_the_server_does(
    server: ApiServer, stubs: Stubs, node: SoloNode
) -> None:
    node.is_stopped = True
    put = asyncio.ensure_future(stubs.kv.PutKey(kv_pb2.PutKeyRequest(key=b"k")))
    await node.has_writes(1)
    stopping = asyncio.create_task(server.stop(5))
    node.is_stopped = False
    node.turn()
    assert (await put).mod_rev
    await stopping


async def test_stop_may_be_called_twice_or_before_start(node: SoloNode) -> None:
    never_started = ApiServer(node, "127.0.0.1:0")
    await never_started.stop(0)
    await never_started.stop(0)


async def test_a_stopped_server_takes_no_calls(server: ApiServer, stubs: Stubs) -> None:
    await server.stop(0)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stubs.kv.PutKey(kv_pb2.PutKeyRequest(key=b"k"))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_message_beyond_every_limit_is_ended_by_grpc_itself(
    stubs: Stubs,
) -> None:
    request = kv_pb2.PutKeyRequest(key=b"k", value=bytes(17 << 20))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stubs.kv.PutKey(request)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.usefixtures("server")
def test_a_client_that_is_gone_at_the_end_of_its_call_is_no_error_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    library = importlib.import_module("grpc._cython.cygrpc")
    logger = logging.getLogger("grpc._cython.cygrpc")
    for kind in (library.ExecuteBatchError, RuntimeError):
        try:
            raise kind("Failed")
        except Exception:
            logger.exception("%s raised", kind.__name__)
    assert [record.getMessage() for record in caplog.records] == ["RuntimeError raised"]
