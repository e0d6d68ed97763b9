"""Backups: the newest checkpoint as a stream of bytes, through any member.

A backup includes every write that was acknowledged before it was asked for: the member
first makes sure, as for a linearizable read, how far that is, then has a checkpoint
taken at or beyond that entry and sends its chunks as they are. Where no checkpoint is
that far, the leader is asked to mark an entry; whoever asks meanwhile shares it.

Rules: nothing is held whole, and the next bytes are made when the last were taken.
Only so many backups are made at once, so many wait, and one that nobody takes is given
up, because its read transaction keeps the write-ahead log of state.db from starting
anew.

Source: SEMANTICS.md section 7 (Backup); RELIABILITY.md rules 28 and 31.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Final, Protocol

from raftd.consensus.types import NodeId
from raftd.node.errors import BackupBroken, LinkError
from raftd.node.node import Node
from raftd.node.peer_calls import AskMark, encode
from raftd.node.ports import PeerPort, Snapshot
from raftd.node.refusals import SHUTTING_DOWN
from raftd.statemachine.meta import META_ROW, decode_stamps
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.tables import Table, pack_key
from raftd.storage.backup_file import BackupHeader, BackupWriter
from raftd.storage.chunks import pack, unpack
from raftd.storage.errors import StorageError
from raftd.storage.types import CheckpointMeta

__all__ = [
    "BackupSource",
    "Backups",
    "HeaderMaker",
    "header_maker",
]

_logger = logging.getLogger(__name__)

_AT_ONCE_MAX: Final = 2
_WAITING_MAX: Final = 8
_READ_BYTES: Final = 1 << 20
_PIECE_BYTES: Final = 256 * 1024
_ASK_AGAIN_S: Final = 1.0
_ASK_S: Final = 1.0
_IDLE_S: Final = 60.0
_PEER_CALLS_LEVEL: Final = 2
"""Members below do not know the call that asks for a mark."""

_META_BEGIN: Final = next(pack([(Table.META, pack_key(META_ROW), b"")]))[1:-2]
"""How the row of the state's stamps begins in a chunk: to look is not to unpack."""

_ARRAY_BYTES_MAX: Final = 5

_IDLE: Final = Refusal(
    Reason.DEADLINE,
    f"the backup was given up because nobody took its bytes for {_IDLE_S:.0f} s",
    {"applied": "no"},
)
_DROPPED: Final = Refusal(Reason.DEADLINE, "the backup was given up by who asked")
_TOO_MANY: Final = Refusal(
    Reason.OVERLOADED,
    f"{_WAITING_MAX} backups wait on this member already; try again later, or another",
    {"limit": str(_WAITING_MAX), "retry_after_ms": "10000"},
)
_TOO_LATE: Final = Refusal(
    Reason.DEADLINE,
    "no checkpoint that includes all acknowledged writes was stored in time; nothing"
    " was changed, try again with more time",
    {"applied": "no"},
)


class BackupSource(Protocol):
    """The durable state, as far as backups need it."""

    @property
    def meta(self) -> CheckpointMeta | None:
        """What the newest checkpoint says; None before the first."""

    def open_snapshot(self) -> Snapshot:
        """Begin to read the newest checkpoint; blocks for a moment."""


HeaderMaker = Callable[[Snapshot, int], BackupHeader]
"""Makes the header of a snapshot with a revision; called in a thread."""


def header_maker(
    *,
    cluster_name: str,
    cluster_id: bytes,
    node_id: int,
    release: str,
    wall_ms: Callable[[], int],
) -> HeaderMaker:
    """Describe the backups of one member; see ``BackupHeader``."""

    def make(snapshot: Snapshot, revision: int) -> BackupHeader:
        meta = snapshot.meta
        return BackupHeader(
            release=release,
            cluster_name=cluster_name,
            cluster_id=cluster_id,
            node_id=node_id,
            wall_ms=wall_ms(),
            index=meta.applied_index,
            term=meta.applied_term,
            revision=revision,
            digest=meta.digest,
            roster=meta.membership,
            chunk_count=snapshot.count,
            chunk_bytes=snapshot.bytes,
        )

    return make


class Backups:
    """Makes the backups of one member."""

    def __init__(
        self,
        node: Node,
        peers: PeerPort,
        source: BackupSource,
        header: HeaderMaker,
    ) -> None:
        """Serve a node.

        Args:
            node: Finds out how far a backup has to go.
            peers: Lead to the leader.
            source: Its durable state.
            header: Describes what is made.
        """
        self._node: Final = node
        self._peers: Final = peers
        self._source: Final = source
        self._header: Final = header
        self._room: Final = asyncio.Semaphore(_AT_ONCE_MAX)
        self._waiting = 0
        self._is_stopping = False
        self._stored = asyncio.Event()
        self._making: Final[dict[_Making, None]] = {}
        self._closing: Final[dict[asyncio.Future[None], None]] = {}

    def note_stored(self) -> None:
        """A checkpoint is durable: somebody may wait for it."""
        self._stored.set()
        self._stored = asyncio.Event()

    async def backup(self, timeout_s: float | None) -> AsyncIterator[bytes] | Refusal:
        """Begin a backup; see ``NodeService``."""
        if self._is_stopping:
            return SHUTTING_DOWN
        if self._waiting >= _WAITING_MAX:
            return _TOO_MANY
        self._waiting += 1
        try:
            async with asyncio.timeout(timeout_s):
                await self._room.acquire()
                try:
                    making = await self._prepare()
                except BaseException:
                    self._room.release()
                    raise
        except TimeoutError:
            return _TOO_LATE
        finally:
            self._waiting -= 1
        if isinstance(making, Refusal):
            self._room.release()
            return making
        if self._is_stopping:
            making.end(SHUTTING_DOWN)
            return SHUTTING_DOWN
        return self._pieces(making)

    async def stop(self) -> None:
        """Give up what is under way; may be called twice."""
        self._is_stopping = True
        for making in list(self._making):
            making.end(SHUTTING_DOWN)
        await asyncio.gather(*self._closing, return_exceptions=True)

    # --- how far ------------------------------------------------------------------

    async def _prepare(self) -> _Making | Refusal:
        answer = await self._node.read(lambda machine: machine.applied_index)
        if isinstance(answer.value, Refusal):
            return answer.value
        await self._wait_stored(int(answer.value))
        opening = asyncio.ensure_future(asyncio.to_thread(self._source.open_snapshot))
        try:
            snapshot = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unwanted)
            raise
        making = _Making(snapshot, self._header, self._over)
        self._making[making] = None
        return making

    async def _wait_stored(self, index: int) -> None:
        """Wait for a checkpoint at or beyond an entry, and have one taken."""
        while (meta := self._source.meta) is None or meta.applied_index < index:
            stored = self._stored
            await self._ask_mark(index)
            try:
                async with asyncio.timeout(_ASK_AGAIN_S):
                    await stored.wait()
            except TimeoutError:
                continue  # the leader may be another by now

    async def _ask_mark(self, index: int) -> None:
        node = self._node
        leader = node.leader
        if leader == node.node_id:
            node.mark_beyond(index)
        elif leader and node.driver.replica.roster.level >= _PEER_CALLS_LEVEL:
            try:
                await self._peers.call(NodeId(leader), encode(AskMark(index)), _ASK_S)
            except LinkError:
                return  # asked again soon

    # --- the bytes ----------------------------------------------------------------

    async def _pieces(self, making: _Making) -> AsyncIterator[bytes]:
        making.taken()
        try:
            while block := await asyncio.to_thread(making.produce):
                for first in range(0, len(block), _PIECE_BYTES):
                    making.await_taker()
                    yield block[first : first + _PIECE_BYTES]
                    making.taken()
            _logger.info("backup_made index=%d", making.index)
        except StorageError as error:
            refusal = making.refusal or Refusal(
                Reason.CORRUPT,
                f"the backup cannot be completed, use another member: {error}",
            )
            raise BackupBroken(refusal) from error
        finally:
            making.end(_DROPPED)

    def _over(self, making: _Making) -> None:
        """Let a snapshot go, in a thread: its last read may be under way."""
        del self._making[making]
        self._room.release()
        loop = asyncio.get_running_loop()
        closing = loop.run_in_executor(None, making.close)
        self._closing[closing] = None
        closing.add_done_callback(lambda done: self._closing.pop(done, None))


class _Making:
    """One backup under way."""

    def __init__(
        self,
        snapshot: Snapshot,
        header: HeaderMaker,
        over: Callable[[_Making], None],
    ) -> None:
        self._snapshot: Final = snapshot
        self._header: Final = header
        self._over: Final = over
        self._writer: Final = BackupWriter()
        self._next = -1
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False
        self.index: Final = snapshot.meta.applied_index
        self.close: Final = snapshot.close
        self.refusal: Refusal | None = None
        """Why it was ended from outside."""
        self.await_taker()

    def produce(self) -> bytes:
        """Make the next bytes, none after the last; blocks.

        Raises:
            StorageError: The snapshot cannot be read, or was let go.
        """
        snapshot, writer = self._snapshot, self._writer
        if self._next < 0:
            self._next = 0
            return writer.begin(self._header(snapshot, _revision_of(snapshot)))
        if self._next > snapshot.count:
            return b""
        if self._next == snapshot.count:
            self._next += 1
            return writer.finish()
        chunks = snapshot.read(self._next, _READ_BYTES)
        self._next += len(chunks)
        return b"".join(map(writer.add, chunks))

    def await_taker(self) -> None:
        """Bytes are ready: give up if nobody takes them."""
        self.taken()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_IDLE_S, partial(self.end, _IDLE))

    def taken(self) -> None:
        """The bytes were taken."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end(self, refusal: Refusal) -> None:
        """Let everything go; may be called twice."""
        self.taken()
        if not self._is_over:
            self._is_over = True
            self.refusal = refusal
            self._over(self)


def _revision_of(snapshot: Snapshot) -> int:
    """Find the state's counter: in the newest row of its kind, so from behind.

    It stands at the begin of the first chunk of each checkpoint.
    """
    for number in range(snapshot.count - 1, -1, -1):
        (chunk,) = snapshot.read(number, 1)
        if chunk.find(_META_BEGIN, 0, _ARRAY_BYTES_MAX + len(_META_BEGIN)) > 0:
            _, _, value = unpack(chunk)[0]
            assert value is not None, "the row of stamps is never removed"
            return decode_stamps(value).revision
    return 0  # nothing was ever applied


def _close_unwanted(opening: asyncio.Future[Snapshot]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
