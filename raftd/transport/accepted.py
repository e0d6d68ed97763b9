"""A connection that a peer dialled to this node: its messages and calls come in here.

Source: ``links``.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, cast

from raftd.consensus.types import NodeId
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
    from raftd.transport.links import Links

__all__ = ["Accepted"]

_logger = logging.getLogger(__name__)

_GREETING_S_MAX = 5.0
"""Who has not said hello by then is not a peer."""


class Accepted(asyncio.Protocol):
    """One incoming link."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None
        self._peer: NodeId | None = None
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there (asyncio's call)."""
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._links.note_accepted(self)
        self._deadline = asyncio.get_running_loop().call_later(
            _GREETING_S_MAX, self.close
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over (asyncio's call)."""
        if self._deadline is not None:
            self._deadline.cancel()
        for task in self._tasks:
            task.cancel()
        self._links.note_closed(self)

    def data_received(self, data: bytes) -> None:
        """Bytes came (asyncio's call)."""
        try:
            for frame in self._frames.feed(data):
                self._take(frame)
        except FrameError as error:
            peer = self._transport.get_extra_info("peername") if self._transport else ""
            _logger.warning("stranger_refused from=%s reason=%s", peer, error)
            self.close()

    def _take(self, frame: Frame) -> None:
        if self._peer is None:
            if isinstance(frame, Hello):
                self._greet(frame)
            else:
                raise FrameError("the first frame is not a hello")
        elif isinstance(frame, Messages):
            self._take_messages(frame)
        elif isinstance(frame, Call):
            task = asyncio.get_running_loop().create_task(self._answer(frame))
            self._tasks[task] = None
            task.add_done_callback(lambda done: self._tasks.pop(done, None))
        elif isinstance(frame, Goodbye):
            self._links.greeter.refused(self._peer, frame)
            self.close()
        else:
            raise FrameError("a frame that only an answering peer sends")

    def _greet(self, hello: Hello) -> None:
        goodbye = self._links.greeter.judge(hello, 0)
        if goodbye is not None:
            _logger.warning("peer_refused reason=%s", goodbye.sentence)
            self._write(encode(goodbye))
            self.close()
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self._peer = NodeId(hello.node_id)
        self._write(encode(self._links.greeter.hello(0)))

    def _take_messages(self, frame: Messages) -> None:
        for message in frame.messages:
            if message.src != self._peer:
                raise FrameError(
                    f"member {self._peer} sent a message in the name of {message.src}"
                )
        self._links.on_messages(frame.messages)

    async def _answer(self, call: Call) -> None:
        handler, peer = self._links.handler, self._peer
        if handler is None or peer is None:
            return
        try:
            body = await handler(peer, call.body)
        except Exception:  # no answer: the caller must hear that the link is of no use
            _logger.exception("call_failed peer=%d", peer)
            self.close()
            return
        self._write(encode(Reply(call.id, body)))

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """End the connection; may be called twice."""
        if self._transport is not None:
            self._transport.close()
