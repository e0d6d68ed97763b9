"""Channels and calls as clients see them: what ``grpc.aio`` does, without a socket.

Rules: a channel connects when it is first used; while it cannot, calls fail at once,
and it tries again by itself. A call ends once: with the status of its handler, behind
its last message; with its deadline; with its connection; or cancelled from this side.
The last three lose what was not read yet. Messages cross as bytes. A sender waits while
its receiver has too much that it did not read.

Source: grpc.aio._call and the documents of gRPC (wait-for-ready, connection backoff).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import grpc

from tests.service.loop import ServiceLoop, current_loop
from tests.service.wires import Wire, WireNet

if TYPE_CHECKING:
    from tests.service.server import ServerCall

__all__ = ["WINDOW_BYTES", "Connection", "Inbox", "Outbox", "Rpc", "Status"]

WINDOW_BYTES: Final = 65_536
_CONNECT_US_MAX: Final = 1_000_000
_BACKOFF_US: Final = (100_000, 1_000_000)
_Status = tuple[grpc.StatusCode, str, tuple[tuple[str, Any], ...]]

Status = _Status
_OK: Final[_Status] = (grpc.StatusCode.OK, "", ())


class Inbox:
    """Messages of one call that came in and were not read yet, in order."""

    def __init__(self, loop: ServiceLoop) -> None:
        self._loop: Final = loop
        self._items: Final[deque[bytes]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self.is_ended = False

    def put(self, data: bytes) -> None:
        """Take a message in."""
        if not self.is_ended:
            self._items.append(data)
            self._wake()

    def end(self, *, is_lossy: bool) -> None:
        """There will be no more; ``is_lossy``: nor those that were not read."""
        self.is_ended = True
        if is_lossy:
            self._items.clear()
        self._wake()

    def __len__(self) -> int:
        return len(self._items)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def get(self) -> bytes | None:
        """Wait for the next message; None = there is none any more."""
        while not self._items:
            if self.is_ended:
                return None
            self._waiter = self._loop.create_future()
            await self._waiter
        return self._items.popleft()


class Outbox:
    """How much of one direction of a call is under way; senders wait for room."""

    def __init__(self, loop: ServiceLoop) -> None:
        self._loop: Final = loop
        self._unread_bytes = 0
        self._is_over = False
        self._waiters: Final[list[asyncio.Future[None]]] = []

    async def reserve(self, size_bytes: int) -> None:
        """Wait until there is room, or nobody reads any more."""
        while self._unread_bytes >= WINDOW_BYTES and not self._is_over:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter
        self._unread_bytes += size_bytes

    def credit(self, size_bytes: int) -> None:
        """The other end has read so much."""
        self._unread_bytes -= size_bytes
        self._wake()

    def over(self) -> None:
        """Nobody reads any more."""
        self._is_over = True
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()


class Connection:
    """What a channel has to its address: a connection, or none at the moment."""

    def __init__(self, net: WireNet, loop: ServiceLoop, address: str) -> None:
        self._net: Final = net
        self.loop: Final = loop
        self._address: Final = address
        self._wire: Wire | None = None
        self._is_connecting = False
        self._has_failed = False
        self._attempt = 0
        self.is_closed = False
        self._waiting: Final[list[Rpc]] = []
        self.calls: Final[dict[Rpc, None]] = {}

    def begin(self, rpc: Rpc) -> None:
        """Have a call go out as soon as there is a connection."""
        self.calls[rpc] = None
        if self._wire is not None:
            rpc.start(self._wire)
        elif self._has_failed:
            rpc.fail(f"failed to connect to {self._address}")
        else:
            self._waiting.append(rpc)
            if not self._is_connecting:
                self._connect()

    def _connect(self) -> None:
        net, loop = self._net, self.loop
        self._is_connecting = True
        self._attempt += 1
        attempt = self._attempt
        host = net.addresses.get(self._address)

        def tell(wire: Wire | None) -> None:
            loop.take(self._connected, attempt, wire)

        def arrive() -> None:
            server = host.server if host is not None else None
            assert host is not None
            if server is None:
                net.carry(host, loop.host, "refused", lambda: tell(None))
            else:
                server.accept(loop, self._lost, tell)

        loop.post(
            loop.host.clock.true_us(_CONNECT_US_MAX),
            f"connect {loop.label}",
            asyncio.Handle(self._connected, (attempt, None), loop),
        )
        if host is not None:
            net.carry(loop.host, host, f"connect {self._address}", arrive)

    def _connected(self, attempt: int, wire: Wire | None) -> None:
        if attempt != self._attempt or not self._is_connecting or self.is_closed:
            if wire is not None and wire is not self._wire:
                wire.close_from_client()
            return
        self._is_connecting = False
        waiting = list(self._waiting)
        self._waiting.clear()
        if wire is None or wire.is_lost_at_client:  # perhaps lost just before
            self._has_failed = True
            delay_us = self.loop.rng.randrange(*_BACKOFF_US)
            self.loop.post(
                delay_us,
                f"reconnect {self.loop.label}",
                asyncio.Handle(self._try_again, (), self.loop),
            )
            for rpc in waiting:
                rpc.fail(f"failed to connect to {self._address}")
            return
        self._has_failed = False
        self._wire = wire
        for rpc in waiting:
            rpc.start(wire)

    def _try_again(self) -> None:
        if not self.is_closed and self._wire is None and not self._is_connecting:
            self._connect()

    def _lost(self, why: str) -> None:
        """The connection is gone, and all calls on it."""
        self._wire = None
        for rpc in list(self.calls):
            if rpc.is_started:
                rpc.fail(why)

    def forget(self, rpc: Rpc) -> None:
        """A call is over."""
        self.calls.pop(rpc, None)

    def close(self) -> None:
        """End all calls and the connection."""
        self.is_closed = True
        for rpc in list(self.calls):
            rpc.cancel()
        self._waiting.clear()
        if self._wire is not None:
            self._wire.close_from_client()
            self._wire = None


class Rpc:
    """One call from the client's end; the faces of ``channels`` read and write it."""

    def __init__(
        self, connection: Connection, method: str, timeout_s: float | None
    ) -> None:
        self.connection: Final = connection
        self.loop: Final = connection.loop
        self.method: Final = method
        self.inbox: Final = Inbox(self.loop)
        self.outbox: Final = Outbox(self.loop)
        self.is_started = False
        self.status: _Status | None = None
        self.is_locally_cancelled = False
        self._trailers: _Status | None = None
        self._wire: Wire | None = None
        self._server: ServerCall | None = None
        self._end_s = None if timeout_s is None else self.loop.time() + timeout_s
        self._timer: asyncio.TimerHandle | None = None
        self._started: Final[asyncio.Event] = asyncio.Event()
        self._done: Final[list[Callable[[], object]]] = []
        if timeout_s is not None:
            self._timer = self.loop.call_later(timeout_s, self._time_out)
        connection.begin(self)

    # --- what its connection tells --------------------------------------------------

    def start(self, wire: Wire) -> None:
        """Go out on a connection."""
        if self.status is not None:
            return
        self.is_started = True
        self._wire = wire
        left_s = None if self._end_s is None else self._end_s - self.loop.time()
        name = self.method.rpartition("/")[2]
        wire.send_to_server(f"call {name}", self._begin_at_server, wire, left_s)
        self._started.set()

    def _begin_at_server(self, wire: Wire, left_s: float | None) -> None:
        server = current_loop().host.server
        if server is not None:
            self._server = server.begin(self, wire, self.method, left_s)

    def fail(self, why: str) -> None:
        """End without a word from the server: nobody knows what was done."""
        self._finish((grpc.StatusCode.UNAVAILABLE, why, ()), is_lossy=True)

    def _time_out(self) -> None:
        self._timer = None
        self._reset()
        self._finish(
            (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", ()), is_lossy=True
        )

    # --- what comes from the server --------------------------------------------------

    def take_message(self, data: bytes) -> None:
        """Take a message in."""
        self.inbox.put(data)

    def take_status(self, status: _Status) -> None:
        """Take the status in; it counts when all messages are read."""
        if self.status is None:
            self._trailers = status
            self.inbox.end(is_lossy=False)
            self.outbox.over()
            if not len(self.inbox):
                self._finish(status, is_lossy=False)

    # --- for its face ----------------------------------------------------------------

    async def receive(self) -> bytes | None:
        """Wait for the next message; None = read the status."""
        data = await self.inbox.get()
        if data is not None and self.status is None:
            wire, server = self._wire, self._server
            if wire is not None and server is not None:
                wire.send_to_server("credit", server.outbox.credit, len(data))
        if self._trailers is not None and not len(self.inbox):
            self._finish(self._trailers, is_lossy=False)
        return data

    async def send(self, data: bytes) -> None:
        """Send a message when there is room; False if the call is over."""
        if not self._started.is_set():
            await self._started.wait()
        await self.outbox.reserve(len(data))
        self.post(data)

    def post(self, data: bytes) -> None:
        """Send a message whatever room there is."""
        wire = self._wire
        if self.status is None and wire is not None:
            label = f"message {self.loop.label} {len(data)}"
            wire.send_to_server(label, self._at_server, "message", data)

    def half_close(self) -> None:
        """Say that nothing more will be sent."""
        wire = self._wire
        if self.status is None and wire is not None:
            wire.send_to_server("half-close", self._at_server, "half_close", b"")

    def _at_server(self, what: str, data: bytes) -> None:
        server = self._server
        if server is None:
            return
        if what == "message":
            server.take_message(data)
        elif what == "half_close":
            server.half_close()
        else:
            server.reset()

    def cancel(self) -> bool:
        """End it from this side; False if it is over."""
        if self.status is not None:
            return False
        self.is_locally_cancelled = True
        self._reset()
        status = (grpc.StatusCode.CANCELLED, "Locally cancelled by application!", ())
        self._finish(status, is_lossy=True)
        return True

    def _reset(self) -> None:
        if self._wire is not None and not self.loop.is_dead:
            self._wire.send_to_server("cancel", self._at_server, "reset", b"")

    def when_done(self, callback: Callable[[], object]) -> None:
        """Call back on the call's own loop when it is over."""
        if self.status is not None:
            self._call_back(callback)
        else:
            self._done.append(callback)

    def _call_back(self, callback: Callable[[], object]) -> None:
        if asyncio.events._get_running_loop() is self.loop:  # noqa: SLF001  # may be none
            self.loop.call_soon(callback)
        elif not self.loop.is_dead:
            self.loop.call_soon_threadsafe(callback)

    def _finish(self, status: _Status, *, is_lossy: bool) -> None:
        if self.status is not None:
            return
        self.status = status
        self.inbox.end(is_lossy=is_lossy)
        self.outbox.over()
        self._started.set()
        self.connection.forget(self)
        if self._timer is not None:
            self._timer.cancel()
        for callback in self._done:
            self._call_back(callback)
        self._done.clear()

    def error(self) -> grpc.aio.AioRpcError:
        """Return the error that its status is."""
        assert self.status is not None, "it is over"
        code, details, trailing = self.status
        return grpc.aio.AioRpcError(
            code,
            grpc.aio.Metadata(),
            grpc.aio.Metadata(*trailing),
            details=details,
        )
