"""What ``grpc.aio.server`` gives to a node: handlers, contexts, deadlines, the end.

Rules: a handler runs in a task of the node's loop. It is cancelled when the client
gives the call up, the deadline passes or the connection breaks. What it aborts with
goes out as the status; an error that is none of gRPC's is one of the run.

Source: grpc.aio._server and its Cython half, read as of grpcio 1.85.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

import grpc

from tests.service.calls import Inbox, Outbox, Rpc, Status
from tests.service.loop import ServiceLoop, current_loop
from tests.service.wires import Wire, WireNet
from tests.sim.world import SimFailure

if TYPE_CHECKING:
    from tests.service.hosts import Host

__all__ = ["MemoryServer", "ServerCall"]

_OK: Final[Status] = (grpc.StatusCode.OK, "", ())


class _Details(NamedTuple):
    """What a generic handler looks at."""

    method: str
    invocation_metadata: tuple[()] = ()


class MemoryServer:
    """Stands in for ``grpc.aio.Server``."""

    def __init__(self, net: WireNet, loop: ServiceLoop) -> None:
        self._net: Final = net
        self._loop: Final = loop
        self._host: Final[Host] = loop.host
        self._generic: Final[list[Any]] = []
        self._handlers: Final[dict[str, Any]] = {}
        self._calls: Final[dict[ServerCall, None]] = {}
        self._wires: Final[dict[Wire, None]] = {}
        self._is_stopping = False
        self._idle = asyncio.Event()

    # --- what ``ApiServer`` uses --------------------------------------------------

    def add_generic_rpc_handlers(self, handlers: Iterable[Any]) -> None:
        """Take handlers."""
        self._generic.extend(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """Take nothing: the generic ones say the same."""

    def add_insecure_port(self, address: str) -> int:
        """Say which port it is."""
        return int(address.rpartition(":")[2])

    async def start(self) -> None:
        """Listen."""
        self._host.server = self

    async def stop(self, grace: float | None) -> None:
        """Take no more calls; end those in flight after a while."""
        self._is_stopping = True
        if self._host.server is self:
            self._host.server = None
        if self._calls and grace:
            self._idle.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self._idle.wait()
        for call in list(self._calls):
            call.end((grpc.StatusCode.UNAVAILABLE, "Server shut down", ()))
        for wire in list(self._wires):
            wire.close_from_server()
        self._wires.clear()

    # --- what comes in ----------------------------------------------------------------

    def accept(
        self,
        client: ServiceLoop,
        on_client_lost: Callable[[str], None],
        tell: Callable[[Wire | None], None],
    ) -> None:
        """Somebody connects: greet it when this process has time for that."""

        def greet() -> None:
            wire = Wire(self._net, client, self._loop, on_client_lost, lost)
            self._wires[wire] = None
            self._net.carry(self._host, client.host, "accepted", lambda: tell(wire))

            wires.append(wire)

        def lost(why: str) -> None:
            for wire in wires:
                self._wires.pop(wire, None)
                for call in list(self._calls):
                    if call.wire is wire:
                        call.drop(why)

        wires: list[Wire] = []
        self._loop.take(greet)

    def begin(
        self, rpc: Rpc, wire: Wire, method: str, left_s: float | None
    ) -> ServerCall:
        """Begin a call on the loop."""
        call = ServerCall(self, self._loop, rpc, wire, left_s)
        handler = self._handlers.get(method) or self._find(method)
        if self._is_stopping:
            call.end((grpc.StatusCode.UNAVAILABLE, "Server is stopping", ()))
        elif handler is None:
            call.end((grpc.StatusCode.UNIMPLEMENTED, "Method not found!", ()))
        else:
            self._calls[call] = None
            call.run(handler)
        return call

    def _find(self, method: str) -> Any:
        for generic in self._generic:
            handler = generic.service(_Details(method))
            if handler is not None:
                self._handlers[method] = handler
                return handler
        return None

    def forget(self, call: ServerCall) -> None:
        """A call is over."""
        self._calls.pop(call, None)
        if not self._calls:
            self._idle.set()


class ServerCall:
    """One call at the server's end; its handler sees it as its context."""

    def __init__(
        self,
        server: MemoryServer,
        loop: ServiceLoop,
        rpc: Rpc,
        wire: Wire,
        left_s: float | None,
    ) -> None:
        self.wire: Final = wire
        self.inbox: Final = Inbox(loop)
        self.outbox: Final = Outbox(loop)
        self._server: Final = server
        self._loop: Final = loop
        self._rpc: Final = rpc
        self._end_s = None if left_s is None else loop.time() + left_s
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_over = False
        self._encode: Callable[[Any], bytes] | None = None
        if left_s is not None:
            self._timer = loop.call_later(max(0.0, left_s), self.drop, "too late")

    # --- the handler -----------------------------------------------------------------

    def run(self, handler: Any) -> None:
        """Have it handled."""
        self._task = self._loop.create_task(self._handle(handler))

    async def _handle(self, handler: Any) -> None:
        try:
            await self._carry_out(handler)
        except grpc.aio.AbortError:
            assert self._is_over, "abort ends a call"
        except asyncio.CancelledError:
            self.drop("cancelled")
            raise
        except grpc.aio.InternalError:
            self.drop("nobody listens")
        except BaseException as error:  # gRPC would log it, and say UNKNOWN
            failure = SimFailure(f"{self._rpc.method} failed: {error!r}")
            failure.__cause__ = error
            self._loop.world.fail(failure)
        else:
            self.end(_OK)

    async def _carry_out(self, handler: Any) -> None:
        decode = handler.request_deserializer or _same
        self._encode = handler.response_serializer
        if handler.request_streaming:
            await handler.stream_stream(self._messages(decode), self)
            return
        data = await self.inbox.get()
        if data is None:  # the client gave it up before it said what it wants
            return
        request = decode(data)
        if not handler.response_streaming:
            await self.write(await handler.unary_unary(request, self))
            return
        if inspect.isasyncgenfunction(handler.unary_stream):
            async for message in handler.unary_stream(request, self):
                await self.write(message)
            return
        await handler.unary_stream(request, self)

    async def _messages(self, decode: Callable[[bytes], Any]) -> AsyncIterator[Any]:
        while (data := await self.inbox.get()) is not None:
            self.wire.send_to_client("credit", self._rpc.outbox.credit, len(data))
            yield decode(data)

    # --- the context ------------------------------------------------------------------

    async def write(self, message: Any) -> None:
        """Send a message, when there is room."""
        data = message if self._encode is None else self._encode(message)
        await self.outbox.reserve(len(data))
        if self._is_over:
            raise grpc.aio.InternalError("the call is over")
        self.wire.send_to_client(
            f"answer {self._loop.label} {len(data)}", self._rpc.take_message, data
        )

    async def abort(
        self,
        code: grpc.StatusCode,
        details: str = "",
        trailing_metadata: Iterable[tuple[str, Any]] = (),
    ) -> NoReturn:
        """End the call with an error."""
        self.end((code, details, tuple(trailing_metadata)))
        raise grpc.aio.AbortError("Locally aborted.")

    def time_remaining(self) -> float | None:
        """Return how long the client waits, in seconds."""
        if self._end_s is None:
            return None
        return max(0.0, self._end_s - current_loop().time())

    # --- what comes from the client, and the end --------------------------------------

    def take_message(self, data: bytes) -> None:
        """Take a message in."""
        self.inbox.put(data)

    def half_close(self) -> None:
        """Nothing more comes."""
        self.inbox.end(is_lossy=False)

    def reset(self) -> None:
        """The client gave the call up."""
        self.drop("reset")

    def end(self, status: Status) -> None:
        """End with a status, behind what was sent."""
        if not self._is_over:
            self._close()
            self.wire.send_to_client(
                f"status {self._loop.label} {status[0].name}",
                self._rpc.take_status,
                status,
            )
            if self._task is not None and self._task is not asyncio.current_task():
                self._task.cancel()

    def drop(self, why: str) -> None:
        """End without a status: nobody waits for it any more."""
        if not self._is_over:
            self._close()
            if why == "too late":
                status = (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", ())
                self.wire.send_to_client(
                    f"status {self._loop.label} late", self._rpc.take_status, status
                )
            task = self._task
            if task is not None and task is not _current_task():
                task.cancel()

    def _close(self) -> None:
        self._is_over = True
        self.inbox.end(is_lossy=True)
        self.outbox.over()
        if self._timer is not None:
            self._timer.cancel()
        self._server.forget(self)


def _same(data: bytes) -> bytes:
    return data


def _current_task() -> asyncio.Task[Any] | None:
    return asyncio.current_task()
