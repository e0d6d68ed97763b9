"""Snapshots on their way out: the newest checkpoint's chunks, as they are.

Rules: one stream per follower, at most two at once. A piece of the checkpoint is read
while the one before it is on its way, so what is in flight is bounded, and nothing is
held whole. A broken link, or a follower that was restarted, goes on where it was: the
snapshot is offered again under the same id for as long as its read transaction is
open. Whoever leads no more, or whose follower needs it no more, stops.

Source: RELIABILITY.md rules 19, 28, 31 and 32; DESIGN.md section 6.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import zlib
from typing import Final

import msgspec

from raftd.consensus.progress import ProgressState
from raftd.consensus.types import NodeId, Role, Term
from raftd.node.driver import Driver
from raftd.node.errors import LinkError, LinkLost
from raftd.node.peer_calls import (
    FinishSnapshot,
    OfferSnapshot,
    PeerCall,
    SendChunks,
    SnapshotTold,
    decode_reply,
    encode,
)
from raftd.node.ports import PeerPort, Snapshot, StatePort

__all__ = ["SnapshotsOut"]

_logger = logging.getLogger(__name__)

_STREAMS_MAX: Final = 2
_PIECE_BYTES: Final = 512 * 1024
"""Of chunks in one call; another piece is read meanwhile."""
_CALL_S: Final = 10.0
_RETRY_S: Final = 0.3
_PATIENCE_S: Final = 60.0
"""Without any progress for so long, a snapshot is given up."""
_FINISH_S: Final = 300.0
"""A follower that has all of it may take so long to load it, and says nothing of it."""
_LEVEL: Final = 2
"""Members below do not know these calls."""
_OFFER_ID_BYTES: Final = 16
_NEVER_LOADED: Final = "it has all of it, and never says that it is loaded"


class _Stream:
    """One snapshot on its way to one follower."""

    __slots__ = (
        "chunk_count",
        "finish_until_s",
        "have",
        "index",
        "is_again",
        "task",
        "term",
    )

    def __init__(self, term: Term) -> None:
        self.term: Final = term
        self.index = 0
        self.chunk_count = 0
        self.have = 0
        self.is_again = False
        self.finish_until_s: float | None = None
        self.task: asyncio.Task[None] | None = None


class SnapshotsOut:
    """The sender of one member; see the module's rules."""

    def __init__(self, driver: Driver, peers: PeerPort, state: StatePort) -> None:
        """Wire it; the driver's ``on_snapshot_wanted`` is set here."""
        self._driver: Final = driver
        self._core: Final = driver.replica.core
        self._peers: Final = peers
        self._state: Final = state
        self._room: Final = asyncio.Semaphore(_STREAMS_MAX)
        self._streams: Final[dict[NodeId, _Stream]] = {}
        driver.on_snapshot_wanted = self.want

    def progress(self) -> tuple[int, int]:
        """Return a follower that is being sent a snapshot and how many percent it has.

        (0, -1) if there is none.
        """
        for node, stream in self._streams.items():
            if stream.chunk_count:
                return node, 100 * stream.have // stream.chunk_count
        return 0, -1

    def want(self, node: NodeId) -> None:
        """Send a follower a snapshot."""
        stream = self._streams.get(node)
        if stream is not None:
            stream.is_again = True  # it was about to end
            return
        stream = self._streams[node] = _Stream(self._core.term)
        stream.task = asyncio.create_task(self._send(node, stream))

    async def stop(self) -> None:
        """Give up what is under way."""
        tasks = [each.task for each in self._streams.values() if each.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- one stream ---------------------------------------------------------------

    async def _send(self, node: NodeId, stream: _Stream) -> None:
        is_sent = False
        try:
            async with self._room:
                if self._is_wanted(node, stream):
                    is_sent = await self._send_newest(node, stream)
        except Exception as error:  # an unreadable state, or a broken promise
            self._driver.fail(f"the state cannot be sent: {error!r}", error)
        finally:
            del self._streams[node]
        if self._is_leading(stream):
            self._core.snapshot_sent(node, is_sent)
            self._driver.wake()
        if stream.is_again:
            self.want(node)

    async def _send_newest(self, node: NodeId, stream: _Stream) -> bool:
        opening = asyncio.ensure_future(asyncio.to_thread(self._state.open_snapshot))
        try:
            snapshot = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unwanted)
            raise
        stream.index = snapshot.meta.applied_index
        stream.chunk_count = snapshot.count
        self._core.snapshot_began(node, stream.index)
        _logger.info(
            "snapshot_begins to=%d index=%d bytes=%d",
            *(node, stream.index, snapshot.bytes),
        )
        try:
            is_sent = await self._until_sent(node, stream, snapshot)
        finally:
            await asyncio.shield(asyncio.to_thread(snapshot.close))
        _logger.info(
            "snapshot_ends to=%d index=%d sent=%s", node, stream.index, is_sent
        )
        return is_sent

    async def _until_sent(
        self, node: NodeId, stream: _Stream, snapshot: Snapshot
    ) -> bool:
        """Offer it until it was taken, or is not wanted, or patience ends."""
        offer = self._offer(stream, snapshot)
        loop = asyncio.get_running_loop()
        until_s = loop.time() + _PATIENCE_S
        reason = ""
        while self._is_wanted(node, stream) and loop.time() < until_s:
            before = stream.have
            try:
                told = await self._go_on(node, stream, snapshot, offer)
            except LinkError as error:
                told = SnapshotTold(stream.have, refusal=str(error))
            if told.is_done:
                return True
            if stream.have > before:
                until_s = loop.time() + _PATIENCE_S
            if told.refusal != reason:
                reason = told.refusal
                _logger.info("snapshot_waits to=%d reason=%s", node, reason)
            await asyncio.sleep(_RETRY_S)
        return False

    async def _go_on(
        self, node: NodeId, stream: _Stream, snapshot: Snapshot, offer: OfferSnapshot
    ) -> SnapshotTold:
        """Offer it, and send what is missing; ends with a refusal, or done."""
        told = await self._ask(node, stream, offer)
        reading: asyncio.Task[list[bytes]] | None = None
        reads_from = -1
        try:
            while not told.is_done and not told.refusal:
                have = stream.have = told.have
                if not self._is_wanted(node, stream):
                    return SnapshotTold(have, refusal="it is not wanted any more")
                if have >= snapshot.count:
                    told = await self._finish(node, stream, offer)
                    continue
                if reading is None or reads_from != have:
                    reading = _read(snapshot, have)
                chunks = await reading
                reads_from = have + len(chunks)
                reading = _read(snapshot, reads_from)
                crcs = tuple(map(zlib.crc32, chunks))
                call: PeerCall = SendChunks(offer.offer_id, have, tuple(chunks), crcs)
                told = await self._ask(node, stream, call)
        finally:
            if reading is not None:
                await asyncio.gather(reading, return_exceptions=True)
        return told

    async def _finish(
        self, node: NodeId, stream: _Stream, offer: OfferSnapshot
    ) -> SnapshotTold:
        """Ask once whether it is loaded; who never says so is given up."""
        now_s = asyncio.get_running_loop().time()
        if stream.finish_until_s is None:
            stream.finish_until_s = now_s + _FINISH_S
        if now_s >= stream.finish_until_s:
            return SnapshotTold(stream.have, refusal=_NEVER_LOADED)
        call = FinishSnapshot(offer.offer_id, stream.term)
        return await self._ask(node, stream, call)

    async def _ask(self, node: NodeId, stream: _Stream, call: PeerCall) -> SnapshotTold:
        body = await self._peers.call(node, encode(call), _CALL_S)
        try:
            reply = decode_reply(body)
        except msgspec.MsgspecError as error:
            raise LinkLost(f"member {node} answers in no words of ours") from error
        if not isinstance(reply, SnapshotTold) or reply.have < 0:
            raise LinkLost(f"member {node} answers something else than it was asked")
        return reply

    def _offer(self, stream: _Stream, snapshot: Snapshot) -> OfferSnapshot:
        meta = snapshot.meta
        return OfferSnapshot(
            # New for each read transaction: a merge may order the chunks otherwise.
            secrets.token_bytes(_OFFER_ID_BYTES),
            stream.term,
            meta.applied_index,
            meta.applied_term,
            meta.digest,
            meta.membership,
            snapshot.count,
            snapshot.bytes,
        )

    def _is_leading(self, stream: _Stream) -> bool:
        core = self._core
        return core.role is Role.LEADER and core.term == stream.term

    def _is_wanted(self, node: NodeId, stream: _Stream) -> bool:
        if not self._is_leading(stream):
            return False
        if 0 < self._peers.level(node) < _LEVEL:
            return False
        progress = self._core.progress_states().get(node)
        return progress is ProgressState.SNAPSHOT


def _read(snapshot: Snapshot, first: int) -> asyncio.Task[list[bytes]]:
    """Read the next piece in a thread."""
    return asyncio.create_task(asyncio.to_thread(snapshot.read, first, _PIECE_BYTES))


def _close_unwanted(opening: asyncio.Future[Snapshot]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
