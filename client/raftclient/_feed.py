"""A watch as its consumer sees it: an async iterator that survives reconnects.

Rules: items come in order, none twice, none left out; where history is gone the feed
says so and never just stops. A consumer that is slow does not fill this process's
memory: beyond a bound the watch is ended at the server, and begun again where it left
off when everything queued has been taken.

Source: SEMANTICS.md section 2 (watch).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar

from raftclient.errors import Unavailable

if TYPE_CHECKING:
    from types import TracebackType

    from raftclient._core import Core
    from raftclient.errors import RaftError
    from raftpb.v1.sessions_pb2 import StreamReply, StreamRequest

__all__ = ["Feed", "behind"]

QUEUED_MAX: Final = 10_000

E = TypeVar("E")


def behind(known_rev: int) -> int:
    """Return where a watch "from now on" goes on if it hears nothing at first.

    A member that breaks off before its first message has not said what "now" was. All
    that this client could know when it began the watch is earlier; from there nothing
    is left out. A client that knew nothing begins anew: 0.
    """
    return known_rev + 1 if known_rev else 0


class Feed(Generic[E]):
    """Iterate with ``async for``; end with ``close`` or by leaving ``async with``."""

    def __init__(self, core: Core) -> None:
        self._core: Final = core
        self._items: deque[E] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._error: RaftError | None = None
        self._is_closed = False
        self._is_paused = False
        core.subscribe(self)

    # --- what a kind of watch adds -----------------------------------------------

    def request(self) -> StreamRequest:
        """Build the request that continues where the last reply left off."""
        raise NotImplementedError

    def take(self, reply: StreamReply) -> None:
        """Queue the items of one message with ``push``."""
        raise NotImplementedError

    def may_pause(self) -> bool:
        """Tell whether the watch can go on later from exactly here."""
        return True

    def push(self, item: E) -> None:
        """Queue one item for the consumer."""
        self._items.append(item)

    # --- for the engine ----------------------------------------------------------

    def on_reply(self, reply: StreamReply) -> None:
        """Take one message, whole."""
        self.take(reply)
        if len(self._items) > QUEUED_MAX and self.may_pause():
            self._is_paused = True
            self._core.unsubscribe(self)
        self._wake()

    def fail(self, error: RaftError) -> None:
        """The watch cannot go on; what is queued comes first."""
        self._error = error
        self._wake()

    # --- for the consumer --------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E:
        await self._filled()
        return self._items.popleft()

    async def batch(self) -> list[E]:
        """Wait for the next items, and return all that are there; empty = closed."""
        try:
            await self._filled()
        except StopAsyncIteration:
            return []
        items = list(self._items)
        self._items.clear()
        return items

    async def _filled(self) -> None:
        while not self._items:
            if self._error is not None:
                raise self._error.fresh()
            if self._is_closed:
                raise StopAsyncIteration
            if self._is_paused:
                self._is_paused = False
                self._core.subscribe(self)
            if self._waiter is not None:
                raise Unavailable("two tasks wait for one watch; give each its own")
            self._waiter = self._core.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def close(self) -> None:
        """End the watch; may be called twice."""
        self._is_closed = True
        self._core.unsubscribe(self)
        self._wake()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
