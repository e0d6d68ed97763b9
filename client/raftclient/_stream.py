"""One session stream: hello, messages both ways, and how it ends.

Knows nothing of numbers or retries; every way to end is ``StreamEnded``. What carries
its messages is gRPC (``raftclient._rpc_stream``) or a plain connection
(``raftclient._plain``).

Source: proto/raftpb/v1/sessions.proto, StreamSession.
"""

from __future__ import annotations

import abc
import asyncio
from typing import TYPE_CHECKING, Final

from raftclient._endpoints import members_of
from raftclient._status import error_from_refusal
from raftclient.errors import RaftError, Unavailable
from raftpb.v1 import sessions_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

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
        is_of_dialect: It only has to be spoken to in another way.
        is_silent: The member owed an answer, and nothing came.
    """

    def __init__(
        self,
        error: RaftError,
        *,
        is_redirect: bool = False,
        leader: int = 0,
        leader_address: str = "",
        node_id: int = 0,
        is_of_dialect: bool = False,
        is_silent: bool = False,
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.is_redirect = is_redirect
        self.leader = leader
        self.leader_address = leader_address
        self.node_id = node_id
        self.is_of_dialect = is_of_dialect
        self.is_silent = is_silent


class Stream(abc.ABC):
    """An open stream to one member."""

    def __init__(self, shared: Shared, address: str, *, is_read_only: bool) -> None:
        self.address: Final = address
        self.is_read_only: Final = is_read_only
        self._endpoints: Final = shared.endpoints
        self._dialects: Final = shared.dialects
        self.is_cut = False
        """Whether it was ended from this side."""

    async def say_hello(
        self, hello: StreamHello, timeout_s: float
    ) -> StreamSessionResponse:
        """Say hello and return the first message, which has the welcome.

        Args:
            hello: What to say.
            timeout_s: For connecting, and again for the answer.

        Raises:
            StreamEnded: There was none in time, or the member ended the stream.
        """
        message = sessions_pb2.StreamSessionRequest(hello=hello)
        try:
            async with asyncio.timeout(timeout_s):
                await self._open()
            async with asyncio.timeout(timeout_s):
                await self.send(message.SerializeToString())
                first = await self.receive()
        except TimeoutError as error:
            self._note_hello()
            self.cut()
            silence = Unavailable(f"{self.address} did not answer in {timeout_s:g} s")
            raise StreamEnded(silence, is_silent=True) from error
        except StreamEnded:
            self._note_hello()
            raise
        self._note_hello()
        return first

    @abc.abstractmethod
    def _note_hello(self) -> None:
        """Note what became of the hello; raises ``StreamEnded`` for a better way."""

    @abc.abstractmethod
    async def _open(self) -> None:
        """Make it ready to send; raises ``StreamEnded``."""

    @abc.abstractmethod
    async def send(self, message: bytes) -> None:
        """Write one message; waits while the connection takes no more."""

    @abc.abstractmethod
    async def _next(self) -> StreamSessionResponse:
        """Read one message; raises ``StreamEnded`` when there will be no more."""

    @abc.abstractmethod
    async def carry(
        self,
        take: Callable[[StreamSessionResponse], None],
        give: Callable[[], bytes | None],
    ) -> None:
        """Hand in each message that comes, and write all that is given, to the end.

        Args:
            take: May raise ``StreamEnded``, which ends the stream.
            give: Asked for the next message at first, and whenever it was rung for.

        Raises:
            StreamEnded: There will be no more.
        """

    @abc.abstractmethod
    def ring(self) -> None:
        """There is something to write; heard while ``carry`` is under way."""

    async def receive(self) -> StreamSessionResponse:
        """Read one message; raises ``StreamEnded`` when there will be no more."""
        message = await self._next()
        self._look_at(message)
        return message

    def _look_at(self, message: StreamSessionResponse) -> None:
        """Learn what a message says of members; raises ``StreamEnded`` at its end."""
        if message.members:
            self._endpoints.learn_members(members_of(message, message.header))
        if message.HasField("end") and not message.replies:
            raise self.end_of(message)

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
        self._cut()

    @abc.abstractmethod
    def _cut(self) -> None:
        """Let go of the connection; may be called twice."""

    def _of_dialect(self) -> StreamEnded:
        other = Unavailable(f"{self.address} is to be spoken to in another way")
        return StreamEnded(other, is_of_dialect=True)

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()

    def _given_up(self) -> StreamEnded:
        return StreamEnded(Unavailable("the stream was given up"))

    def _ended_there(self) -> StreamEnded:
        return StreamEnded(Unavailable(f"{self.address} ended the stream"))
