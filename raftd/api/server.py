"""What a member serves to clients: all services, health, reflection, on one port.

gRPC's server listens on the loopback only; the port that clients know is the front's.

Rules: gRPC's own size limit lies well above ours, so that a request that is too large
gets its sentence and not a bare RESOURCE_EXHAUSTED. A client that is gone before it was
told the end of its call is no error, though gRPC logs it as one.

Source: DESIGN.md section 8.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from raftd.api.front import LOOPBACK, Front
from raftd.api.limits import DEFAULT_DOOR_LIMITS, DoorLimits
from raftd.api.registry import Table, service_names
from raftd.api.stream import StreamDoor
from raftd.api.unary import UnaryDoor
from raftd.node.service import NodeService

__all__ = ["ApiServer", "ListenFailed"]

_STREAM_SERVICE: Final = "raftpb.v1.SessionService"
_STREAM_METHOD: Final = "StreamSession"


class _Unheard(logging.Filter):
    """Keeps what nobody was there to hear out of the log of the library."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is anything else."""
        kind = record.exc_info[0] if record.exc_info else None
        return kind is None or kind.__name__ != "ExecuteBatchError"


_UNHEARD: Final = _Unheard()


class ListenFailed(Exception):
    """The address cannot be listened on; the sentence says which and what to do."""


class ApiServer:
    """Serves clients on one address.

    Args:
        node: Answers.
        address: ``host:port``; port 0 = any free one.
        limits: What the doors allow.
    """

    def __init__(
        self,
        node: NodeService,
        address: str,
        limits: DoorLimits = DEFAULT_DOOR_LIMITS,
    ) -> None:
        self.port = 0
        """The port it listens on, once it does."""
        self._address: Final = address
        table = Table(limits)
        self._streams: Final = StreamDoor(node, table, limits)
        self._front: Final = Front(self._streams, limits)
        self._server: Final = grpc.aio.server(options=_options(limits))
        self._health: Final = health.aio.HealthServicer()
        self._names: Final = service_names()
        self._add_services(UnaryDoor(node, table, limits))

    async def start(self) -> None:
        """Listen; the member says NOT_SERVING until ``set_serving``.

        Raises:
            ListenFailed: Tell the operator; another port or address is needed.
        """
        logging.getLogger("grpc._cython.cygrpc").addFilter(_UNHEARD)
        await self.set_serving(is_serving=False)
        try:
            grpc_port = self._server.add_insecure_port(f"{LOOPBACK}:0")
        except RuntimeError as error:
            raise ListenFailed(
                f"cannot listen for gRPC on {LOOPBACK}: no port of it is free"
            ) from error
        await self._server.start()
        host, _, port = self._address.rpartition(":")
        try:
            self.port = await self._front.listen(host.strip("[]"), int(port), grpc_port)
        except OSError as error:
            raise ListenFailed(
                f"cannot listen for clients on {self._address}: the port is in use or"
                " the address is not this machine's"
            ) from error

    async def set_serving(self, *, is_serving: bool) -> None:
        """Say through the health service whether this member can serve."""
        status = (
            health_pb2.HealthCheckResponse.SERVING
            if is_serving
            else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for name in ("", *self._names):
            await self._health.set(name, status)

    async def stop(self, grace_s: float) -> None:
        """Take no more calls, let those in flight finish for a while, then end them.

        May be called twice, or before ``start``.
        """
        await self._health.enter_graceful_shutdown()
        await asyncio.gather(self._front.stop(grace_s), self._server.stop(grace_s))
        await self._front.end_pipes(grace_s)

    def _add_services(self, door: UnaryDoor) -> None:
        services = door.handlers()
        stream: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(
            self._stream
        )
        services[_STREAM_SERVICE][_STREAM_METHOD] = stream
        self._server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(service, handlers)
                for service, handlers in services.items()
            ]
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            [*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server
        )

    async def _stream(
        self,
        messages: AsyncIterable[bytes],
        context: grpc.aio.ServicerContext[bytes, bytes],
    ) -> None:
        await self._streams.serve(messages, context)


def _options(limits: DoorLimits) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", limits.carried_bytes_max),
        ("grpc.max_send_message_length", -1),
        # Two members must not share a port unnoticed.
        ("grpc.so_reuseport", 0),
        # Clients keep idle streams alive; do not take their pings for an attack.
        ("grpc.http2.min_ping_interval_without_data_ms", 5000),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
