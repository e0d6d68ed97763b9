"""Who listens for plain connections, and how a client gets one.

Rules: a kernel takes a connection in even while its process stands still, and refuses
it where nobody listens; a host that is off may say nothing at all. Who hears nothing
asks again, each time after twice as long. A member of an older release has gRPC's
server at its port: it answers in other words, or hangs up without any.

Source: asyncio.base_events, read as of Python 3.11; tcp(7) (tcp_syn_retries).
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any, Final

from tests.service.loop import ServiceLoop
from tests.service.transports import PlainTransport, plug_in
from tests.service.wires import WireNet

__all__ = ["AddressInfo", "Listener", "connect", "listen", "look_up"]

_RETRY_US: Final = 1_000_000
_TRIES_MAX: Final = 6
_LOOK_UP_US_MAX: Final = 3_000
_UNREACHABLE_SHARE: Final = 0.5
_SETTINGS: Final = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64"
"""What a server that speaks HTTP/2 begins with (RFC 9113, 6.5)."""

AddressInfo = tuple[int, int, int, str, tuple[str, int]]
_Factory = Callable[[], asyncio.BaseProtocol]


class Listener:
    """Takes connections in at one port; stands in for ``asyncio.Server``, too."""

    def __init__(
        self, net: WireNet, loop: ServiceLoop, make: _Factory, port: int
    ) -> None:
        self.loop: Final = loop
        self.port: Final = port
        self._net: Final = net
        self._make: Final = make
        self.sockets: Final = (self,)

    def getsockname(self) -> tuple[str, int]:
        """Return where it listens; it is its own socket."""
        return self.loop.host.name, self.port

    def close(self) -> None:
        """Take no more in; who is there stays."""
        listeners = self.loop.host.listeners
        if listeners.get(self.port) is self:
            del listeners[self.port]

    def accept(self, client: ServiceLoop, attempt: _Attempt) -> None:
        """Have the kernel take a connection in."""
        wire, near, far = plug_in(self._net, client, self.loop)
        near.set_protocol(attempt)
        wire.send_to_client("accepted", attempt.connected, near)
        wire.begin_at_server(lambda: far.begin(self._make()))


class _OldMember(asyncio.Protocol):
    """What gRPC's own server does with somebody who speaks no HTTP/2."""

    def __init__(self, net: WireNet) -> None:
        self._begins: Final = net.rng.random() < 0.5
        self._answers: Final = net.rng.random() < 0.7
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody came."""
        self._transport = transport
        if self._begins:
            self._transport.write(_SETTINGS)

    def data_received(self, data: bytes) -> None:
        """It said something strange."""
        if self._answers and not self._begins:
            self._transport.write(_SETTINGS)
        self._transport.close()


def listen(
    net: WireNet, loop: ServiceLoop, make: _Factory, host: str, port: int
) -> Listener:
    """Stand in for ``loop.create_server``."""
    assert host == loop.host.name, "a host listens at its own address"
    listeners = loop.host.listeners
    if port in listeners:
        raise OSError(errno.EADDRINUSE, "address already in use")
    is_old = net.rng.random() < net.options.old
    served: _Factory = (lambda: _OldMember(net)) if is_old else make
    listeners[port] = listener = Listener(net, loop, served, port)
    return listener


class _Attempt(asyncio.Protocol):
    """One attempt to get a connection, and who hears of its end until there is one."""

    def __init__(
        self, net: WireNet, loop: ServiceLoop, make: _Factory, address: str
    ) -> None:
        self.done: Final[asyncio.Future[PlainTransport]] = loop.create_future()
        self.protocol: asyncio.BaseProtocol = self
        self._net: Final = net
        self._loop: Final = loop
        self._make: Final = make
        self._host: Final = net.addresses.get(address)
        self._port: Final = int(address.rpartition(":")[2])
        self._label: Final = f"connect {loop.label} {address}"
        self._is_accepted = False
        self._ask(_RETRY_US, 1)

    def _ask(self, wait_us: int, attempt: int) -> None:
        if self._is_accepted or self.done.done() or self._loop.is_dead:
            return
        net = self._net
        if attempt > _TRIES_MAX:
            error = TimeoutError(errno.ETIMEDOUT, "connection timed out")
            self._loop.take(self._fail, error)
            return
        if self._host is not None:
            net.carry(self._loop.host, self._host, self._label, self._arrive)
        net.world.after(wait_us, self._label, self._ask, 2 * wait_us, attempt + 1)

    def _arrive(self) -> None:
        """Be at the kernel of the other side."""
        net, host = self._net, self._host
        assert host is not None, "somebody was asked"
        if self._is_accepted or self.done.done() or self._loop.is_dead:
            return
        listener = host.listeners.get(self._port)
        if listener is not None:
            self._is_accepted = True
            listener.accept(self._loop, self)
        elif host.is_up or net.is_calm or net.rng.random() >= net.options.silent:
            net.carry(host, self._loop.host, "refused", self._refused)

    def _refused(self) -> None:
        error = ConnectionRefusedError(errno.ECONNREFUSED, "connection refused")
        self._loop.take(self._fail, error)

    def _fail(self, error: OSError) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def connected(self, transport: PlainTransport) -> None:
        """The word that it was accepted is here; on the loop."""
        if self.done.done():  # it was given up
            transport.abort()
            return
        self.protocol = self._make()
        transport.set_protocol(self.protocol)
        self.protocol.connection_made(transport)
        self.done.set_result(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """It broke before it was there."""
        self._fail(ConnectionResetError(errno.ECONNRESET, "connection reset"))


async def connect(
    net: WireNet, loop: ServiceLoop, make: _Factory, host: str, port: int
) -> tuple[PlainTransport, asyncio.BaseProtocol]:
    """Stand in for ``loop.create_connection``."""
    address = f"{host}:{port}"
    if address not in net.addresses and net.rng.random() < _UNREACHABLE_SHARE:
        raise OSError(errno.ENETUNREACH, "network is unreachable")
    attempt = _Attempt(net, loop, make, address)
    done = attempt.done
    try:
        return await done, attempt.protocol
    except asyncio.CancelledError:
        if done.done() and not done.cancelled() and done.exception() is None:
            done.result().abort()
        raise


async def look_up(
    net: WireNet, loop: ServiceLoop, host: str, port: int
) -> list[AddressInfo]:
    """Stand in for ``loop.getaddrinfo``."""
    rng, options = net.rng, net.options
    await loop.after(1 + rng.randrange(_LOOK_UP_US_MAX), f"look up {host}")
    if not net.is_calm and rng.random() < options.breaks:
        raise socket.gaierror(socket.EAI_AGAIN, "temporary failure in name resolution")
    names = [host]
    if rng.random() < options.astray:
        names.insert(0, f"{host}-6")
    return [
        (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (name, port))
        for name in names
    ]
