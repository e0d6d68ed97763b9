"""Clients of the doors as any language would write them: stubs, and one stream.

A stream goes through gRPC or over a plain connection, as the test's ``carrier`` says.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Protocol

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from raftpb.v1 import (
    cluster_pb2_grpc,
    elections_pb2_grpc,
    kv_pb2_grpc,
    leases_pb2_grpc,
    locks_pb2_grpc,
    queues_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
    txn_pb2_grpc,
)
from tests.api.wire import Wire, framed

__all__ = [
    "KEY",
    "Carrier",
    "PlainCarrier",
    "Refused",
    "RpcCarrier",
    "StreamClient",
    "Stubs",
    "open_session",
    "refusal_of",
    "session_stream",
]

KEY = b"k" * 16


_STREAM_METHOD = "/raftpb.v1.SessionService/StreamSession"


class Carrier(Protocol):
    """What carries a stream."""

    async def write(self, message: bytes) -> None:
        """Send one message."""

    async def read(self) -> bytes | None:
        """Read one message; None at the end."""

    def cancel(self) -> None:
        """Be gone; may be called twice."""


class RpcCarrier:
    """A stream through gRPC."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.call: Any = channel.stream_stream(_STREAM_METHOD)()

    async def write(self, message: bytes) -> None:
        await self.call.write(message)

    async def read(self) -> bytes | None:
        message = await self.call.read()
        if message is grpc.aio.EOF:
            return None
        assert isinstance(message, bytes)
        return message

    def cancel(self) -> None:
        self.call.cancel()


class PlainCarrier:
    """A plain stream, opened with its first message."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._wire: Wire | None = None

    async def write(self, message: bytes) -> None:
        if self._wire is None:
            self._wire = await Wire.dial(self._port)
            await self._wire.greet()
        await self._wire.write(framed(message))

    async def read(self) -> bytes | None:
        assert self._wire is not None, "who connects speaks first"
        return await self._wire.frame()

    def cancel(self) -> None:
        if self._wire is not None:
            self._wire.close()


class Stubs:
    """A generated stub of each service.

    Args:
        channel: Of unary calls and server streams.
        plain_port: Where session streams go; None: through the channel.
    """

    def __init__(
        self, channel: grpc.aio.Channel, plain_port: int | None = None
    ) -> None:
        self.channel = channel
        self._plain_port = plain_port
        self._carriers: list[Carrier] = []
        # The stubs serve both kinds of channel; their types say so badly.
        any_channel: Any = channel
        self.kv: Any = kv_pb2_grpc.KvServiceStub(any_channel)
        self.txn: Any = txn_pb2_grpc.TxnServiceStub(any_channel)
        self.leases: Any = leases_pb2_grpc.LeaseServiceStub(any_channel)
        self.sessions: Any = sessions_pb2_grpc.SessionServiceStub(any_channel)
        self.locks: Any = locks_pb2_grpc.LockServiceStub(any_channel)
        self.elections: Any = elections_pb2_grpc.ElectionServiceStub(any_channel)
        self.queues: Any = queues_pb2_grpc.QueueServiceStub(any_channel)
        self.cluster: Any = cluster_pb2_grpc.ClusterServiceStub(any_channel)

    def open_carrier(self) -> Carrier:
        """Open what carries one session stream."""
        port = self._plain_port
        carrier: Carrier = (
            RpcCarrier(self.channel) if port is None else PlainCarrier(port)
        )
        self._carriers.append(carrier)
        return carrier

    def cut_streams(self) -> None:
        """End all session streams from this side."""
        for carrier in self._carriers:
            carrier.cancel()


class Refused:
    """What a refused call said."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.code = error.code()
        self.sentence = error.details() or ""
        call: Any = error  # has what is asked for; the stubs know the other API only
        status = rpc_status.from_call(call)
        assert status is not None, f"a bare status: {error}"
        assert status.message == self.sentence
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info)
        assert info.domain == "raftd"
        self.reason = info.reason
        self.metadata = dict(info.metadata)
        self.applied = self.metadata["applied"]


async def refusal_of(call: Awaitable[Any]) -> Refused:
    """Expect a refusal, and say what it was."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return Refused(caught.value)


async def open_session(stubs: Stubs, key: bytes = KEY, ttl_ms: int = 10_000) -> int:
    """Open a session and return its id."""
    opened = await stubs.sessions.OpenSession(
        sessions_pb2.OpenSessionRequest(session_key=key, ttl_ms=ttl_ms)
    )
    session: int = opened.session_id
    return session


class StreamClient:
    """One session stream; replies are kept by tag."""

    def __init__(self, stubs: Stubs) -> None:
        self._carrier = stubs.open_carrier()
        self.replies: dict[int, list[sessions_pb2.StreamReply]] = {}
        self.messages: list[sessions_pb2.StreamSessionResponse] = []
        self.end: sessions_pb2.StreamEnd | None = None

    async def hello(self, session: int = 0, key: bytes = b"") -> None:
        await self.send(
            hello=sessions_pb2.StreamHello(session_id=session, session_key=key)
        )

    async def send(self, *requests: sessions_pb2.StreamRequest, **fields: Any) -> None:
        message = sessions_pb2.StreamSessionRequest(requests=requests, **fields)
        await self.send_bytes(message.SerializeToString())

    async def send_bytes(self, data: bytes) -> None:
        """Send what need not be a message."""
        await self._carrier.write(data)

    async def send_last(self) -> None:
        """Say that nothing more is asked; a plain stream would end with that."""
        assert isinstance(self._carrier, RpcCarrier)
        await self._carrier.call.done_writing()

    async def read(self) -> sessions_pb2.StreamSessionResponse | None:
        """Read one message; None at the end of the stream."""
        data = await self._carrier.read()
        if data is None:
            return None
        message = sessions_pb2.StreamSessionResponse.FromString(data)
        self.messages.append(message)
        for reply in message.replies:
            self.replies.setdefault(reply.tag, []).append(reply)
        if message.HasField("end"):
            self.end = message.end
        return message

    async def reply(self, tag: int, count: int = 1) -> sessions_pb2.StreamReply:
        """Read until a tag has so many replies, and return the last of them."""
        while len(self.replies.get(tag, [])) < count:
            assert await self.read() is not None, f"the stream ended: {self.end}"
        return self.replies[tag][count - 1]

    async def ended(self) -> sessions_pb2.StreamEnd:
        """Read to the end and return its reason."""
        while await self.read() is not None:
            continue
        assert self.end is not None, "the stream ended without a reason"
        return self.end

    def cancel(self) -> None:
        self._carrier.cancel()


@contextlib.asynccontextmanager
async def session_stream(stubs: Stubs) -> AsyncIterator[StreamClient]:
    """Open a session and its stream; the welcome has been read."""
    session = await open_session(stubs)
    stream = StreamClient(stubs)
    await stream.hello(session, KEY)
    assert await stream.read() is not None
    try:
        yield stream
    finally:
        stream.cancel()
