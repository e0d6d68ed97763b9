"""What a replica and its driver need from the world, as Protocols.

The log store, the state store, the peer links and the clocks are arguments, so that
the simulator runs the production files over its own.

Source: DESIGN.md sections 2 and 3.
"""

from __future__ import annotations

import dataclasses
from collections.abc import (
    AsyncIterable,
    Awaitable,
    Callable,
    Iterator,
    Sequence,
)
from typing import Protocol

from raftd.consensus.messages import Message
from raftd.consensus.ready import Write
from raftd.consensus.types import Index, NodeId, Term
from raftd.storage.chunks import Row
from raftd.storage.types import CheckpointMeta, InstallMark, Sizes

__all__ = [
    "Clock",
    "DiskLook",
    "DiskPort",
    "LogPort",
    "PeerPort",
    "Snapshot",
    "StatePort",
]

_Chunk = bytes


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

    async def reset(self, index: Index, term: Term, mark: InstallMark) -> None:
        """Drop the whole log: it goes on behind an installed state."""


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


class Snapshot(Protocol):
    """The newest checkpoint, as of one moment. Its calls block."""

    @property
    def meta(self) -> CheckpointMeta:
        """What belongs to the rows."""

    @property
    def count(self) -> int:
        """How many chunks there are."""

    @property
    def bytes(self) -> int:
        """Size of all chunks together."""

    def read(self, first: int, bytes_max: int) -> list[_Chunk]:
        """Read chunks from a number on, at least one if there is one."""

    def close(self) -> None:
        """Let it go; may be called twice, from any thread."""


class StatePort(Protocol):
    """The durable state."""

    async def checkpoint(
        self, meta: CheckpointMeta, chunks: AsyncIterable[bytes]
    ) -> None:
        """Append one checkpoint, all or nothing; raises DiskFull if it is nothing."""

    async def sizes(self) -> Sizes:
        """Count the bytes that are alive."""

    async def merge(self) -> bool:
        """Merge all chunks into a new base, in a process of its own."""

    def open_snapshot(self) -> Snapshot:
        """Begin to read the newest checkpoint for a follower; blocks for a moment."""

    async def stage(self, offer_id: bytes, first: int, chunks: Sequence[bytes]) -> None:
        """Store chunks of a snapshot durably, where nobody sees them."""

    async def staged(self, offer_id: bytes) -> int:
        """Count the chunks of a snapshot that are staged."""

    def load_staged(self, offer_id: bytes) -> Iterator[Row]:
        """Give the rows of the staged chunks, in order."""

    async def install(self, offer_id: bytes, count: int, meta: CheckpointMeta) -> None:
        """Make a staged snapshot the state, in place of all there was."""

    async def drop_staged(self) -> None:
        """Forget the snapshot on its way in, if any."""


class PeerPort(Protocol):
    """The links to the other members."""

    def send(self, peer: NodeId, messages: Sequence[Message]) -> None:
        """Send if the link is up, else drop; never blocks."""

    def is_up(self, peer: NodeId) -> bool:
        """Tell whether messages to a peer would be sent."""

    def level(self, peer: NodeId) -> int:
        """Return what a peer's release can do, as it last said; 0 = not known."""

    async def call(self, peer: NodeId, request: bytes, timeout_s: float) -> bytes:
        """Ask a peer.

        Raises:
            LinkDown: Never sent.
            LinkLost: Sent, no answer: it may have been carried out.
        """

    def serve(self, handler: Callable[[NodeId, bytes], Awaitable[bytes]]) -> None:
        """Have peers' calls answered by ``handler``."""
