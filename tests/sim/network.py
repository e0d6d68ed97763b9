"""Links between simulated nodes: late, lost, doubled, repeated, out of order, cut.

Rules: a message is encoded when sent and decoded when it arrives, so that nodes share
no objects. Delay is a base plus an exponential part, sometimes with a long tail. A
recorded message may arrive again at any later time (``replay``). A stream link keeps
its order, as one connection does; repeated messages do not.

Source: RELIABILITY.md section 6 (network).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import msgspec

from raftd.consensus.messages import Append, Message
from raftd.consensus.types import NodeId
from raftd.node.roster import LEVEL
from tests.sim.options import Options
from tests.sim.world import World

__all__ = ["Network", "show_message"]

_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final = msgspec.msgpack.Decoder(Message).decode
_PAST_MAX: Final = 300
_TAIL_FACTOR: Final = 20
_CALM_US: Final = 1000

_Packet = tuple[NodeId, NodeId, bytes]


class Network:
    """All links of one cluster."""

    def __init__(
        self, world: World, options: Options, deliver: Callable[[Message], None]
    ) -> None:
        self._world: Final = world
        self._options: Final = options
        self._deliver: Final = deliver
        self.serve: Callable[[int, int, bytes, Callable[[bytes], None]], None] = _drop
        """Hands a call (dst, src, request, answer) to the node that is asked."""
        self._rng: Final = world.rng("net")
        self._late_rng: Final = world.rng("net/late")
        self._blocked: Final[dict[tuple[int, int], None]] = {}
        self._past: Final[list[_Packet]] = []
        self._last_us: Final[dict[tuple[int, int], int]] = {}
        self.running: Final[dict[int, None]] = {}
        self.levels: Final[dict[int, int]] = {}
        """What nodes can do that are not of the newest release."""
        self.is_calm = False
        """Healed: quick, in order, and nothing is lost."""

    def block(self, src: int, dst: int) -> None:
        """Cut one direction of one link."""
        self._blocked[src, dst] = None

    def level(self, node_id: int) -> int:
        """Tell what a node's release can do."""
        return self.levels.get(node_id, LEVEL)

    def is_open(self, a: int, b: int) -> bool:
        """Tell whether a link is cut in neither direction, and both ends run."""
        if a not in self.running or b not in self.running:
            return False
        return (a, b) not in self._blocked and (b, a) not in self._blocked

    def mend(self) -> None:
        """Restore all links."""
        self._blocked.clear()

    def calm(self) -> None:
        """Restore all links, and have them work well from here on."""
        self.mend()
        self.is_calm = True
        self._last_us.clear()

    def send(self, messages: Sequence[Message]) -> None:
        """Send each to its addressee, as the links allow."""
        rng, options = self._rng, self._options
        for message in messages:
            packet = (message.src, message.dst, _ENCODE(message))
            if self.is_calm:
                self._put(packet, rng.randrange(_CALM_US))
                continue
            if options.replay:
                self._replay(packet)
            if options.loss and rng.random() < options.loss:
                continue
            self._put(packet, self._delay_us())
            if options.duplicate and rng.random() < options.duplicate:
                self._put(packet, self._delay_us())

    def call(
        self, src: int, dst: int, request: bytes, answer: Callable[[bytes], None]
    ) -> None:
        """Ask a node, and have its answer on the way back, if neither gets lost."""

        def reply(data: bytes) -> None:
            self._carry(dst, src, "told", data, lambda: answer(data))

        self._carry(
            src, dst, "asked", request, lambda: self.serve(dst, src, request, reply)
        )

    def _carry(
        self, src: int, dst: int, label: str, data: bytes, arrive: Callable[[], None]
    ) -> None:
        loss = 0.0 if self.is_calm else self._options.loss
        if loss and self._rng.random() < loss:
            return
        delay_us = self._rng.randrange(_CALM_US) if self.is_calm else self._delay_us()

        def act() -> None:
            if (src, dst) not in self._blocked:
                self._world.note(f"{label} {src}->{dst} {len(data)} bytes")
                arrive()

        self._world.after(delay_us, "call", act)

    def _replay(self, packet: _Packet) -> None:
        rng, past = self._rng, self._past
        if len(past) < _PAST_MAX:
            past.append(packet)
        else:
            past[rng.randrange(_PAST_MAX)] = packet
        if rng.random() < self._options.replay:
            delay_us = self._delay_us()
            if late_us := self._options.replay_late_us:
                delay_us += self._late_rng.randrange(late_us)
            self._world.after(delay_us, "replay", self._take_in, rng.choice(past))

    def _delay_us(self) -> int:
        rng, options = self._rng, self._options
        mean_us = options.latency_us
        if options.tail and rng.random() < options.tail:
            mean_us *= _TAIL_FACTOR
        return options.latency_us // 4 + int(rng.expovariate(1 / mean_us))

    def _put(self, packet: _Packet, delay_us: int) -> None:
        world = self._world
        if self._options.is_stream:
            link = packet[:2]
            at_us = max(world.now_us + delay_us, self._last_us.get(link, 0))
            self._last_us[link] = at_us
            delay_us = at_us - world.now_us
        world.after(
            delay_us, "packet", self._arrive if self.is_calm else self._take_in, packet
        )

    def _take_in(self, packet: _Packet) -> None:
        """Take in what was sent before all was well, unless it is lost with that."""
        if not (self.is_calm and self._options.heal_drops):
            self._arrive(packet)

    def _arrive(self, packet: _Packet) -> None:
        src, dst, data = packet
        if (src, dst) in self._blocked:
            return
        message = _DECODE(data)
        self._world.mix("got", data, partial(show_message, message))
        self._deliver(message)


def _drop(_: int, __: int, ___: bytes, ____: Callable[[bytes], None]) -> None:
    return


def show_message(message: Message) -> str:
    """Show a message on one line."""
    fields = [
        f"{name}={getattr(message, name)}"
        for name in message.__struct_fields__
        if name not in {"src", "dst", "entries"}
    ]
    if isinstance(message, Append):
        shown = ",".join(f"{entry.term}/{entry.index}" for entry in message.entries)
        fields.append(f"entries={shown}")
    name = type(message).__name__
    return f"{message.src}->{message.dst} {name} {' '.join(fields)}"
