"""A way between a client and a port, taken apart or held up when a test says so."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self

from tests.api.wire import Wire

__all__ = ["Middle"]


class Middle:
    """Passes connections on.

    Attributes:
        port: Where clients come.
        passes: Cleared, nothing comes back from the far side any more.
        passed_bytes: So many came back.
    """

    def __init__(self, far_port: int) -> None:
        self.port = 0
        self.passes: Final = asyncio.Event()
        self.passes.set()
        self.passed_bytes = 0
        self._far_port: Final = far_port
        self._wires: Final[list[Wire]] = []
        self._tasks: Final[list[asyncio.Task[None]]] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        await self.cut()

    async def cut(self, *, is_reset: bool = False) -> None:
        """End all connections to the far side, in order or as a killed client's."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for wire in self._wires:
            if is_reset:
                wire.reset()
            wire.close()
        self._tasks.clear()
        self._wires.clear()

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.append(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        wire = await Wire.dial(self._far_port, receives_bytes=1 << 16)
        self._wires.append(wire)
        back = asyncio.create_task(self._back(wire, writer))
        self._tasks.append(back)
        try:
            while data := await reader.read(1 << 16):
                await wire.write(data)
        finally:
            back.cancel()
            writer.transport.abort()

    async def _back(self, wire: Wire, writer: asyncio.StreamWriter) -> None:
        while True:
            await self.passes.wait()
            data = await wire.read_some()
            if not data:
                writer.close()
                return
            self.passed_bytes += len(data)
            writer.write(data)
            await writer.drain()
