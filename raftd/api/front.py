"""The client port: who comes there, and to which door it leads.

The first bytes tell. A plain session stream begins with its greeting and is served
here. Everything else is gRPC's, whose server listens on a port of this machine's
loopback: its bytes are passed on as they are, both ways. So clients of any language,
and those that know plain streams, find a member at one address.

Source: docs/adr/0018.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any, Final, cast

from raftd.api.limits import DoorLimits
from raftd.api.plain import GREETING, PlainStream
from raftd.api.stream import StreamDoor
from raftd.sockets.alive import keep_alive
from raftd.sockets.pipe import Pipe

__all__ = ["LOOPBACK", "Front"]

LOOPBACK: Final = "127.0.0.1"
"""Where gRPC's own server listens."""
TELL_S_MAX: Final = 5.0
"""Who has not shown by then what it speaks is hung up on."""
_BACKLOG: Final = 1024
"""After a failover all clients come at once."""
VISITORS_MAX: Final = 4 * _BACKLOG
"""Of those who have not shown yet what they speak; the oldest goes for the newest."""
_ANY: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104  # compared, not listened on


class Front:
    """Listens for clients.

    Args:
        door: Serves plain streams.
        limits: Bound their messages.
    """

    def __init__(self, door: StreamDoor, limits: DoorLimits) -> None:
        self._door: Final = door
        self._limits: Final = limits
        self._grpc_port = 0
        self._server: asyncio.Server | None = None
        self._is_stopping = False
        self._visitors: Final[dict[_Visitor, None]] = {}
        self._streams: Final[dict[PlainStream, None]] = {}
        self._pipes: Final[dict[Pipe, None]] = {}
        self._is_idle: Final = asyncio.Event()
        self._is_idle.set()
        self._has_no_pipes: Final = asyncio.Event()
        self._has_no_pipes.set()

    async def listen(self, host: str, port: int, grpc_port: int) -> int:
        """Listen; returns the port, which may have been 0.

        Args:
            host: Name or address; the one for all is for IPv4 and IPv6 alike.
            port: 0 = any free one.
            grpc_port: Where gRPC listens on the loopback.

        Raises:
            OSError: In use, or not this machine's.
        """
        self._grpc_port = grpc_port
        where: dict[str, Any] = {"host": host, "port": port}
        if host in _ANY and socket.has_dualstack_ipv6():
            both = socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True
            )
            where = {"sock": both}
        self._server = server = await asyncio.get_running_loop().create_server(
            lambda: _Visitor(self), backlog=_BACKLOG, **where
        )
        return int(server.sockets[0].getsockname()[1])

    async def stop(self, grace_s: float) -> None:
        """Let nobody in any more, and plain streams end by themselves for a while.

        May be called twice, or before ``listen``.
        """
        self._is_stopping = True
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for visitor in list(self._visitors):
            visitor.hang_up()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._is_idle.wait()
        for stream in list(self._streams):
            stream.abort()

    async def end_pipes(self, grace_s: float) -> None:
        """Let clients take for a while what gRPC, which has ended, said last."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._has_no_pipes.wait()
        for pipe in list(self._pipes):
            pipe.abort()

    # --- visitors ----------------------------------------------------------------

    def note(self, visitor: _Visitor) -> None:
        """Somebody came."""
        self._visitors[visitor] = None
        if len(self._visitors) > VISITORS_MAX:
            oldest = next(iter(self._visitors))
            self.forget(oldest)
            oldest.hang_up()
        if self._is_stopping:  # it was on its way in
            visitor.hang_up()

    def forget(self, visitor: _Visitor) -> None:
        """It went, or was let in."""
        self._visitors.pop(visitor, None)

    def let_in(self, transport: asyncio.Transport, data: bytes) -> None:
        """Serve a plain stream; ``data`` came behind its greeting."""
        stream = PlainStream(self._door, self._limits, self._ended)
        self._streams[stream] = None
        self._is_idle.clear()
        transport.set_protocol(stream)
        stream.begin(transport, data)

    def _ended(self, stream: PlainStream) -> None:
        self._streams.pop(stream, None)
        if not self._streams:
            self._is_idle.set()

    def pass_on(self, transport: asyncio.Transport, data: bytes) -> None:
        """Lead somebody to gRPC's door; ``data`` came already."""
        pipe = Pipe(transport, data, self._passed)
        self._pipes[pipe] = None
        self._has_no_pipes.clear()
        pipe.open(LOOPBACK, self._grpc_port)

    def _passed(self, pipe: Pipe) -> None:
        self._pipes.pop(pipe, None)
        if not self._pipes:
            self._has_no_pipes.set()


class _Visitor(asyncio.Protocol):
    """A connection that has not shown yet what it speaks."""

    def __init__(self, front: Front) -> None:
        self._front: Final = front
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there (asyncio's call)."""
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        keep_alive(self._transport)
        self._front.note(self)
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(TELL_S_MAX, self.hang_up)

    def data_received(self, data: bytes) -> None:
        """The first bytes came (asyncio's call)."""
        self._data += data
        came = self._data
        if len(came) < len(GREETING) and GREETING.startswith(came):
            return
        transport = self._transport
        assert transport is not None, "bytes come on a connection"
        self._leave()
        if came.startswith(GREETING):
            self._front.let_in(transport, came[len(GREETING) :])
        else:
            self._front.pass_on(transport, came)

    def connection_lost(self, exc: Exception | None) -> None:
        """It went without a word (asyncio's call)."""
        self._leave()

    def hang_up(self) -> None:
        """Let go of it."""
        if self._transport is not None:
            self._transport.abort()

    def _leave(self) -> None:
        self._front.forget(self)
        if self._deadline is not None:
            self._deadline.cancel()
