"""What a production driver asks of the world: log, state, disk, links and clocks.

Rules: a transaction takes its time, and only its end makes it durable; those of one
file come one after the other. A full disk refuses and nothing has happened; a bad one
fails, and what was under way is there or not. Each life of a node has its own ports.

Source: ``raftd.node.ports``; RELIABILITY.md section 6 (disk).
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from functools import partial
from random import Random
from typing import Final

from raftd.consensus.messages import Message
from raftd.consensus.ready import Write
from raftd.consensus.types import Index, NodeId, Term
from raftd.node.errors import LinkLost
from raftd.node.member_sight import Shown
from raftd.node.ports import DiskLook
from raftd.storage.chunks import Row, pack, unpack
from raftd.storage.types import CheckpointMeta, InstallMark, Sizes
from tests.sim.clock import NodeClock
from tests.sim.disk import Disk
from tests.sim.files import Files
from tests.sim.loop import SimLoop
from tests.sim.network import Network
from tests.sim.world import World

__all__ = [
    "DiskPort",
    "Files",
    "LogPort",
    "PeerPort",
    "SimClock",
    "StatePort",
]

_BALLAST_BYTES: Final = 4000
_MERGE_SCALE: Final = 16_384
"""Sizes are told so much larger, so that small states are merged too."""


_Chunk = bytes


class LogPort:
    """The durable log."""

    def __init__(self, files: Files, loop: SimLoop) -> None:
        self._files: Final = files
        self._loop: Final = loop
        self._lock: Final = asyncio.Lock()

    async def write(self, write: Write) -> None:
        """Make one write durable."""
        size_bytes = _size_bytes(write)
        await self._do("write", size_bytes, lambda: self._files.disk.store(write))

    def write_here(self, write: Write) -> bool:
        """Make a write that only appends durable at once, or do nothing and say so."""
        return (
            bool(write.entries)
            and write.hard_state is None
            and write.truncate_from is None
            and not self._lock.locked()
            and self._files.carry_out_here(
                self._loop,
                "write",
                _size_bytes(write),
                lambda: self._files.disk.store_here(write),
            )
        )

    async def cut_prefix(self, upto: Index) -> None:
        """Forget entries up to and with this index."""
        await self._do("cut", 50, lambda: self._files.disk.cut_prefix(upto))

    async def reset(self, index: Index, term: Term, mark: InstallMark) -> None:
        """Begin the log anew behind an installed state."""
        await self._do("reset", 50, lambda: self._files.disk.reset(index, term, mark))

    async def _do(self, name: str, size_bytes: int, store: Callable[[], None]) -> None:
        async with self._lock:
            await self._files.carry_out(self._loop, name, size_bytes, store)


def _size_bytes(write: Write) -> int:
    return 50 + sum(50 + len(entry.payload) for entry in write.entries)


class _Snapshot:
    """A checkpoint as of one moment, given out in small pieces."""

    def __init__(self, disk: Disk, rng: Random) -> None:
        self.meta: Final = disk.meta
        self._chunks: Final = (*disk.base, *disk.deltas)
        self._rng: Final = rng

    @property
    def count(self) -> int:
        """How many chunks there are."""
        return len(self._chunks)

    @property
    def bytes(self) -> int:
        """Size of all chunks together."""
        return sum(map(len, self._chunks))

    def read(self, first: int, bytes_max: int) -> list[_Chunk]:
        """Read some chunks: the piece is as small as one likes."""
        assert bytes_max > 0, "something is wanted"
        return list(self._chunks[first : first + self._rng.choice([1, 2, 8])])

    def close(self) -> None:
        """Let it go."""


class StatePort:
    """The durable state."""

    def __init__(self, files: Files, loop: SimLoop) -> None:
        self._files: Final = files
        self._disk: Final = files.disk
        self._loop: Final = loop
        self._lock: Final = asyncio.Lock()

    async def checkpoint(
        self, meta: CheckpointMeta, chunks: AsyncIterable[bytes] | Iterable[bytes]
    ) -> None:
        """Append one checkpoint."""
        async with self._lock:
            stored = [chunk async for chunk in _iterate(chunks)]
            await self._do(
                "checkpoint", stored, lambda: self._disk.put_checkpoint(meta, stored)
            )

    async def sizes(self) -> Sizes:
        """Count the bytes that are alive, and exaggerate."""
        base, deltas = self._disk.base, self._disk.deltas
        return Sizes(
            _MERGE_SCALE * sum(map(len, base)), _MERGE_SCALE * sum(map(len, deltas))
        )

    async def merge(self) -> bool:
        """Make one base of all chunks, unless an install comes first."""
        disk = self._disk
        installs, delta_count = disk.installs, len(disk.deltas)
        rows = {(table, key): value for table, key, value in disk.rows()}
        left = [(*key, value) for key, value in rows.items() if value is not None]
        merged = list(pack(left))
        await self._loop.after(self._files.rng.randrange(200_000), "merge")
        async with self._lock:
            if disk.installs != installs:
                return False
            swap = partial(disk.swap_base, delta_count, merged)
            await self._files.carry_out(self._loop, "merge", 100, swap)
        return True

    def open_snapshot(self) -> _Snapshot:
        """Begin to read the newest checkpoint."""
        return _Snapshot(self._disk, self._files.rng)

    async def stage(self, offer_id: bytes, first: int, chunks: Sequence[bytes]) -> None:
        """Store chunks of a snapshot."""
        kept = list(chunks)
        async with self._lock:
            await self._do(
                "stage", kept, lambda: self._disk.put_staged(offer_id, first, kept)
            )

    async def staged(self, offer_id: bytes) -> int:
        """Count the chunks of a snapshot that are staged."""
        async with self._lock:
            staged = self._disk.staged
            return len(staged.chunks) if staged and staged.offer_id == offer_id else 0

    def load_staged(self, offer_id: bytes) -> Iterator[Row]:
        """Give the rows of the staged chunks."""
        staged = self._disk.staged
        assert staged is not None, "nothing is staged"
        assert staged.offer_id == offer_id, "something else is staged"
        for chunk in list(staged.chunks):
            yield from unpack(chunk)

    async def install(self, offer_id: bytes, count: int, meta: CheckpointMeta) -> None:
        """Make a staged snapshot the state."""
        async with self._lock:
            await self._do(
                "install", [], lambda: self._disk.install(offer_id, count, meta)
            )

    async def drop_staged(self) -> None:
        """Forget the snapshot on its way in."""
        async with self._lock:
            await self._do("drop", [], self._disk.drop_staged)

    async def _do(
        self, name: str, chunks: list[bytes], store: Callable[[], None]
    ) -> None:
        size_bytes = 100 + sum(map(len, chunks))
        await self._files.carry_out(self._loop, name, size_bytes, store)


class DiskPort:
    """The file system, with a ballast."""

    ballast_bytes: Final = _BALLAST_BYTES

    def __init__(self, disk: Disk) -> None:
        self._disk: Final = disk

    def look(self) -> DiskLook:
        """Look how it is."""
        disk = self._disk
        return DiskLook(
            disk.room_bytes, 1 << 41, has_ballast=disk.has_ballast, replaced=""
        )

    def fill_ballast(self) -> bool:
        """Take the ballast's room."""
        self._disk.has_ballast = not self._disk.is_full
        return self._disk.has_ballast

    def release_ballast(self) -> None:
        """Give the ballast's room free."""
        disk = self._disk
        if disk.has_ballast and disk.is_full:
            disk.room_bytes += _BALLAST_BYTES
        disk.has_ballast = False


class PeerPort:
    """The links to the others, for messages and calls."""

    def __init__(
        self,
        node_id: int,
        network: Network,
        loop: SimLoop,
        on_send: Callable[[Message], None],
    ) -> None:
        self.node_id: Final = node_id
        self._network: Final = network
        self._loop: Final = loop
        self._on_send: Final = on_send

    def send(self, peer: NodeId, messages: Sequence[Message]) -> None:
        """Send to one peer."""
        for message in messages:
            assert message.dst == peer, "sent to whom it is for"
            self._on_send(message)
        self._network.send(messages)

    def is_up(self, peer: NodeId) -> bool:
        """Tell whether a link is whole, as far as one can know."""
        return self._network.is_open(self.node_id, peer)

    def level(self, peer: NodeId) -> int:
        """Tell what a peer can do."""
        return self._network.level(peer) if self.is_up(peer) else 0

    def shown(self, peer: NodeId) -> Shown | None:
        """Return what a peer says of itself on a link that is up."""
        if not self.is_up(peer):
            return None
        return _shown(peer, self._network.level(peer))

    def shown_by_itself(self) -> Shown:
        """Return what this node says of itself."""
        return _shown(self.node_id, self._network.level(self.node_id))

    async def call(self, peer: NodeId, request: bytes, timeout_s: float) -> bytes:
        """Ask a peer.

        Raises:
            LinkLost: No answer came; it may have been carried out.
        """
        answer: asyncio.Future[bytes] = self._loop.create_future()

        def take(reply: bytes) -> None:
            if not answer.done() and not self._loop.is_dead:
                answer.set_result(reply)
                self._loop.poke()

        self._network.call(self.node_id, peer, request, take)
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            raise LinkLost(f"node {peer} does not answer") from None

    def serve(self, handler: Callable[[NodeId, bytes], Awaitable[bytes]]) -> None:
        """Never called: the node itself hands calls on."""
        raise AssertionError(f"served by {handler}")


def _shown(node_id: int, level: int) -> Shown:
    """Return what a node says of itself."""
    incarnation = node_id.to_bytes(16, "big")
    return Shown(incarnation, level, f"p{node_id}", f"c{node_id}", f"n{node_id}")


class SimClock:
    """The two clocks of a node."""

    def __init__(self, world: World, clock: NodeClock) -> None:
        self._world: Final = world
        self._clock: Final = clock

    def monotonic_ms(self) -> int:
        """Return monotonic time."""
        return self._clock.monotonic_ms(self._world.now_us)

    def wall_ms(self) -> int:
        """Return wall time."""
        return self._clock.wall_ms(self._world.now_us)


async def _iterate(
    chunks: AsyncIterable[bytes] | Iterable[bytes],
) -> AsyncIterator[bytes]:
    if isinstance(chunks, AsyncIterable):
        async for chunk in chunks:
            yield chunk
    else:
        for chunk in chunks:
            yield chunk
