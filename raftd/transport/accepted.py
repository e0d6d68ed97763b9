"""A connection that a peer dialled to this node: its messages and calls come in here.

Rules: who has not greeted in time is cut off, and so is the older of two connections of
one peer: a peer that dials anew has given the older one up. A message that no core
would send is refused here, and the link with it: in another's name, to another, or with
entries that do not follow one another.

Source: ``links``.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, cast

from raftd.consensus.messages import Append
from raftd.consensus.types import NodeId
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
from raftd.transport.introductions import to_version

if TYPE_CHECKING:
    from raftd.transport.links import Links

__all__ = ["Accepted"]

_logger = logging.getLogger(__name__)

GREETING_S_MAX = 5.0
"""Who has not said hello by then is not a peer."""


class Accepted(asyncio.Protocol):
    """One incoming link."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._frames = Frames(HELLO_BYTES_MAX)
        self._transport: asyncio.Transport | None = None
        self._peer: NodeId | None = None
        self._own_id = NodeId(0)
        self._version = PROTOCOL_VERSION
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there (asyncio's call)."""
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        keep_alive(self._transport)
        if not self._links.note_accepted(self):
            _logger.warning("too_many_strangers limit of silent connections reached")
            self._give_up()
            return
        self._deadline = asyncio.get_running_loop().call_later(
            GREETING_S_MAX, self._give_up
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
            if isinstance(frame, Hello | OldHello):
                self._greet(frame)
            else:
                raise FrameError("the first frame is not a hello")
        elif isinstance(frame, Messages):
            self._take_messages(frame)
        elif isinstance(frame, Call):
            task = asyncio.get_running_loop().create_task(self._answer(frame))
            self._tasks[task] = None
            task.add_done_callback(lambda done: self._tasks.pop(done, None))
        elif isinstance(frame, Goodbye | Removed):
            self._links.greeter.refused(self._peer, frame)
            self.close()
        else:
            raise FrameError("a frame that only an answering peer sends")

    def _greet(self, hello: Hello | OldHello) -> None:
        version = PROTOCOL_VERSION if isinstance(hello, Hello) else OLD_VERSION
        refused = self._links.greeter.judge(hello, 0)
        if refused is not None:
            self._links.note_refused(hello.node_id, refused.sentence)
            self._write(encode(to_version(refused, version)))
            self.close()
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self._peer, self._version = NodeId(hello.node_id), version
        self._frames.limit(FRAME_BYTES_MAX)
        self._links.note_greeted(self, self._peer, version)
        own = self._links.greeter.hello(0, version)
        self._own_id = NodeId(own.node_id)
        self._write(encode(own))

    def dismiss(self, refused: Removed) -> None:
        """Tell a peer that was accepted that it is one no more, and hang up."""
        self._write(encode(to_version(refused, self._version)))
        self.close()

    def _give_up(self) -> None:
        """Nobody greeted: let go of the connection, whatever is still unsent."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def peer(self) -> NodeId | None:
        """Who greeted here; None before."""
        return self._peer

    def _take_messages(self, frame: Messages) -> None:
        for message in frame.messages:
            if message.src != self._peer:
                raise FrameError(
                    f"member {self._peer} sent a message in the name of {message.src}"
                )
            if message.dst != self._own_id:
                raise FrameError(
                    f"member {self._peer} sent a message to {message.dst} here"
                )
            if isinstance(message, Append) and not _is_in_order(message):
                raise FrameError(f"member {self._peer} sent entries out of order")
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


def _is_in_order(append: Append) -> bool:
    """Tell whether entries follow their predecessor; the core relies on it."""
    index, term = int(append.prev_index), append.prev_term
    if index < 0 or term < 0:
        return False
    for entry in append.entries:
        index += 1
        if entry.index != index or entry.term < term:
            return False
        term = entry.term
    return term <= append.term
