"""Connections between processes, as TCP gives them: in order, late, or broken.

Rules: what is sent on one connection arrives in order, or never: nothing in the middle
is lost. A lost segment comes late. A cut way holds everything back until it is mended.
When a connection breaks, each end hears of it when word can reach it, or never; what
was on the way is gone, so that nobody knows what was done with it. Who sends to a
process that ended gets a reset.

Source: RELIABILITY.md section 5 (resets, half-open) and section 6 (network).
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, Final

from tests.service.hosts import Host
from tests.service.loop import ServiceLoop
from tests.sim.world import World

__all__ = ["CLOSED", "NetOptions", "Wire", "WireNet"]

CLOSED: Final = "the connection was closed"
"""Why a connection is gone that the other side has ended in good order."""
_RETRANSMIT_US: Final = 200_000
_CALM_US: Final = 500
_KEEPALIVE_US: Final = 30_000_000
"""After this a server takes a silent connection for dead."""

_Action = Callable[..., None]
_Item = tuple[str, _Action, tuple[Any, ...]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NetOptions:
    """How the links between clients and nodes are.

    Attributes:
        loss: How often a segment has to be sent again.
        breaks: How often a message breaks its connection instead of arriving.
        silent: How often an end is not told that its connection is broken.
        cuts: How often bytes of a plain connection are cut, or read late.
        window_bytes: So many bytes of one are under way at the most.
        high_water_bytes: Who has more than that to send is told so.
        astray: How often a name leads to a wrong address first.
        old: How often a member comes up in a release that knows no plain streams.
    """

    latency_us: int
    loss: float
    breaks: float
    silent: float
    cuts: float = 0.1
    window_bytes: int = 65_536
    high_water_bytes: int = 65_536
    astray: float = 0
    old: float = 0


class WireNet:
    """All links that carry connections, and who listens at which address."""

    def __init__(self, world: World, options: NetOptions) -> None:
        self.world: Final = world
        self.rng: Final[Random] = world.rng("wires")
        self.options: Final = options
        self.addresses: Final[dict[str, Host]] = {}
        self.is_calm = False
        self._blocked: Final[dict[tuple[str, str], None]] = {}
        self._wires: Final[dict[Wire, None]] = {}

    def block(self, src: str, dst: str) -> None:
        """Cut one direction between two hosts."""
        self._blocked[src, dst] = None

    def is_blocked(self, src: str, dst: str) -> bool:
        """Tell whether nothing gets from one host to another."""
        return (src, dst) in self._blocked

    def mend(self) -> None:
        """Let everything through again, what was held back first."""
        self._blocked.clear()
        for wire in list(self._wires):
            wire.flush()

    def calm(self) -> None:
        """Work well from here on."""
        self.is_calm = True
        self.mend()

    def delay_us(self) -> int:
        """Draw how long one segment is on its way."""
        rng, options = self.rng, self.options
        if self.is_calm:
            return 1 + rng.randrange(_CALM_US)
        delay_us = options.latency_us // 4
        delay_us += 1 + int(rng.expovariate(1 / options.latency_us))
        if options.loss:
            wait_us = _RETRANSMIT_US
            while rng.random() < options.loss:
                delay_us += wait_us
                wait_us *= 2
        return delay_us

    def carry(self, src: Host, dst: Host, label: str, act: Callable[[], None]) -> None:
        """Carry a lone packet that belongs to no connection; lost if the way is cut."""

        def arrive() -> None:
            if not self.is_blocked(src.name, dst.name):
                act()

        self.world.after(self.delay_us(), label, arrive)

    def connect(self, wire: Wire) -> None:
        """Note a connection that begins."""
        self._wires[wire] = None

    def forget(self, wire: Wire) -> None:
        """Forget one that is over at both ends."""
        self._wires.pop(wire, None)

    def wires(self) -> list[Wire]:
        """Return all connections."""
        return list(self._wires)


class _End:
    """One end of a connection: whose it is, and what is on its way there."""

    __slots__ = (
        "arrived",
        "coming",
        "held",
        "host",
        "is_open",
        "last_us",
        "loop",
        "on_lost",
    )

    def __init__(self, loop: ServiceLoop, on_lost: _Action) -> None:
        self.loop = loop
        self.host = loop.host
        self.on_lost = on_lost
        self.is_open = True
        self.last_us = 0
        self.coming: deque[_Item] = deque()
        """On its way here, in order; each arrival takes the first."""
        self.held = 0
        """Arrivals that a cut way holds back."""
        self.arrived: Final[deque[tuple[_Action, tuple[Any, ...]]]] = deque()

    def take(self, action: _Action, *args: Any) -> None:
        """Have something that arrived done in its order, whatever the loop's is."""
        self.arrived.append((action, args))
        self.loop.take(self._take_next)

    def _take_next(self) -> None:
        action, args = self.arrived.popleft()
        if not self.loop.is_dead:
            action(*args)


class Wire:
    """One connection between a client's loop and a server's; see the module's rules."""

    def __init__(
        self,
        net: WireNet,
        client: ServiceLoop,
        server: ServiceLoop,
        on_client_lost: Callable[[str], None],
        on_server_lost: Callable[[str], None],
    ) -> None:
        self._net: Final = net
        self._client: Final = _End(client, on_client_lost)
        self._server: Final = _End(server, on_server_lost)
        self.is_broken = False
        net.connect(self)
        client.host.wires[self] = None
        server.host.wires[self] = None

    def joins(self, a: Host, b: Host) -> bool:
        """Tell whether it is between two hosts."""
        return {self._client.host, self._server.host} == {a, b}

    @property
    def is_lost_at_client(self) -> bool:
        """Whether the client knows that there is no connection any more."""
        return not self._client.is_open

    @property
    def hosts(self) -> tuple[Host, Host]:
        """Whose it is: the client's and the server's."""
        return self._client.host, self._server.host

    def begin_at_server(self, action: _Action) -> None:
        """Have the server begin its end, before it takes anything in."""
        self._server.take(action)

    def send_to_server(self, label: str, action: _Action, *args: Any) -> None:
        """Have something happen on the server's loop when it arrives there."""
        self._send(self._client, self._server, (label, action, args))

    def send_to_client(self, label: str, action: _Action, *args: Any) -> None:
        """Have something happen on the client's loop when it arrives there."""
        self._send(self._server, self._client, (label, action, args))

    def _send(self, src: _End, dst: _End, item: _Item) -> None:
        net = self._net
        if not src.is_open or src.loop.is_dead:
            return
        options = net.options
        may_break = options.breaks and not net.is_calm and not self.is_broken
        if may_break and net.rng.random() < options.breaks:
            net.world.note(f"reset {src.host.name}-{dst.host.name}")
            self.break_off()
        if self.is_broken:
            self._answer_reset(src, dst)
            return
        self._put(src, dst, item)

    def _put(self, src: _End, dst: _End, item: _Item) -> None:
        world = self._net.world
        at_us = max(world.now_us + self._net.delay_us(), dst.last_us)
        dst.last_us = at_us
        dst.coming.append(item)
        world.after(at_us - world.now_us, item[0], self._arrive, src, dst)

    def _arrive(self, src: _End, dst: _End) -> None:
        if not dst.is_open or self.is_broken:
            return
        if self._net.is_blocked(src.host.name, dst.host.name):
            dst.held += 1
            return
        _, action, args = dst.coming.popleft()
        dst.take(action, *args)

    def flush(self) -> None:
        """Send on what was held back."""
        for src, dst in self._ways():
            if not self._net.is_blocked(src.host.name, dst.host.name):
                world = self._net.world
                for _ in range(dst.held):
                    world.after(self._net.delay_us(), "held", self._arrive, src, dst)
                dst.held = 0

    def _ways(self) -> tuple[tuple[_End, _End], tuple[_End, _End]]:
        return (self._client, self._server), (self._server, self._client)

    # --- the end --------------------------------------------------------------------

    def break_off(self) -> None:
        """Break it: what is on its way is lost, and each end may hear of it."""
        self.is_broken = True
        for src, dst in self._ways():
            self._tell(src, dst)

    def lose_end(self, host: Host) -> None:
        """One end's process is gone; its kernel says so, if word gets through."""
        for src, dst in self._ways():
            if src.host is host and src.loop.is_dead:
                src.is_open = False
                if not self.is_broken:
                    self.is_broken = True
                    self._tell(src, dst)
        self._forget_if_over()

    def close_from_client(self, *, is_reset: bool = False) -> None:
        """The client ends it: behind what it has sent, or by a reset before that."""
        self._shut(self._client, self._server, is_reset=is_reset)

    def close_from_server(self, *, is_reset: bool = False) -> None:
        """The server ends it: behind what it has sent, or by a reset before that."""
        self._shut(self._server, self._client, is_reset=is_reset)

    def _shut(self, src: _End, dst: _End, *, is_reset: bool) -> None:
        if src.is_open and not self.is_broken:
            if is_reset:
                self.is_broken = True
                self._tell(src, dst)
            else:
                self._put(src, dst, ("fin", self._lose, (dst, CLOSED)))
        src.is_open = False
        src.host.wires.pop(self, None)
        self._forget_if_over()

    def _tell(self, src: _End, dst: _End) -> None:
        """Have an end hear that the connection is broken, soon, late or never."""
        net = self._net
        is_told = net.is_calm or net.rng.random() >= net.options.silent
        is_told = is_told and not net.is_blocked(src.host.name, dst.host.name)
        delay_us = net.delay_us() if is_told else _KEEPALIVE_US
        if is_told or dst is self._server:
            net.world.after(delay_us, "reset", self._take_loss, dst, "reset by peer")

    def _answer_reset(self, src: _End, dst: _End) -> None:
        """Somebody sends on a broken connection: the other side's kernel says no."""
        net = self._net

        def refuse() -> None:
            if not net.is_blocked(dst.host.name, src.host.name):
                self._take_loss(src, "reset by peer")

        if not net.is_blocked(src.host.name, dst.host.name):
            net.world.after(net.delay_us() + net.delay_us(), "reset", refuse)

    def _take_loss(self, end: _End, why: str) -> None:
        if end.is_open:
            end.take(self._lose, end, why)

    def _lose(self, end: _End, why: str) -> None:
        """On the loop of an end: it knows that there is no connection any more."""
        if end.is_open:
            end.is_open = False
            self.is_broken = True
            end.coming.clear()
            end.host.wires.pop(self, None)
            end.on_lost(why)
            self._forget_if_over()

    def _forget_if_over(self) -> None:
        if not self._client.is_open and not self._server.is_open:
            self._net.forget(self)
