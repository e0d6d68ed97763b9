"""A session stream through gRPC: to members that know no plain streams.

Source: proto/raftpb/v1/sessions.proto, StreamSession.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import grpc

from raftclient._status import error_from_rpc
from raftclient._stream import Stream, StreamEnded
from raftclient._wire import STREAM_METHOD
from raftclient.errors import Unavailable
from raftpb.v1 import sessions_pb2

if TYPE_CHECKING:
    from raftclient._shared import Shared
    from raftpb.v1.sessions_pb2 import StreamSessionResponse

__all__ = ["RpcStream"]


class RpcStream(Stream):
    """See the module."""

    def __init__(self, shared: Shared, address: str, *, is_read_only: bool) -> None:
        super().__init__(shared.endpoints, address, is_read_only=is_read_only)
        method: grpc.aio.StreamStreamMultiCallable[bytes, StreamSessionResponse] = (
            shared.channels.get(address).stream_stream(
                STREAM_METHOD,
                response_deserializer=sessions_pb2.StreamSessionResponse.FromString,
            )
        )
        self._call: Final = shared.channels.in_flight.begin(method)

    async def _open(self) -> None:
        """Do nothing: gRPC connects by itself."""

    async def send(self, message: bytes) -> None:
        """Write one message; waits while the connection takes no more."""
        try:
            await self._call.write(message)
        except grpc.aio.AioRpcError as error:
            raise StreamEnded(error_from_rpc(error)) from error
        except (asyncio.InvalidStateError, grpc.aio.UsageError) as error:
            raise StreamEnded(Unavailable(f"the stream is over: {error}")) from error
        except asyncio.CancelledError as error:
            self._if_cut(error)
            raise

    async def _next(self) -> StreamSessionResponse:
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise StreamEnded(error_from_rpc(error)) from error
        except asyncio.CancelledError as error:
            self._if_cut(error)
            raise
        if not isinstance(message, sessions_pb2.StreamSessionResponse):  # EOF
            raise self._ended_there()
        return message

    def _note_silence(self) -> None:
        """Do nothing: gRPC is what everybody speaks."""

    def _cut(self) -> None:
        self._call.cancel()

    def _if_cut(self, cancelled: asyncio.CancelledError) -> None:
        """Tell gRPC's word for a cut stream from the cancellation of the caller."""
        task = asyncio.current_task()
        if self.is_cut and not (task is not None and task.cancelling()):
            raise self._given_up() from cancelled
