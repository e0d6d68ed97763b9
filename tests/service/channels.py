"""The faces of calls: what ``grpc.aio.insecure_channel`` and its kin give to callers.

Rules: only what raftd uses exists; anything else is an AttributeError, and then it has
to be added here with what the real one does.

Source: grpc.aio (``_call.py``, ``_channel.py``), read as of grpcio 1.85.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Self

import grpc

from tests.service.calls import Connection, Rpc
from tests.service.loop import ServiceLoop
from tests.service.wires import WireNet

__all__ = ["AioChannel", "SyncChannel"]

_FINISHED: Final = "RPC already finished."
_HALF_CLOSED: Final = 'RPC is half closed after calling "done_writing".'

_Serializer = Callable[[Any], bytes] | None
_Deserializer = Callable[[bytes], Any] | None


class _Call:
    """A call that is answered by a stream, and may send one too."""

    def __init__(self, rpc: Rpc, serialize: _Serializer, parse: _Deserializer) -> None:
        self._rpc: Final = rpc
        self._serialize: Final = serialize
        self._parse: Final = parse
        self._is_half_closed = False

    def __del__(self) -> None:
        if self._rpc.status is None and not self._rpc.loop.is_dead:
            self._rpc.cancel()

    def cancel(self) -> bool:
        """End it from this side."""
        return self._rpc.cancel()

    def done(self) -> bool:
        """Tell whether it is over."""
        return self._rpc.status is not None

    def _raise_for_status(self) -> None:
        rpc = self._rpc
        if rpc.is_locally_cancelled:
            raise asyncio.CancelledError
        assert rpc.status is not None, "it is over"
        if rpc.status[0] is not grpc.StatusCode.OK:
            raise rpc.error()

    async def read(self) -> Any:
        """Read a message; EOF at the end, or the error."""
        if self.done():
            self._raise_for_status()
            return grpc.aio.EOF
        try:
            data = await self._rpc.receive()
        except asyncio.CancelledError:
            self.cancel()
            raise
        if data is None:
            self._raise_for_status()
            return grpc.aio.EOF
        return data if self._parse is None else self._parse(data)

    async def write(self, message: Any) -> None:
        """Send a message."""
        if self.done():
            raise asyncio.InvalidStateError(_FINISHED)
        if self._is_half_closed:
            raise asyncio.InvalidStateError(_HALF_CLOSED)
        data = message if self._serialize is None else self._serialize(message)
        try:
            await self._rpc.send(data)
        except asyncio.CancelledError:
            self.cancel()
            raise
        if self.done():
            self._raise_for_status()

    async def done_writing(self) -> None:
        """Say that nothing more will be sent."""
        if not self._is_half_closed and not self.done():
            self._is_half_closed = True
            self._rpc.half_close()

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message


class AioChannel:
    """Stands in for ``grpc.aio.Channel``."""

    def __init__(self, net: WireNet, loop: ServiceLoop, address: str) -> None:
        self._connection: Final = Connection(net, loop, address)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """End all calls and the connection."""
        assert grace is None, "raftd gives none"
        self._connection.close()

    def unary_stream(
        self,
        method: str,
        request_serializer: _Serializer = None,
        response_deserializer: _Deserializer = None,
    ) -> Callable[..., _Call]:
        """Return what begins a call of one request."""

        def begin(request: Any, *, timeout: float | None = None) -> _Call:
            rpc = _begin(self._connection, method, timeout)
            data = request_serializer(request) if request_serializer else request
            rpc.loop.create_task(_send_one(rpc, data))
            return _Call(rpc, request_serializer, response_deserializer)

        return begin

    def stream_stream(
        self,
        method: str,
        request_serializer: _Serializer = None,
        response_deserializer: _Deserializer = None,
    ) -> Callable[[], _Call]:
        """Return what begins a call of streams both ways."""

        def begin() -> _Call:
            rpc = _begin(self._connection, method, None)
            return _Call(rpc, request_serializer, response_deserializer)

        return begin


def _begin(connection: Connection, method: str, timeout_s: float | None) -> Rpc:
    if connection.is_closed:
        raise grpc.aio.UsageError("Channel is closed.")
    return Rpc(connection, method, timeout_s)


async def _send_one(rpc: Rpc, data: bytes) -> None:
    await rpc.send(data)
    rpc.half_close()


class _Future:
    """Stands in for the ``grpc.Future`` of a unary call, used by another thread."""

    def __init__(self, rpc: Rpc, data: bytes, parse: _Deserializer) -> None:
        self._rpc: Final = rpc
        self._parse: Final = parse
        self._is_cancelled = False
        self._answer: bytes | None = None
        rpc.loop.create_task(self._run(data))

    async def _run(self, data: bytes) -> None:
        await _send_one(self._rpc, data)
        self._answer = await self._rpc.receive()
        await self._rpc.receive()

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        """Call back on the thread of the channel."""
        self._rpc.when_done(lambda: callback(self))

    def cancel(self) -> bool:
        """Give it up, from any thread."""
        if self._rpc.status is not None or self._is_cancelled:
            return False
        self._is_cancelled = True
        self._rpc.loop.call_soon_threadsafe(self._rpc.cancel)
        return True

    def cancelled(self) -> bool:
        """Tell whether it was given up."""
        return self._is_cancelled

    def exception(self) -> BaseException | None:
        """Return its error, None if it was answered."""
        self._check()
        assert self._rpc.status is not None, "asked when it is over"
        is_ok = self._rpc.status[0] is grpc.StatusCode.OK
        return None if is_ok else self._rpc.error()

    def result(self) -> Any:
        """Return the answer, or raise."""
        error = self.exception()
        if error is not None:
            raise error
        assert self._answer is not None, "what ended well was answered"
        return self._parse(self._answer) if self._parse else self._answer

    def _check(self) -> None:
        if self._is_cancelled:
            raise grpc.FutureCancelledError


class SyncChannel:
    """Stands in for ``grpc.Channel`` on a thread of its own."""

    def __init__(self, net: WireNet, loop: ServiceLoop, address: str) -> None:
        self._connection: Final = Connection(net, loop, address)
        self._is_closed = False

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: _Deserializer,
    ) -> _UnaryUnary:
        """Return what begins a call."""
        return _UnaryUnary(self, method, request_serializer, response_deserializer)

    def begin(self, method: str, timeout_s: float) -> Rpc:
        """Begin a call; from the channel's own thread."""
        if self._is_closed:
            raise ValueError("Cannot invoke RPC on closed channel!")
        return Rpc(self._connection, method, timeout_s)

    def close(self) -> None:
        """End all calls and the connection; from any thread."""
        self._is_closed = True
        self._connection.loop.call_soon_threadsafe(self._connection.close)


class _UnaryUnary:
    """Begins unary calls."""

    def __init__(
        self,
        channel: SyncChannel,
        method: str,
        serialize: Callable[[Any], bytes],
        parse: _Deserializer,
    ) -> None:
        self._channel: Final = channel
        self._method: Final = method
        self._serialize: Final = serialize
        self._parse: Final = parse

    def future(self, request: Any, timeout: float) -> _Future:
        """Begin one."""
        rpc = self._channel.begin(self._method, timeout)
        return _Future(rpc, self._serialize(request), self._parse)
