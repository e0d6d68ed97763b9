"""All peer links of one node: dial, greet, send, call, serve.

Rules: sending never blocks and never fails; what cannot be sent is dropped, and the
core is told that the peer is unreachable. Names are looked up at each attempt. A peer
of another cluster, or under another incarnation than the known one, is refused and
counts for nothing. Whom to dial, and where, may change at any time.

Source: DESIGN.md section 6 (identity); RELIABILITY.md rules 19, 46.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol

from raftd.consensus.messages import Message
from raftd.consensus.types import NodeId
from raftd.node.errors import LinkDown
from raftd.node.member_sight import Shown
from raftd.transport.accepted import Accepted
from raftd.transport.address_book import Address
from raftd.transport.dialled import Dialled
from raftd.transport.frames import (
    PROTOCOL_VERSION,
    Goodbye,
    Hello,
    OldHello,
    Removed,
)

__all__ = ["STRANGERS_MAX", "Greeter", "LinkSettings", "Links", "ListenFailed"]

_logger = logging.getLogger(__name__)


STRANGERS_MAX: Final = 64
"""Connections on which nobody has greeted yet."""

_REFUSED_MAX: Final = 64
"""Reasons that are remembered, so as not to repeat them in the logger."""


class ListenFailed(Exception):
    """The peer port cannot be listened on; the sentence says why."""


class Greeter(Protocol):
    """Knows who we are and whom we accept; see ``greeting``."""

    def hello(self, expected: int, version: int) -> Hello | OldHello:
        """Introduce ourselves, in a version of the greeting."""

    def judge(self, frame: Hello | OldHello, expected: int) -> Goodbye | Removed | None:
        """Refuse a peer, or take note of it."""

    def is_removed(self, peer: int) -> bool:
        """Tell whether a peer was a member and is none."""

    def dismissal(self, peer: int) -> Removed | None:
        """What to say to a peer that was accepted and is a member no more."""

    def refused(self, peer: int, goodbye: Goodbye | Removed) -> None:
        """A peer will not talk to us."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """Times and bounds of peer links.

    Attributes:
        connect_timeout_s: For dialling and greeting.
        retry_s_min: First pause after a failed dial; doubles up to
        retry_s_max: this one.
        buffer_bytes_max: Unsent bytes to one peer; beyond it the link is dialled
            anew.
        linger_s: How long the links with a peer stay when it is to be dialled no
            more: it may be told meanwhile why.
    """

    connect_timeout_s: float = 1.0
    retry_s_min: float = 0.02
    retry_s_max: float = 0.5
    buffer_bytes_max: int = 64 << 20
    linger_s: float = 1.0


class Links:
    """The node's side of every peer connection."""

    def __init__(
        self,
        peers: Mapping[NodeId, Sequence[Address]],
        greeter: Greeter,
        settings: LinkSettings,
    ) -> None:
        """Prepare links; ``start`` dials.

        Args:
            peers: Where each peer may be, by id, this node excluded.
            greeter: Decides whom to talk to.
            settings: Times and bounds.
        """
        self.greeter: Final = greeter
        self._settings: Final = settings
        self._dialled: Final[dict[NodeId, Dialled]] = {}
        self._accepted: Final[dict[Accepted, None]] = {}
        self._refused: Final[dict[int, str]] = {}
        self._server: asyncio.Server | None = None
        self._tasks: Final[dict[NodeId, asyncio.Task[None]]] = {}
        self._loose: Final[dict[asyncio.Task[None], None]] = {}
        self._knocks: Final[list[asyncio.Task[None]]] = []
        self._is_started = False
        self._wanted: frozenset[NodeId] = frozenset()
        self._sweep_timer: asyncio.TimerHandle | None = None
        self.on_messages: Callable[[Sequence[Message]], None] = _drop
        self.on_down: Callable[[NodeId, bool], None] = _drop_down
        self.on_up: Callable[[NodeId], None] = _drop_up
        self.handler: Callable[[NodeId, bytes], Awaitable[bytes]] | None = None
        self.set_peers(peers)

    async def listen(self, host: str, port: int) -> int:
        """Listen for peers; returns the port, which may have been 0.

        Raises:
            ListenFailed: In use, or not ours to have.
        """
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: Accepted(self), host, port, reuse_address=True
            )
        except OSError as error:
            raise ListenFailed(
                f"cannot listen for peers on {host}:{port}: {error.strerror or error}"
            ) from error
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    @property
    def address(self) -> tuple[str, int]:
        """Where this node listens for peers."""
        assert self._server is not None, "listen comes first"
        host, port = self._server.sockets[0].getsockname()[:2]
        return str(host), int(port)

    def start(self) -> None:
        """Begin to dial all peers, for as long as the node lives."""
        self._is_started = True
        for peer in self._dialled:
            self._dial(peer)

    def set_peers(self, peers: Mapping[NodeId, Sequence[Address]]) -> None:
        """Dial these, and nobody else, from now on; links that are up stay.

        Args:
            peers: Where each peer may be, by id, this node excluded.
        """
        self._wanted = frozenset(peers)
        if not self._is_started:
            self._sweep()
        elif any(peer not in peers for peer in self._dialled):
            loop = asyncio.get_running_loop()
            self._sweep_timer = self._sweep_timer or loop.call_later(
                self._settings.linger_s, self._sweep
            )
        for peer, addresses in peers.items():
            known = self._dialled.get(peer)
            if known is not None:
                known.set_addresses(addresses)
                continue
            self._dialled[peer] = Dialled(peer, addresses, self, self._settings)
            if self._is_started:
                self._dial(peer)

    def _sweep(self) -> None:
        """End the links with those who are wanted no more."""
        self._sweep_timer = None
        for peer in [peer for peer in self._dialled if peer not in self._wanted]:
            del self._dialled[peer]
            task = self._tasks.pop(peer, None)
            if task is not None:
                self._keep_until_done(task)
                task.cancel()
        self.dismiss_removed()

    def dismiss_removed(self) -> None:
        """Hang up on those who were removed; who may be told so is told."""
        for accepted in list(self._accepted):
            peer = accepted.peer
            if peer is None or not self.greeter.is_removed(peer):
                continue
            refused = self.greeter.dismissal(peer)
            if refused is not None:
                accepted.dismiss(refused)
            elif peer not in self._wanted:
                accepted.close()

    def _keep_until_done(self, task: asyncio.Task[None]) -> None:
        self._loose[task] = None
        task.add_done_callback(lambda done: self._loose.pop(done, None))

    def knock(self, addresses: Sequence[Address]) -> None:
        """Greet whoever is at these addresses, until a link with a member is up.

        For a node that knows where members are and not who: they tell it.
        """
        for address in addresses:
            link = Dialled(NodeId(0), [address], self, self._settings)
            task = asyncio.create_task(link.knock())
            self._keep_until_done(task)
            self._knocks.append(task)

    def _dial(self, peer: NodeId) -> None:
        self._tasks[peer] = asyncio.create_task(self._dialled[peer].run())

    async def stop(self) -> None:
        """End all links; may be called twice, or before ``start``."""
        self._is_started = False
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        tasks = [*self._tasks.values(), *self._loose]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        if self._server is not None:
            self._server.close()
        for accepted in list(self._accepted):
            accepted.close()
        self._server = None

    # --- PeerPort ---------------------------------------------------------------

    def send(self, peer: NodeId, messages: Sequence[Message]) -> None:
        """Send if the link is up, else drop."""
        link = self._dialled.get(peer)
        if link is not None:
            link.send(messages)

    async def call(self, peer: NodeId, request: bytes, timeout_s: float) -> bytes:
        """Ask a peer; see ``PeerPort.call``."""
        link = self._dialled.get(peer)
        if link is None:
            raise LinkDown(f"nobody is known as member {peer}")
        return await link.call(request, timeout_s)

    def serve(self, handler: Callable[[NodeId, bytes], Awaitable[bytes]]) -> None:
        """Answer peers' calls with ``handler``."""
        self.handler = handler

    def is_up(self, peer: NodeId) -> bool:
        """Tell whether the dialled link to a peer is greeted."""
        link = self._dialled.get(peer)
        return link is not None and link.is_up

    def level(self, peer: NodeId) -> int:
        """Return what a peer's release can do; 0 while the link to it is down."""
        link = self._dialled.get(peer)
        shown = link.shown if link is not None else None
        return shown.level if shown is not None else 0

    def shown(self, peer: NodeId) -> Shown | None:
        """Return what a peer said of itself on the link that is up."""
        link = self._dialled.get(peer)
        return link.shown if link is not None else None

    # --- called by the connections -----------------------------------------------

    def note_up(self, peer: NodeId) -> None:
        """A dialled link is greeted."""
        while self._knocks:
            self._knocks.pop().cancel()
        self.on_up(peer)

    def note_down(self, peer: NodeId, *, was_closed_by_peer: bool) -> None:
        """A dialled link that was greeted is over."""
        self.on_down(peer, was_closed_by_peer)

    def note_accepted(self, accepted: Accepted) -> bool:
        """Keep a connection to end it with the node; False if there are too many."""
        self._accepted[accepted] = None
        strangers = sum(1 for other in self._accepted if other.peer is None)
        return strangers <= STRANGERS_MAX

    def note_greeted(self, accepted: Accepted, peer: NodeId, version: int) -> None:
        """A peer greeted on a connection that it dialled."""
        self._refused.pop(peer, None)
        for other in list(self._accepted):
            if other is not accepted and other.peer == peer:
                other.close()
        link = self._dialled.get(peer)
        if link is not None and version == PROTOCOL_VERSION:
            link.note_newer()

    def note_refused(self, peer: int, sentence: str) -> None:
        """A peer was refused: log the reason once, not at each of its attempts."""
        if self._refused.get(peer) != sentence:
            if len(self._refused) >= _REFUSED_MAX:
                self._refused.clear()
            self._refused[peer] = sentence
            _logger.warning("peer_refused reason=%s", sentence)

    def note_closed(self, accepted: Accepted) -> None:
        """Forget a connection that is over."""
        self._accepted.pop(accepted, None)


def _drop(messages: Sequence[Message]) -> None:
    _logger.debug("messages_dropped count=%d", len(messages))


def _drop_down(peer: NodeId, was_closed_by_peer: bool) -> None:
    _logger.debug("link_down peer=%d closed_by_peer=%s", peer, was_closed_by_peer)


def _drop_up(peer: NodeId) -> None:
    _logger.debug("link_up peer=%d", peer)
