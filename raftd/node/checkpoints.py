"""Checkpoints: at a mark, beside the work, never beyond the durable log.

The machine's dirty set is swapped in the turn that applied the mark; rows are encoded
in slices with turns of the loop between, then stored in one transaction. Afterwards
the digest is told to the other members and the log is cut, never beyond what every
voter holds.

Source: DESIGN.md sections 5 and 6; RELIABILITY.md rules 25 and 52.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from raftd.consensus.core import Core
from raftd.consensus.types import Index, Membership, Term
from raftd.node.errors import NodeFailed
from raftd.node.ports import LogPort, StatePort
from raftd.statemachine.machine import Machine
from raftd.statemachine.rows import Checkpoint
from raftd.statemachine.schema.entry import MarkEntry
from raftd.storage.chunks import pack
from raftd.storage.types import CheckpointMeta

__all__ = ["Checkpoints", "decode_membership"]

_logger = logging.getLogger(__name__)


class _Encoding:
    """The rows of one checkpoint on their way into chunks."""

    __slots__ = ("_chunks_left", "checkpoint", "chunks")

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint: Final = checkpoint
        self.chunks: Final[list[bytes]] = []
        self._chunks_left: Iterator[bytes] = pack(checkpoint.rows())

    def step(self) -> bool:
        """Make one more chunk; False when there are no more."""
        chunk = next(self._chunks_left, None)
        if chunk is not None:
            self.chunks.append(chunk)
        return chunk is not None

    def finish(self) -> None:
        """Make all that are left."""
        self.chunks.extend(self._chunks_left)


class Checkpoints:
    """Takes the checkpoints of one member, one after the other."""

    def __init__(
        self,
        core: Core,
        machine: Machine,
        log: LogPort,
        state: StatePort,
        stored: Callable[[int, bytes], None],
        fail: Callable[[str, BaseException | None], None],
    ) -> None:
        """Wire it.

        Args:
            core: Knows terms, and what is durable.
            machine: Gives the rows.
            log: Is cut.
            state: Keeps the rows.
            stored: Told the mark and its digest when a checkpoint is durable.
            fail: Ends the node.
        """
        self._core: Final = core
        self._machine: Final = machine
        self._log: Final = log
        self._state: Final = state
        self._stored: Final = stored
        self._fail: Final = fail
        self._task: asyncio.Task[None] | None = None
        self._encoding: _Encoding | None = None
        self._running = 0
        self._durable: Final = asyncio.Event()
        self.checkpoint_index = 0

    def take(self, index: int, mark: MarkEntry) -> None:
        """Begin the checkpoint of a mark that was just applied."""
        term = self._core.term_at(index)
        assert term is not None, "an entry just applied is in the log"
        if self._encoding is not None:
            self._encoding.finish()  # the next digest builds on this one
        encoding = self._encoding = _Encoding(self._machine.take_checkpoint())
        self._running += 1
        self._task = asyncio.create_task(
            self._run(self._task, encoding, Index(index), term, mark.cut_index)
        )

    @property
    def is_idle(self) -> bool:
        """Whether no checkpoint is under way: another may be marked."""
        return not self._running

    def note_durable(self) -> None:
        """The local log may have caught up with a checkpoint that waits for it."""
        self._durable.set()

    async def stop(self) -> None:
        """Abandon what is under way: the state stays as it was."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(
        self,
        before: asyncio.Task[None] | None,
        encoding: _Encoding,
        index: Index,
        term: Term,
        cut_index: int,
    ) -> None:
        if before is not None:
            await before
        try:
            await self._store(encoding, index, term)
            await self._cut(min(index, cut_index))
            self._running -= 1
            await self._merge()
        except Exception as error:  # a checkpoint that fails is final
            self._fail(f"the checkpoint at {index} cannot be stored: {error}", error)

    async def _store(self, encoding: _Encoding, index: Index, term: Term) -> None:
        while encoding.step():  # noqa: ASYNC110  # a turn for others, not a wait
            await asyncio.sleep(0)
        if encoding is self._encoding:
            self._machine.checkpoint_written()
            self._encoding = None
        while self._core.durable_index < index:
            self._durable.clear()
            await self._durable.wait()
        digest = encoding.checkpoint.digest
        membership = msgspec.msgpack.encode(self._core.membership)
        await self._state.checkpoint(
            CheckpointMeta(index, term, digest, membership), encoding.chunks
        )
        self.checkpoint_index = index
        _logger.info("checkpoint index=%d chunks=%d", index, len(encoding.chunks))
        self._stored(index, digest)

    async def _cut(self, upto: int) -> None:
        if upto < self._core.first_index:
            return
        self._core.compact(upto)
        await self._log.cut_prefix(Index(upto))

    async def _merge(self) -> None:
        """Make one base of all chunks when what changed outweighs it."""
        sizes = await self._state.sizes()
        if sizes.is_merge_due and await self._state.merge():
            _logger.info("state_merged bytes=%d", sizes.base_bytes + sizes.delta_bytes)


def decode_membership(data: bytes) -> Membership:
    """Decode what a checkpoint says of the membership.

    Raises:
        NodeFailed: It cannot be read.
    """
    try:
        return msgspec.msgpack.decode(data, type=Membership)
    except msgspec.MsgspecError as error:
        raise NodeFailed(f"state.db: the membership cannot be read: {error}") from error
