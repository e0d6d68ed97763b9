"""A stream's hello under way: given up if its member is silent and another one leads.

To wait until a member that is gone has not answered in time costs seconds, and those
who have elected since know better. A hello that asks for relaying is waited for: whom
it goes to need not lead.

Source: DESIGN.md sections 7 and 9.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from raftclient._pump import PROBE_AFTER_S
from raftclient._stream import StreamEnded
from raftclient.errors import Unavailable

if TYPE_CHECKING:
    from raftclient._endpoints import Endpoints
    from raftclient._stream import Stream
    from raftpb.v1.sessions_pb2 import StreamHello, StreamSessionResponse

__all__ = ["Hello"]


class Hello:
    """See the module."""

    def __init__(
        self, stream: Stream, hello: StreamHello, endpoints: Endpoints
    ) -> None:
        self.stream: Final = stream
        self._hello: Final = hello
        self._endpoints: Final = endpoints
        self._loop: Final = asyncio.get_running_loop()
        self._since_s: Final = self._loop.time()
        self._patience: Final = asyncio.timeout(None)

    async def run(self, timeout_s: float) -> StreamSessionResponse:
        """Say hello and return the first message; raises ``StreamEnded``.

        Args:
            timeout_s: For connecting, and again for the answer.
        """
        try:
            async with self._patience:
                return await self.stream.say_hello(self._hello, timeout_s)
        except TimeoutError as error:
            self.stream.cut()
            silence = f"{self.stream.address} does not answer, and another member leads"
            raise StreamEnded(Unavailable(silence), is_silent=True) from error

    def look_for_silence(self, now_s: float, late_s: float) -> bool:
        """Tell whether it is worth asking who leads; see ``Pump``."""
        return not self._hello.relay and now_s - late_s - self._since_s > PROBE_AFTER_S

    def is_led_elsewhere(self, leader: int) -> bool:
        """Tell whether who leads, by node id, is known to be another member."""
        return self._endpoints.is_other(self.stream.address, leader)

    def give_up(self) -> None:
        """Take the member for dead."""
        self._patience.reschedule(self._loop.time())
