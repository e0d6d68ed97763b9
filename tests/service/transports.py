"""The two ends of a plain connection, as asyncio gives them to a protocol.

Rules: bytes arrive in order, and in other pieces than they were written in: they are
cut on their way, and those that came one by one may be read at once. So many are under
way at a time at the most; what is written beyond that waits at its sender, and too much
of it is told to the protocol. The end of the other side comes behind its bytes; a reset
may come before those that were not read. Only what raftd uses exists.

Source: asyncio.selector_events, read as of Python 3.11; tcp(7).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from tests.service.loop import ServiceLoop
from tests.service.wires import CLOSED, Wire, WireNet

__all__ = ["PlainTransport", "plug_in"]

_READ_BYTES_MAX: Final = 262_144
_LATE_US_MAX: Final = 3_000
_RESET_SHARE: Final = 0.5
"""How often the end of who has not read all is a reset; it overtakes its bytes."""


class PlainTransport(asyncio.Transport):
    """One end of a plain connection."""

    def __init__(self, net: WireNet, loop: ServiceLoop) -> None:
        super().__init__()
        self._net: Final = net
        self._loop: Final = loop
        self._protocol: Any = None
        self._wire: Wire | None = None
        self._there: PlainTransport | None = None
        self._is_client = False
        self._outbox: Final = bytearray()
        self._under_way_bytes = 0
        self._is_full = False
        self._is_half_closed = False
        self._is_eof_sent = False
        self._inbox: Final = bytearray()
        self._read_bytes = 0
        """Read, and not told to the other end yet."""
        self._is_read_due = False
        self._is_read_paused = False
        self._last: Callable[[], None] | None = None
        """What comes behind the bytes that were not read yet."""
        self._is_closing = False
        self._is_abrupt = False
        self._is_lost = False

    def plug(self, wire: Wire, there: PlainTransport, *, is_client: bool) -> None:
        """Be the end of a wire."""
        self._wire, self._there, self._is_client = wire, there, is_client

    def begin(self, protocol: asyncio.BaseProtocol) -> None:
        """Belong to a protocol; on the loop."""
        self._protocol = protocol
        protocol.connection_made(self)

    # --- for the protocol: writing ---------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send bytes, now or when there is room."""
        assert not self._is_half_closed, "nothing is written behind the end"
        if self._is_lost:
            return
        self._outbox.extend(data)
        self._flush()
        if not self._is_full and len(self._outbox) > self._net.options.high_water_bytes:
            self._is_full = True
            self._protocol.pause_writing()

    def _flush(self) -> None:
        rng, options = self._net.rng, self._net.options
        outbox = self._outbox
        while outbox and self._under_way_bytes < options.window_bytes:
            size = min(len(outbox), options.window_bytes - self._under_way_bytes)
            if size > 1 and rng.random() < options.cuts:
                size = rng.randrange(1, size)
            piece = bytes(outbox[:size])
            del outbox[:size]
            self._under_way_bytes += size
            assert self._there is not None, "it is plugged in"
            self._send(f"bytes {self._loop.label} {size}", self._there.arrive, piece)

    def _send(self, label: str, action: Callable[..., None], *args: Any) -> None:
        wire = self._wire
        assert wire is not None, "it is plugged in"
        if self._is_client:
            wire.send_to_server(label, action, *args)
        else:
            wire.send_to_client(label, action, *args)

    def credit(self, size: int) -> None:
        """The other end has read so many bytes."""
        self._under_way_bytes -= size
        if self._is_lost:
            return
        self._flush()
        low_bytes = self._net.options.high_water_bytes // 4
        if self._is_full and len(self._outbox) <= low_bytes:
            self._is_full = False
            self._protocol.resume_writing()
        self._when_flushed()

    def _when_flushed(self) -> None:
        if self._outbox:
            return
        if self._is_closing:
            self._lose(None)
        elif self._is_half_closed and not self._is_eof_sent:
            self._is_eof_sent = True
            assert self._there is not None, "it is plugged in"
            self._send("eof", self._there.take_end)

    def can_write_eof(self) -> bool:
        """Tell that one direction can end by itself."""
        return True

    def write_eof(self) -> None:
        """Write no more; what comes is still read."""
        if not self._is_closing:
            self._is_half_closed = True
            self._when_flushed()

    # --- for the protocol: reading ---------------------------------------------------

    def pause_reading(self) -> None:
        """Take nothing in for now."""
        self._is_read_paused = True

    def resume_reading(self) -> None:
        """Take what comes, and what has come."""
        self._is_read_paused = False
        self._want_read()

    def arrive(self, data: bytes) -> None:
        """Bytes came; on the loop."""
        if not self._is_closing:
            self._inbox.extend(data)
            self._want_read()

    def _want_read(self) -> None:
        if self._is_read_due or self._is_read_paused or self._is_closing:
            return
        if not self._inbox and self._last is None:
            return
        self._is_read_due = True
        rng = self._net.rng
        if rng.random() < self._net.options.cuts:
            handle = asyncio.Handle(self._read, (), self._loop)
            delay_us = rng.randrange(_LATE_US_MAX)
            self._loop.post(delay_us, f"read {self._loop.label}", handle)
        else:
            self._loop.call_soon(self._read)

    def _read(self) -> None:
        self._is_read_due = False
        if self._is_read_paused or self._is_closing or self._loop.is_dead:
            return
        inbox = self._inbox
        if inbox:
            size = min(len(inbox), _READ_BYTES_MAX)
            if size > 1 and self._net.rng.random() < self._net.options.cuts:
                size = self._net.rng.randrange(1, size)
            data = bytes(inbox[:size])
            del inbox[:size]
            self._note_read(size)
            self._protocol.data_received(data)
            self._want_read()
        elif self._last is not None:
            self._last()

    def _note_read(self, size: int) -> None:
        self._read_bytes += size
        if 2 * self._read_bytes >= self._net.options.window_bytes:
            assert self._there is not None, "it is plugged in"
            self._send("credit", self._there.credit, self._read_bytes)
            self._read_bytes = 0

    # --- the end ---------------------------------------------------------------------

    def lose(self, why: str) -> None:
        """The other end, or the connection, is gone; on the loop."""
        if self._is_lost:
            return
        if self._is_closing:
            self._fail(None)  # nobody takes the rest any more
            return
        if why == CLOSED:
            self.take_end()
            return
        error = ConnectionResetError(why)
        if self._net.rng.random() < _RESET_SHARE:
            self._fail(error)
        else:
            self._last = lambda: self._fail(error)
            self._want_read()

    def take_end(self) -> None:
        """The other end writes no more; on the loop."""
        self._last = self._end
        self._want_read()

    def _end(self) -> None:
        """Nothing more comes, and nobody takes what is not sent yet."""
        assert not self._protocol.eof_received(), "nobody wants a half of a connection"
        self._fail(None)

    def _fail(self, error: Exception | None) -> None:
        self._outbox.clear()
        self._is_closing = True
        self._lose(error)

    def close(self) -> None:
        """End it behind what was written."""
        if not self._is_closing:
            self._is_closing = True
            self._when_flushed()

    def abort(self) -> None:
        """End it at once."""
        self._is_abrupt = True
        self._fail(None)

    def _lose(self, error: Exception | None) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._loop.call_soon(self._lost, error)

    def _lost(self, error: Exception | None) -> None:
        if self._protocol is not None:
            self._protocol.connection_lost(error)
        self.let_go()

    def let_go(self) -> None:
        """Have the kernel end its side; by a reset if bytes are left that came."""
        wire = self._wire
        assert wire is not None, "it is plugged in"
        may_reset = self._is_abrupt or bool(self._inbox)
        is_reset = may_reset and self._net.rng.random() < _RESET_SHARE
        if self._is_client:
            wire.close_from_client(is_reset=is_reset)
        else:
            wire.close_from_server(is_reset=is_reset)

    # --- what else a protocol asks ---------------------------------------------------

    def is_closing(self) -> bool:
        """Tell whether it has ended, or is about to."""
        return self._is_closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Belong to another protocol from here on."""
        self._protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Say nothing: there is no socket."""
        return default


def plug_in(
    net: WireNet, client: ServiceLoop, server: ServiceLoop
) -> tuple[Wire, PlainTransport, PlainTransport]:
    """Join two loops; returns the wire and its ends, the client's first."""
    near, far = PlainTransport(net, client), PlainTransport(net, server)
    wire = Wire(net, client, server, near.lose, far.lose)
    near.plug(wire, far, is_client=True)
    far.plug(wire, near, is_client=False)
    return wire, near, far
