"""What node and client are given in place of clocks, chance, threads and sockets.

Rules: every module of raftd and raftclient that knows one of these standard modules
knows a stand-in of it while a run lasts; what the stand-in does not have, nobody may
use. What a door logs as an error, and survives, fails the run. Channels and servers are
made by two functions of gRPC, and both are replaced; so are the loop's three that plain
connections come from. A channel goes to the server of its host: that the front passes
gRPC's bytes on, through a pipe, is not simulated. The collector rests, so that nothing
depends on when it works.

Source: RELIABILITY.md section 6 (level B); ``tests.sim.virtual``.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import secrets
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final

import grpc

from raftclient import _keepalive
from raftd.api import plain
from tests.service.channels import AioChannel, SyncChannel
from tests.service.keeper import KeeperOfAll
from tests.service.listeners import AddressInfo, Listener, connect, listen, look_up
from tests.service.loop import ServiceLoop, current_loop
from tests.service.server import MemoryServer
from tests.service.transports import PlainTransport
from tests.service.wires import WireNet
from tests.sim.virtual import virtual as virtual_node
from tests.sim.world import SimFailure

__all__ = ["virtual_service"]

_PREFIXES: Final = (
    "raftclient",
    "raftd.api",
    "raftd.node",
    "raftd.server",
    "raftd.sockets",
)
_BILLION: Final = 1_000_000_000
_EARLY_BYTES_MAX: Final = 64


class _Time:
    """Stands in for ``time``."""

    CLOCK_MONOTONIC = time.CLOCK_MONOTONIC

    @staticmethod
    def monotonic() -> float:
        """Return the time of the process that runs."""
        return current_loop().time()

    perf_counter = monotonic

    @staticmethod
    def clock_gettime(_: int) -> float:
        """Return the time of the process that runs."""
        return current_loop().time()

    @staticmethod
    def time_ns() -> int:
        """Return the wall time of the host that runs."""
        loop = current_loop()
        return loop.host.clock.wall_ms(loop.world.now_us) * 1_000_000

    @staticmethod
    def monotonic_ns() -> int:
        """Return the time of the process that runs."""
        return int(current_loop().time() * _BILLION)


class _Random:
    """Stands in for ``random``."""

    Random = random.Random

    @staticmethod
    def uniform(low: float, high: float) -> float:
        """Draw by the seed."""
        return current_loop().rng.uniform(low, high)


class _Secrets:
    """Stands in for ``secrets``."""

    @staticmethod
    def token_bytes(count: int) -> bytes:
        """Draw by the seed."""
        return current_loop().rng.randbytes(count)


class _Uuid:
    """Stands in for ``uuid``."""

    @staticmethod
    def uuid4() -> uuid.UUID:
        """Draw by the seed."""
        return uuid.UUID(bytes=current_loop().rng.randbytes(16), version=4)


class _Socket:
    """Stands in for ``socket``."""

    SOCK_STREAM = socket.SOCK_STREAM

    @staticmethod
    def gethostname() -> str:
        """Return the host that runs."""
        return current_loop().host.name


class _Os:
    """Stands in for ``os``."""

    @staticmethod
    def getpid() -> int:
        """Return which process of the host it is."""
        return current_loop().host.life


class _Logger:
    """Stands in for the logger of a door: what it calls an error is one of the run."""

    @staticmethod
    def error(event: str, *args: object, exc_info: BaseException | None = None) -> None:
        """Fail the run, unless the process has just been killed."""
        loop = current_loop()
        if not loop.is_dead:
            failure = SimFailure(f"{loop.label}: {event % args}: {exc_info!r}")
            failure.__cause__ = exc_info
            loop.world.fail(failure)


_STAND_INS: Final[tuple[tuple[ModuleType, str, Any], ...]] = (
    (time, "time", _Time),
    (random, "random", _Random),
    (secrets, "secrets", _Secrets),
    (uuid, "uuid", _Uuid),
    (socket, "socket", _Socket),
    (os, "os", _Os),
)


def _stand_ins() -> Iterator[tuple[Any, str, Any]]:
    """Find what knows a real module, or the keeper."""
    keeper = KeeperOfAll()
    for name, module in sorted(sys.modules.items()):
        if not name.startswith(_PREFIXES):
            continue
        for real, attribute, stand_in in _STAND_INS:
            if getattr(module, attribute, None) is real:
                yield module, attribute, stand_in
        if name.startswith("raftd.api") and hasattr(module, "_logger"):
            yield module, "_logger", _Logger
        if getattr(module, "KEEPER", None) is _keepalive.KEEPER:
            yield module, "KEEPER", keeper


def _doors(net: WireNet) -> Iterator[tuple[Any, str, Any]]:
    def aio_channel(address: str, options: object = None) -> AioChannel:
        return AioChannel(net, current_loop(), address)

    def sync_channel(address: str, options: object = None) -> SyncChannel:
        return SyncChannel(net, current_loop().host.loops[1], address)

    def server(options: object = None) -> MemoryServer:
        return MemoryServer(net, current_loop())

    yield grpc.aio, "insecure_channel", aio_channel
    yield grpc, "insecure_channel", sync_channel
    yield grpc.aio, "server", server


def _sockets(net: WireNet) -> Iterator[tuple[Any, str, Any]]:
    async def create_server(
        loop: ServiceLoop,
        make: Callable[[], asyncio.BaseProtocol],
        host: str,
        port: int,
        *,
        backlog: int,
    ) -> Listener:
        assert backlog > 0, "somebody is to be let in"
        return listen(net, loop, make, host, port)

    async def create_connection(
        loop: ServiceLoop,
        make: Callable[[], asyncio.BaseProtocol],
        host: str,
        port: int,
    ) -> tuple[PlainTransport, asyncio.BaseProtocol]:
        return await connect(net, loop, make, host, port)

    async def getaddrinfo(
        loop: ServiceLoop,
        host: str,
        port: int,
        *,
        type: int,
    ) -> list[AddressInfo]:
        assert type == socket.SOCK_STREAM, "nothing else is listened for"
        return await look_up(net, loop, host, port)

    yield plain, "EARLY_BYTES_MAX", _EARLY_BYTES_MAX
    yield ServiceLoop, "create_server", create_server
    yield ServiceLoop, "create_connection", create_connection
    yield ServiceLoop, "getaddrinfo", getaddrinfo


@contextlib.contextmanager
def virtual_service(net: WireNet, chunk_bytes: int) -> Iterator[None]:
    """Run the body with nothing real but the code of raftd."""
    with virtual_node(chunk_bytes):
        patches = [*_stand_ins(), *_doors(net), *_sockets(net)]
        before = [(owner, name, getattr(owner, name)) for owner, name, _ in patches]
        was_collecting = gc.isenabled()
        gc.disable()
        try:
            for owner, name, value in patches:
                setattr(owner, name, value)
            yield
        finally:
            for owner, name, value in before:
                setattr(owner, name, value)
            if was_collecting:
                gc.enable()
