"""All peer links of one node: dial, greet, send, call, serve.

Rules: sending never blocks and never fails; what cannot be sent is dropped, and the
core is told that the peer is unreachable. Names are looked up at each attempt. A peer
of another cluster, or under another incarnation than the known one, is refused and
counts for nothing.

Source: DESIGN.md section 6 (identity); RELIABILITY.md rules 19, 46.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from raftd.consensus.messages import Message
from raftd.consensus.types import NodeId
from raftd.transport.accepted import Accepted
from raftd.transport.dialled import Dialled
from raftd.transport.frames import Goodbye, Hello

__all__ = ["Greeter", "LinkSettings", "Links", "ListenFailed"]

_logger = logging.getLogger(__name__)


class ListenFailed(Exception):
    """The peer port cannot be listened on; the sentence says why."""


class Greeter(Protocol):
    """Knows who we are and whom we accept; see ``greeting``."""

    def hello(self, expected: int) -> Hello:
        """Introduce ourselves."""

    def judge(self, hello: Hello, expected: int) -> Goodbye | None:
        """Refuse a peer, or take note of it."""

    def refused(self, peer: int, goodbye: Goodbye) -> None:
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
    """

    connect_timeout_s: float = 1.0
    retry_s_min: float = 0.02
    retry_s_max: float = 0.5
    buffer_bytes_max: int = 64 << 20


class Links:
    """The node's side of every peer connection."""

    def __init__(
        self,
        peers: dict[NodeId, tuple[str, int]],
        greeter: Greeter,
        settings: LinkSettings,
    ) -> None:
        """Prepare links; ``start`` dials.

        Args:
            peers: Host and port by id, this node excluded.
            greeter: Decides whom to talk to.
            settings: Times and bounds.
        """
        self.greeter: Final = greeter
        self._settings: Final = settings
        self._dialled: Final = {
            peer: Dialled(peer, address, self, settings)
            for peer, address in peers.items()
        }
        self._accepted: Final[dict[Accepted, None]] = {}
        self._server: asyncio.Server | None = None
        self._tasks: Final[list[asyncio.Task[None]]] = []
        self.on_messages: Callable[[Sequence[Message]], None] = _drop
        self.on_down: Callable[[NodeId, bool], None] = _drop_down
        self.on_up: Callable[[NodeId], None] = _drop_up
        self.handler: Callable[[NodeId, bytes], Awaitable[bytes]] | None = None

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
        for link in self._dialled.values():
            self._tasks.append(asyncio.create_task(link.run()))

    async def stop(self) -> None:
        """End all links; may be called twice, or before ``start``."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self._server is not None:
            self._server.close()
        for accepted in list(self._accepted):
            accepted.close()
        self._server = None

    # --- PeerPort ---------------------------------------------------------------

    def send(self, peer: NodeId, messages: Sequence[Message]) -> None:
        """Send if the link is up, else drop."""
        self._dialled[peer].send(messages)

    async def call(self, peer: NodeId, request: bytes, timeout_s: float) -> bytes:
        """Ask a peer; see ``PeerPort.call``."""
        return await self._dialled[peer].call(request, timeout_s)

    def serve(self, handler: Callable[[NodeId, bytes], Awaitable[bytes]]) -> None:
        """Answer peers' calls with ``handler``."""
        self.handler = handler

    def is_up(self, peer: NodeId) -> bool:
        """Tell whether the dialled link to a peer is greeted."""
        return self._dialled[peer].is_up

    # --- called by the connections -----------------------------------------------

    def note_accepted(self, accepted: Accepted) -> None:
        """Keep a connection to end it with the node."""
        self._accepted[accepted] = None

    def note_closed(self, accepted: Accepted) -> None:
        """Forget a connection that is over."""
        self._accepted.pop(accepted, None)


def _drop(messages: Sequence[Message]) -> None:
    _logger.debug("messages_dropped count=%d", len(messages))


def _drop_down(peer: NodeId, was_closed_by_peer: bool) -> None:
    _logger.debug("link_down peer=%d closed_by_peer=%s", peer, was_closed_by_peer)


def _drop_up(peer: NodeId) -> None:
    _logger.debug("link_up peer=%d", peer)
