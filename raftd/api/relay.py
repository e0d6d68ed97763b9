"""A session's stream carried on to the leader, for clients that reach only this member.

The bytes go through as they are, both ways; only the hello is changed, so that a
stream is relayed once at most. The leader is dialled at the address that clients use,
which members reach too, through gRPC whatever the client came by.

Source: DESIGN.md section 7.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import grpc
from google.protobuf.message import DecodeError

from raftd.api.carriers import MessageWriter
from raftd.api.errors import fill_refusal
from raftd.node.refusals import NO_LEADER
from raftd.node.service import NodeService
from raftpb.v1 import sessions_pb2

__all__ = ["Relay"]

_Stream = grpc.aio.StreamStreamCall[bytes, bytes]

_METHOD: Final = "/raftpb.v1.SessionService/StreamSession"
_UNLIMITED: Final = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
]


class Relay:
    """Decides whether a stream is to be relayed, and does it."""

    def __init__(self, node: NodeService) -> None:
        self._node: Final = node

    def leader_address(self, first: bytes) -> str:
        """Return where a stream that begins like this is to go; empty = serve here."""
        try:
            hello = sessions_pb2.StreamSessionRequest.FromString(first).hello
        except DecodeError:
            return ""
        leader = self._node.header().leader
        if not hello.relay or not hello.session_id or leader == self._node.node_id:
            return ""
        members = self._node.members
        return next((m.client_address for m in members if m.node_id == leader), "")

    async def run(
        self,
        address: str,
        first: bytes,
        messages: AsyncIterator[bytes],
        writer: MessageWriter,
    ) -> None:
        """Carry a stream until either side ends it."""
        opening = sessions_pb2.StreamSessionRequest.FromString(first)
        opening.hello.relay = False
        async with grpc.aio.insecure_channel(address, options=_UNLIMITED) as channel:
            stream: _Stream = channel.stream_stream(_METHOD)()
            sending = asyncio.create_task(_send(stream, opening, messages))
            try:
                async for message in stream:
                    await writer.write(message)
            except grpc.aio.AioRpcError:
                await writer.write(_lost())
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
                stream.cancel()


async def _send(
    stream: _Stream,
    opening: sessions_pb2.StreamSessionRequest,
    messages: AsyncIterator[bytes],
) -> None:
    await stream.write(opening.SerializeToString())
    async for message in messages:
        await stream.write(message)
    await stream.done_writing()


def _lost() -> bytes:
    """Say that the leader cannot be reached; the session lives on."""
    message = sessions_pb2.StreamSessionResponse()
    fill_refusal(message.end.refusal, NO_LEADER)
    return message.SerializeToString()
