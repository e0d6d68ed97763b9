"""One session stream: hello, messages both ways, and how it ends.

Knows gRPC and nothing of numbers or retries; every way to end is ``StreamEnded``.
Source: proto/raftpb/v1/sessions.proto, StreamSession.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import grpc

from raftclient._endpoints import members_of
from raftclient._status import error_from_refusal, error_from_rpc
from raftclient._wire import STREAM_METHOD
from raftclient.errors import RaftError, Unavailable
from raftpb.v1 import sessions_pb2

if TYPE_CHECKING:
    from raftclient._shared import Shared
    from raftpb.v1.sessions_pb2 import StreamHello, StreamSessionResponse

__all__ = ["Stream", "StreamEnded"]


_REDIRECTS: Final = frozenset({"NOT_LEADER", "NO_LEADER", "SHUTTING_DOWN"})


class StreamEnded(Exception):
    """The stream is over; the session is not.

    Attributes:
        error: Why, if the member or gRPC said so.
        is_redirect: The member does not lead (any more), and may name who does.
        leader: Node id, 0 = unknown.
        leader_address: As that member advertises it.
        node_id: Of the member that said so, 0 = unknown.
    """

    def __init__(
        self,
        error: RaftError,
        *,
        is_redirect: bool = False,
        leader: int = 0,
        leader_address: str = "",
        node_id: int = 0,
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.is_redirect = is_redirect
        self.leader = leader
        self.leader_address = leader_address
        self.node_id = node_id


class Stream:
    """An open stream to one member."""

    def __init__(self, shared: Shared, address: str, *, is_read_only: bool) -> None:
        self.address: Final = address
        self.is_read_only: Final = is_read_only
        self._endpoints: Final = shared.endpoints
        method: grpc.aio.StreamStreamMultiCallable[bytes, StreamSessionResponse] = (
            shared.channels.get(address).stream_stream(
                STREAM_METHOD,
                response_deserializer=sessions_pb2.StreamSessionResponse.FromString,
            )
        )
        self._call: Final = shared.channels.in_flight.begin(method)
        self.is_cut = False
        """Whether it was ended from this side."""

    async def greet(
        self, hello: StreamHello, timeout_s: float
    ) -> StreamSessionResponse:
        """Say hello and return the first message, which has the welcome.

        Raises:
            StreamEnded: There was none in time, or the member ended the stream.
        """
        message = sessions_pb2.StreamSessionRequest(hello=hello)
        try:
            async with asyncio.timeout(timeout_s):
                await self.send(message.SerializeToString())
                first = await self.receive()
        except TimeoutError as error:
            self.cut()
            silence = Unavailable(f"{self.address} did not answer in {timeout_s:g} s")
            raise StreamEnded(silence) from error
        return first

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

    async def receive(self) -> StreamSessionResponse:
        """Read one message; raises ``StreamEnded`` when there will be no more."""
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise StreamEnded(error_from_rpc(error)) from error
        except asyncio.CancelledError as error:
            self._if_cut(error)
            raise
        if not isinstance(message, sessions_pb2.StreamSessionResponse):  # EOF
            raise StreamEnded(Unavailable(f"{self.address} ended the stream"))
        if message.members:
            self._endpoints.learn_members(members_of(message, message.header))
        if message.HasField("end") and not message.replies:
            raise self.end_of(message)
        return message

    @staticmethod
    def end_of(message: StreamSessionResponse) -> StreamEnded:
        """Return what a message with ``end`` says."""
        end = message.end
        return StreamEnded(
            error_from_refusal(end.refusal),
            is_redirect=end.refusal.reason in _REDIRECTS
            and end.leader != message.header.node_id,
            leader=end.leader,
            leader_address=end.leader_address,
            node_id=message.header.node_id,
        )

    def cut(self) -> None:
        """End it from this side; may be called twice."""
        self.is_cut = True
        self._call.cancel()

    def _if_cut(self, cancelled: asyncio.CancelledError) -> None:
        """Tell gRPC's word for a cut stream from the cancellation of the caller."""
        task = asyncio.current_task()
        if self.is_cut and not (task is not None and task.cancelling()):
            raise StreamEnded(Unavailable("the stream was given up")) from cancelled
