"""A session stream through gRPC, where no plain one is to be had.

Source: proto/raftpb/v1/sessions.proto, StreamSession.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import grpc

from raftclient._status import error_from_rpc
from raftclient._stream import Stream, StreamEnded
from raftclient._wire import STREAM_METHOD
from raftclient.errors import Unavailable
from raftpb.v1 import sessions_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftclient._shared import Shared
    from raftpb.v1.sessions_pb2 import StreamSessionResponse

__all__ = ["RpcStream"]


class RpcStream(Stream):
    """See the module."""

    def __init__(self, shared: Shared, address: str, *, is_read_only: bool) -> None:
        super().__init__(shared, address, is_read_only=is_read_only)
        method: grpc.aio.StreamStreamMultiCallable[bytes, StreamSessionResponse] = (
            shared.channels.get(address).stream_stream(
                STREAM_METHOD,
                response_deserializer=sessions_pb2.StreamSessionResponse.FromString,
            )
        )
        self._call: Final = shared.channels.in_flight.begin(method)
        self._is_answered = False
        self._waker: asyncio.Future[None] | None = None

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
        self._is_answered = True
        return message

    async def carry(
        self,
        take: Callable[[StreamSessionResponse], None],
        give: Callable[[], bytes | None],
    ) -> None:
        """Read here, and write in a task of its own."""
        writer = asyncio.get_running_loop().create_task(self._write(give))
        try:
            while True:
                take(await self.receive())
        finally:
            # A write under way is failed by the cut, not cancelled: gRPC would answer
            # it all the same, perhaps to a loop that is closed by then.
            self.cut()
            self.ring()
            with contextlib.suppress(asyncio.CancelledError):
                await writer

    async def _write(self, give: Callable[[], bytes | None]) -> None:
        while not self.is_cut:
            message = give()
            if message is None:
                waker = self._waker = asyncio.get_running_loop().create_future()
                await waker
                continue
            try:
                await self.send(message)
            except StreamEnded:
                return  # the reader finds out why

    def ring(self) -> None:
        """There is something to write."""
        waker, self._waker = self._waker, None
        if waker is not None and not waker.done():
            waker.set_result(None)

    def _note_hello(self) -> None:
        is_answered = self._is_answered
        is_plain_better = self._dialects.note_rpc(
            self.address, self._now_s(), is_answered=is_answered
        )
        if is_plain_better:
            raise self._of_dialect()

    def _cut(self) -> None:
        self._call.cancel()

    def _if_cut(self, cancelled: asyncio.CancelledError) -> None:
        """Tell gRPC's word for a cut stream from the cancellation of the caller."""
        task = asyncio.current_task()
        if self.is_cut and not (task is not None and task.cancelling()):
            raise self._given_up() from cancelled
