"""A session stream without gRPC: messages put in, messages taken out, at will."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

from raftd.api.limits import DoorLimits
from raftd.api.registry import Table
from raftd.api.stream import StreamDoor
from raftd.node.service import WriteCall
from raftd.statemachine.schema.sessions import OpenSession, SessionOpened
from raftpb.v1 import sessions_pb2
from tests.api.clients import KEY
from tests.api.solo_node import SoloNode, hash_key

__all__ = ["Pipe"]


class Pipe:
    """One stream of a session; the client reads only while ``reads`` is set."""

    def __init__(self, node: SoloNode, limits: DoorLimits) -> None:
        self.node = node
        self.reads = asyncio.Event()
        self.reads.set()
        self.messages: list[sessions_pb2.StreamSessionResponse] = []
        self.ended = asyncio.Event()
        self._door = StreamDoor(node, Table(limits), limits)
        self._in: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._came = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        command = OpenSession(hash_key(KEY), 10_000, "")
        opened = (await self.node.write(WriteCall(command=command), None)).answer
        assert isinstance(opened, SessionOpened)
        self._task = asyncio.create_task(self._serve())
        hello = sessions_pb2.StreamHello(session_id=opened.session, session_key=KEY)
        self.send(hello=hello)
        await self.has_messages(1)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def send(self, *requests: sessions_pb2.StreamRequest, **fields: Any) -> None:
        message = sessions_pb2.StreamSessionRequest(requests=requests, **fields)
        self._in.put_nowait(message.SerializeToString())

    async def has_messages(self, count: int) -> None:
        """Wait until so many messages were written."""
        while len(self.messages) < count:
            self._came.clear()
            await self._came.wait()

    async def replies(self, count: int) -> dict[int, sessions_pb2.StreamReply]:
        """Wait until so many tags have a reply, and return the last of each."""
        while True:
            found = {
                reply.tag: reply
                for message in self.messages
                for reply in message.replies
            }
            if len(found) >= count:
                return found
            await self.has_messages(len(self.messages) + 1)

    def end(self) -> sessions_pb2.StreamEnd:
        """Return why the stream ended."""
        return self.messages[-1].end

    async def write(self, message: bytes) -> None:
        """Take one message, as gRPC would."""
        await self.reads.wait()
        found = sessions_pb2.StreamSessionResponse.FromString(message)
        self.messages.append(found)
        self._came.set()

    async def _serve(self) -> None:
        await self._door.serve(self._incoming(), self)
        self.ended.set()

    async def _incoming(self) -> AsyncIterator[bytes]:
        while (message := await self._in.get()) is not None:
            yield message
