"""The connection that a node dialled to one peer: it sends there, and asks there.

Rules: the peer's addresses are tried in turn, each name looked up at each attempt. It
is greeted in the newer version; if it hangs up on that, in the older one at the next
attempt, and so on. A link in the older version ends when the peer has shown the newer.

Source: ``links``; RELIABILITY.md rule 54.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, cast

from raftd.consensus.messages import Message
from raftd.consensus.types import NodeId
from raftd.node.errors import LinkDown, LinkLost
from raftd.sockets.alive import keep_alive
from raftd.transport.frames import (
    FRAME_BYTES_MAX,
    HELLO_BYTES_MAX,
    OLD_VERSION,
    PROTOCOL_VERSION,
    Call,
    Frame,
    FrameError,
    Frames,
    Goodbye,
    Hello,
    Messages,
    OldHello,
    Removed,
    Reply,
    encode,
)
from raftd.transport.introductions import read, shown_by, to_version

if TYPE_CHECKING:
    from raftd.node.member_sight import Shown
    from raftd.transport.address_book import Address
    from raftd.transport.links import Links, LinkSettings

__all__ = ["Dialled"]

_logger = logging.getLogger(__name__)

_SAID_MAX: Final = 8
"""Reasons that are remembered, so as not to repeat them: some for each address."""


class _HungUp(FrameError):
    """The other side said nothing to our greeting."""


class Dialled:
    """One outgoing link, dialled again and again until told to stop."""

    def __init__(
        self,
        peer: NodeId,
        addresses: Sequence[Address],
        links: Links,
        settings: LinkSettings,
    ) -> None:
        self._peer: Final = peer
        self._addresses = tuple(addresses)
        self._address_number = 0
        self._version = PROTOCOL_VERSION
        self._links: Final = links
        self._settings: Final = settings
        self._transport: asyncio.Transport | None = None
        self._calls: Final[dict[int, asyncio.Future[bytes]]] = {}
        self._call_id = 0
        self._said: Final[deque[str]] = deque(maxlen=_SAID_MAX)
        self.is_up = False
        self.shown: Shown | None = None

    def set_addresses(self, addresses: Sequence[Address]) -> None:
        """Try these from the next attempt on; a link that is up stays."""
        if self._addresses != tuple(addresses):
            self._addresses = tuple(addresses)
            self._address_number = 0

    def note_newer(self) -> None:
        """The peer speaks the newer version: do not stay with the older one."""
        if self._version == OLD_VERSION:
            self._version = PROTOCOL_VERSION
            if self._transport is not None:
                self._transport.abort()

    async def run(self) -> None:
        """Keep the link up until cancelled."""
        retry_s = self._settings.retry_s_min
        while True:
            connection = await self._dial()
            if connection is not None:
                await self._stay(connection)
                retry_s = self._settings.retry_s_min
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, self._settings.retry_s_max)

    async def knock(self) -> None:
        """Dial until somebody greets, whoever it is, and hang up again."""
        retry_s = self._settings.retry_s_min
        while (connection := await self._dial()) is None:
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, self._settings.retry_s_max)
        connection.close()

    async def _dial(self) -> _Connection | None:
        """Dial and greet once; None if that came to nothing."""
        connection = _Connection(self)
        host, port = self._addresses[self._address_number % len(self._addresses)]
        name = f"peer {self._peer}" if self._peer else "a member"
        try:
            await self._greet(connection, host, port)
        except (OSError, TimeoutError, ValueError) as error:  # ValueError: no host name
            self._say(f"cannot reach {name} at {host}:{port}: {error}")
            self._address_number += 1
            connection.close()
            return None
        except FrameError as error:
            self._say(f"{name} at {host}:{port}: {error}")
            self._try_otherwise(is_hung_up=isinstance(error, _HungUp))
            connection.close()
            return None
        except asyncio.CancelledError:
            connection.close()
            raise
        self._said.clear()
        return connection

    async def _greet(self, connection: _Connection, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._settings.connect_timeout_s):
            await loop.create_connection(lambda: connection, host, port)
            hello = self._links.greeter.hello(self._peer, self._version)
            connection.write(encode(hello))
            await connection.greeted

    def _try_otherwise(self, *, is_hung_up: bool) -> None:
        """Who is there did not greet: try the other version, or another address."""
        if is_hung_up and self._version == PROTOCOL_VERSION:
            self._version = OLD_VERSION
        else:
            self._version = PROTOCOL_VERSION
            self._address_number += 1

    async def _stay(self, connection: _Connection) -> None:
        """Be up until the connection ends."""
        self._transport = connection.transport
        self.is_up = True
        self._links.note_up(self._peer)
        try:
            was_closed_by_peer = await connection.closed
        finally:
            self._drop()
            connection.close()
        self._links.note_down(self._peer, was_closed_by_peer=was_closed_by_peer)

    def _say(self, sentence: str) -> None:
        """Log a reason once, not at each attempt."""
        if sentence not in self._said:
            self._said.append(sentence)
            _logger.info("link_failed peer=%d reason=%s", self._peer, sentence)

    def _drop(self) -> None:
        self.is_up = False
        self.shown = None
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
        elif isinstance(frame, Hello | OldHello) and not connection.greeted.done():
            refused = self._links.greeter.judge(frame, self._peer)
            if refused is None:
                connection.note_greeted()
                self.shown = shown_by(read(frame))
                connection.greeted.set_result(None)
            else:
                connection.write(encode(to_version(refused, self._version)))
                connection.fail(refused.sentence)
        elif isinstance(frame, Goodbye | Removed):
            self._links.greeter.refused(self._peer, frame)
            connection.fail(frame.sentence)
        else:
            raise FrameError("a frame that only a dialling peer sends")


class _Connection(asyncio.Protocol):
    """The bytes of one dialled connection."""

    def __init__(self, link: Dialled) -> None:
        self._link = link
        self._frames = Frames(HELLO_BYTES_MAX)
        loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.greeted: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[bool] = loop.create_future()
        self._is_closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there (asyncio's call)."""
        # uvloop's transports are no subclass of asyncio's.
        self.transport = cast("asyncio.Transport", transport)
        keep_alive(self.transport)

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
            self.greeted.set_exception(_HungUp("the peer hung up unread"))
            self.greeted.exception()
        if not self.closed.done():
            self.closed.set_result(not self._is_closing)

    def note_greeted(self) -> None:
        """It is the peer that answers: take frames of any size of ours."""
        self._frames.limit(FRAME_BYTES_MAX)

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
