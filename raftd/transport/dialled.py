"""The connection that a node dialled to one peer: it sends there, and asks there.

Source: ``links``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, cast

from raftd.consensus.messages import Message
from raftd.consensus.types import NodeId
from raftd.node.errors import LinkDown, LinkLost
from raftd.transport.frames import (
    Call,
    Frame,
    FrameError,
    Frames,
    Goodbye,
    Hello,
    Messages,
    Reply,
    encode,
)

if TYPE_CHECKING:
    from raftd.transport.links import Links, LinkSettings

__all__ = ["Dialled"]

_logger = logging.getLogger(__name__)


class Dialled:
    """One outgoing link, dialled again and again until the node stops."""

    def __init__(
        self,
        peer: NodeId,
        address: tuple[str, int],
        links: Links,
        settings: LinkSettings,
    ) -> None:
        self._peer: Final = peer
        self._address: Final = address
        self._links: Final = links
        self._settings: Final = settings
        self._transport: asyncio.Transport | None = None
        self._calls: Final[dict[int, asyncio.Future[bytes]]] = {}
        self._call_id = 0
        self._last_sentence = ""
        self.is_up = False

    async def run(self) -> None:
        """Keep the link up until cancelled."""
        retry_s = self._settings.retry_s_min
        while True:
            if await self._once():
                retry_s = self._settings.retry_s_min
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, self._settings.retry_s_max)

    async def _once(self) -> bool:
        """Dial, greet, and stay until the connection ends; True if it was greeted."""
        loop = asyncio.get_running_loop()
        host, port = self._address
        connection = _Connection(self)
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                await loop.create_connection(lambda: connection, host, port)
                connection.write(encode(self._links.greeter.hello(self._peer)))
                await connection.greeted
        except (OSError, TimeoutError) as error:
            self._say(f"cannot reach peer {self._peer} at {host}:{port}: {error}")
            connection.close()
            return False
        except FrameError as error:
            self._say(f"peer {self._peer} at {host}:{port}: {error}")
            connection.close()
            return False
        except asyncio.CancelledError:
            connection.close()
            raise
        self._last_sentence = ""
        self._transport = connection.transport
        self.is_up = True
        self._links.on_up(self._peer)
        try:
            was_closed_by_peer = await connection.closed
        finally:
            self._drop()
            connection.close()
        self._links.on_down(self._peer, was_closed_by_peer)
        return True

    def _say(self, sentence: str) -> None:
        """Log a reason once, not at each attempt."""
        if sentence != self._last_sentence:
            self._last_sentence = sentence
            _logger.info("link_failed peer=%d reason=%s", self._peer, sentence)

    def _drop(self) -> None:
        self.is_up = False
        self._transport = None
        calls = list(self._calls.values())
        self._calls.clear()
        for future in calls:
            if not future.done():
                future.set_exception(LinkLost(f"the link to {self._peer} broke"))

    def send(self, messages: Sequence[Message]) -> None:
        """Send if the link is up and not choked, else drop."""
        transport = self._open_transport()
        if transport is None:
            return
        if transport.get_write_buffer_size() > self._settings.buffer_bytes_max:
            transport.abort()
            return
        transport.write(encode(Messages(tuple(messages))))

    def _open_transport(self) -> asyncio.Transport | None:
        """Return what can be written to; uvloop raises if a transport is closed.

        It closes a broken one at once, some turns before we are told.
        """
        transport = self._transport
        return None if transport is None or transport.is_closing() else transport

    async def call(self, body: bytes, timeout_s: float) -> bytes:
        """Ask the peer; see ``PeerPort.call``."""
        transport = self._open_transport()
        if transport is None:
            raise LinkDown(f"there is no link to {self._peer}")
        self._call_id += 1
        call_id = self._call_id
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._calls[call_id] = future
        transport.write(encode(Call(call_id, body)))
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError as error:
            raise LinkLost(f"member {self._peer} did not answer in time") from error
        finally:
            self._calls.pop(call_id, None)

    def take(self, frame: Frame, connection: _Connection) -> None:
        """Take in a frame that the peer sent on our connection."""
        if isinstance(frame, Reply):
            future = self._calls.pop(frame.id, None)
            if future is not None and not future.done():
                future.set_result(frame.body)
        elif isinstance(frame, Hello) and not connection.greeted.done():
            goodbye = self._links.greeter.judge(frame, self._peer)
            if goodbye is None:
                connection.greeted.set_result(None)
            else:
                connection.write(encode(goodbye))
                connection.fail(goodbye.sentence)
        elif isinstance(frame, Goodbye):
            self._links.greeter.refused(self._peer, frame)
            connection.fail(frame.sentence)
        else:
            raise FrameError("a frame that only a dialling peer sends")


class _Connection(asyncio.Protocol):
    """The bytes of one dialled connection."""

    def __init__(self, link: Dialled) -> None:
        self._link = link
        self._frames = Frames()
        loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.greeted: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[bool] = loop.create_future()
        self._is_closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there (asyncio's call)."""
        # uvloop's transports are no subclass of asyncio's.
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Bytes came (asyncio's call)."""
        try:
            for frame in self._frames.feed(data):
                self._link.take(frame, self)
        except FrameError as error:
            self.fail(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over (asyncio's call)."""
        if not self.greeted.done():
            self.greeted.set_exception(FrameError("the peer hung up unread"))
            self.greeted.exception()
        if not self.closed.done():
            self.closed.set_result(not self._is_closing)

    def write(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def fail(self, sentence: str) -> None:
        """End it, with a reason for whoever waits for the greeting."""
        if not self.greeted.done():
            self.greeted.set_exception(FrameError(sentence))
            self.greeted.exception()
        self.close()

    def close(self) -> None:
        self._is_closing = True
        if self.transport is not None:
            self.transport.close()
