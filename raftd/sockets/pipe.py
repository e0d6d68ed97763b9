"""A pipe between two connections: what comes in at one side goes out at the other.

Rules: who does not take its bytes is not read from on the other side, so that little
waits in between. An end at one side is an end at the other, behind what was on its way.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, cast

__all__ = ["Pipe"]


class Pipe:
    """Passes a connection on to a port of this machine.

    Args:
        outer: The connection, taken over from here.
        data: What has come on it already.
        on_end: Called once, when both sides are over.
    """

    def __init__(
        self, outer: asyncio.Transport, data: bytes, on_end: Callable[[Pipe], None]
    ) -> None:
        self._data: Final = data
        self._on_end: Final = on_end
        self._outer: Final = _Side(self)
        self._inner: Final = _Side(self)
        self._task: asyncio.Task[None] | None = None
        # It is never cancelled: uvloop would not tell the end of the connection.
        self._is_dialling = False
        outer.pause_reading()
        outer.set_protocol(self._outer)
        self._outer.transport = outer

    def open(self, host: str, port: int) -> None:
        """Connect to the other side, and let bytes through as soon as it is there."""
        loop = asyncio.get_running_loop()
        self._is_dialling = True
        self._task = loop.create_task(self._connect(loop, host, port))

    async def _connect(
        self, loop: asyncio.AbstractEventLoop, host: str, port: int
    ) -> None:
        with contextlib.suppress(OSError):
            await loop.create_connection(lambda: self._inner, host, port)
        self._is_dialling = False
        if self._inner.transport is None:  # not there, or not any more
            self.close()

    def let_through(self) -> None:
        """Begin: the inner side is there, and may speak before it is asked."""
        inner, outer = self._inner.transport, self._outer.transport
        if inner is None or outer is None or outer.is_closing():
            self.close()
            return
        self._outer.there, self._inner.there = inner, outer
        outer.resume_reading()
        inner.write(self._data)

    def close(self) -> None:
        """End both sides, behind what was on its way; may be called twice."""
        for side in (self._outer, self._inner):
            side.there = None
            if side.transport is not None:
                side.transport.close()
        is_over = self._outer.transport is None and self._inner.transport is None
        if is_over and not self._is_dialling:
            self._on_end(self)

    def abort(self) -> None:
        """End both sides at once."""
        for side in (self._outer, self._inner):
            side.there = None
            if side.transport is not None:
                side.transport.abort()


class _Side(asyncio.Protocol):
    """One of the two connections."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe: Final = pipe
        self.transport: asyncio.Transport | None = None
        """None: not there yet, or over."""
        self.there: asyncio.Transport | None = None
        """The other one, while bytes go through."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The inner one is there (asyncio's call)."""
        # uvloop's transports are no subclass of asyncio's.
        self.transport = cast("asyncio.Transport", transport)
        # Now: with uvloop its first bytes may come before who connects is awake.
        self._pipe.let_through()

    def data_received(self, data: bytes) -> None:
        """Bytes came (asyncio's call)."""
        if self.there is not None:
            self.there.write(data)

    def pause_writing(self) -> None:
        """It takes no more for now (asyncio's call)."""
        if self.there is not None:
            self.there.pause_reading()

    def resume_writing(self) -> None:
        """It takes more (asyncio's call)."""
        if self.there is not None and not self.there.is_closing():
            self.there.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over (asyncio's call), and so is the other."""
        self.transport = None
        self._pipe.close()
