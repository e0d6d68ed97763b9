"""Clients of the doors as any language would write them: stubs, and one stream."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable
from typing import Any

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

__all__ = [
    "KEY",
    "Refused",
    "StreamClient",
    "Stubs",
    "open_session",
    "refusal_of",
    "session_stream",
]

KEY = b"k" * 16


class Stubs:
    """A generated stub of each service."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
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
        self._call = stubs.sessions.StreamSession()
        self.replies: dict[int, list[sessions_pb2.StreamReply]] = {}
        self.messages: list[sessions_pb2.StreamSessionResponse] = []
        self.end: sessions_pb2.StreamEnd | None = None

    async def hello(self, session: int = 0, key: bytes = b"") -> None:
        await self.send(
            hello=sessions_pb2.StreamHello(session_id=session, session_key=key)
        )

    async def send(self, *requests: sessions_pb2.StreamRequest, **fields: Any) -> None:
        message = sessions_pb2.StreamSessionRequest(requests=requests, **fields)
        await self._call.write(message)

    async def send_last(self) -> None:
        """Say that nothing more is asked."""
        await self._call.done_writing()

    async def read(self) -> sessions_pb2.StreamSessionResponse | None:
        """Read one message; None at the end of the stream."""
        message = await self._call.read()
        if message is grpc.aio.EOF:
            return None
        assert isinstance(message, sessions_pb2.StreamSessionResponse)
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
        self._call.cancel()


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
