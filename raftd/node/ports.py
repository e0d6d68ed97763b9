"""What a replica and its driver need from the world, as Protocols.

The log store, the state store, the peer links and the clocks are arguments, so that
the simulator runs the production files over its own.

Source: DESIGN.md sections 2 and 3.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from raftd.consensus.messages import Message
from raftd.consensus.ready import Write
from raftd.consensus.types import Index, NodeId
from raftd.storage.types import CheckpointMeta, Sizes

__all__ = ["Clock", "DiskLook", "DiskPort", "LogPort", "PeerPort", "StatePort"]


class Clock(Protocol):
    """The two clocks of a node; nothing else in raftd reads one."""

    def monotonic_ms(self) -> int:
        """Milliseconds that never go back; only differences mean anything."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970, as this machine believes."""


@dataclasses.dataclass(frozen=True, slots=True)
class DiskLook:
    """How the data directory and its file system are.

    Attributes:
        has_ballast: The ballast holds all of its room.
        replaced: Which database is no longer the file that was opened, in a sentence;
            empty if all is well.
    """

    free_bytes: int
    total_bytes: int
    has_ballast: bool
    replaced: str


class LogPort(Protocol):
    """The durable log."""

    async def write(self, write: Write) -> None:
        """Make one write durable.

        Raises:
            DiskFull: Nothing was written; the same write may be tried again.
            DiskFailed: It may be there or not: the node must end.
        """

    async def cut_prefix(self, upto: Index) -> None:
        """Forget entries up to and with this index."""


class DiskPort(Protocol):
    """The data directory's file system. Its calls block: make them in a thread."""

    @property
    def ballast_bytes(self) -> int:
        """How much room the ballast holds; 0 = there is none."""

    def look(self) -> DiskLook:
        """Look how it is.

        Raises:
            DiskFailed: The system does not say.
        """

    def fill_ballast(self) -> bool:
        """Take the ballast's room; False if there is not enough."""

    def release_ballast(self) -> None:
        """Give the ballast's room free."""


class StatePort(Protocol):
    """The durable state."""

    async def checkpoint(self, meta: CheckpointMeta, chunks: Iterable[bytes]) -> None:
        """Append one checkpoint, all or nothing."""

    async def sizes(self) -> Sizes:
        """Count the bytes that are alive."""

    async def merge(self) -> bool:
        """Merge all chunks into a new base, in a process of its own."""


class PeerPort(Protocol):
    """The links to the other members."""

    def send(self, peer: NodeId, messages: Sequence[Message]) -> None:
        """Send if the link is up, else drop; never blocks."""

    def is_up(self, peer: NodeId) -> bool:
        """Tell whether messages to a peer would be sent."""

    async def call(self, peer: NodeId, request: bytes, timeout_s: float) -> bytes:
        """Ask a peer.

        Raises:
            LinkDown: Never sent.
            LinkLost: Sent, no answer: it may have been carried out.
        """

    def serve(self, handler: Callable[[NodeId, bytes], Awaitable[bytes]]) -> None:
        """Have peers' calls answered by ``handler``."""
