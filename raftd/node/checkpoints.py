"""Checkpoints: at a mark, beside the work, never beyond the durable log.

The machine's dirty set is swapped in the turn that applied the mark; rows are encoded
in slices with turns of the loop between, then stored in one transaction. Afterwards
the digest is told to the other members and the log is cut, never beyond what is needed
(see ``log_cut``).

Rules: checkpoints are stored in the order of their marks. A full disk only delays one.
What belongs to a state that an install has replaced is never stored afterwards. A merge
that fails is tried again after the next checkpoint.

Source: DESIGN.md sections 5 and 6; RELIABILITY.md rules 25, 29, 51 and 52.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Final, Protocol

from raftd.consensus.core import Core
from raftd.consensus.types import Index, Term
from raftd.node.marks import Marks
from raftd.node.pace import Pace
from raftd.node.ports import LogPort, StatePort
from raftd.node.roster import Roster, encode_roster
from raftd.statemachine.machine import Machine
from raftd.statemachine.rows import Checkpoint
from raftd.statemachine.schema.entry import MarkEntry
from raftd.storage import chunks
from raftd.storage.errors import DamagedFiles, DiskFull, StorageError
from raftd.storage.types import CheckpointMeta

__all__ = ["CheckpointHost", "Checkpoints"]

_logger = logging.getLogger(__name__)

_SLICE_S: Final = 0.0005
_REST_SHARE: Final = 4.0
_STEP_ROWS: Final = 64
_STORE_REST_S: Final = 0.004
"""After each chunk that is stored."""
_FULL_RETRY_S: Final = 1.0


class CheckpointHost(Protocol):
    """Whose checkpoints are taken: the replica."""

    @property
    def core(self) -> Core:
        """Knows terms, and what is durable."""

    @property
    def machine(self) -> Machine:
        """Gives the rows."""

    @property
    def roster(self) -> Roster:
        """The members as of the last applied entry."""

    @property
    def marks(self) -> Marks:
        """Knows what of the log is needed."""


class _Job:
    """One checkpoint on its way to the disk.

    Attributes:
        is_void: An install has replaced the state that it belongs to.
    """

    __slots__ = (
        "checkpoint",
        "chunks",
        "cut_index",
        "index",
        "is_void",
        "roster",
        "term",
    )

    def __init__(
        self, checkpoint: Checkpoint, term: Term, roster: bytes, cut_index: int
    ) -> None:
        self.checkpoint: Final = checkpoint
        self.index: Final = Index(checkpoint.index)
        self.term: Final = term
        self.roster: Final = roster
        self.cut_index: Final = cut_index
        self.chunks: Final[list[bytes]] = []
        self.is_void = False

    def encode(self) -> Iterator[None]:
        """Make chunks of the rows, in small steps."""
        checkpoint = self.checkpoint
        rows: list[bytes] = []
        room_bytes = chunks.CHUNK_BYTES
        while not checkpoint.is_done:
            taken = checkpoint.take(_STEP_ROWS, room_bytes)
            room_bytes -= sum(map(len, taken))
            rows += taken
            if room_bytes <= 0 or (rows and checkpoint.is_done):
                self.chunks.append(chunks.join(rows))
                rows, room_bytes = [], chunks.CHUNK_BYTES
            yield


class Checkpoints:
    """Takes the checkpoints of one member, one after the other."""

    def __init__(
        self,
        host: CheckpointHost,
        log: LogPort,
        state: StatePort,
        stored: Callable[[int, bytes], None],
        fail: Callable[[str, BaseException | None], None],
    ) -> None:
        """Wire it.

        Args:
            host: Has just applied the mark when ``take`` is called.
            log: Is cut.
            state: Keeps the rows.
            stored: Told the mark and its digest when a checkpoint is durable.
            fail: Ends the node.
        """
        self._host: Final = host
        self._core: Final = host.core
        self._log: Final = log
        self._state: Final = state
        self._stored: Final = stored
        self._fail: Final = fail
        self._jobs: Final[deque[_Job]] = deque()
        self._durable: Final = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._merging: asyncio.Task[None] | None = None
        self._is_stopped = False
        self.wait_room: Callable[[], Awaitable[None]] = _at_once
        self.checkpoint_index = 0

    def take(self, index: int, mark: MarkEntry) -> None:
        """Begin the checkpoint of a mark that was just applied."""
        if self._is_stopped:
            return  # the files are about to be closed
        term = self._core.term_at(index)
        assert term is not None, "an entry just applied is in the log"
        checkpoint = self._host.machine.take_checkpoint()
        roster = encode_roster(self._host.roster)
        self._jobs.append(_Job(checkpoint, term, roster, mark.cut_index))
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    @property
    def is_idle(self) -> bool:
        """Whether no checkpoint is under way: another may be marked."""
        return not self._jobs

    def note_durable(self) -> None:
        """The local log may have caught up with a checkpoint that waits for it."""
        self._durable.set()

    def replace(self) -> None:
        """Another state takes the machine's place: nothing of the old one is stored."""
        for job in self._jobs:
            job.is_void = True
        self._durable.set()

    def note_installed(self, index: int) -> None:
        """A state that came from a leader is durable."""
        self.checkpoint_index = index

    async def stop(self) -> None:
        """Abandon what is under way: the state stays as it was. Take no more."""
        self._is_stopped = True
        tasks = [task for task in (self._task, self._merging) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- the work -----------------------------------------------------------------

    async def _run(self) -> None:
        """Store what was taken, in order, and end."""
        while self._jobs:
            job = self._jobs[0]
            try:
                if await self._store(job):
                    upto = min(job.index, job.cut_index)
                    await self._cut(self._host.marks.spare(upto))
            except Exception as error:  # a checkpoint that fails is final
                self._fail(
                    f"the checkpoint at {job.index} cannot be stored: {error}", error
                )
                return
            self._jobs.popleft()
            if self._merging is None or self._merging.done():
                self._merging = asyncio.create_task(self._merge())
        self._task = None

    async def _store(self, job: _Job) -> bool:
        """Encode and store one; False if an install came first."""
        pace = Pace(slice_s=_SLICE_S, rest_share=_REST_SHARE)
        for _ in job.encode():
            await pace.step()
            if job.is_void:
                return False
        self._host.machine.checkpoint_written()
        while self._core.durable_index < job.index:
            self._durable.clear()
            await self._durable.wait()
            if job.is_void:
                return False
        digest = job.checkpoint.digest
        meta = CheckpointMeta(job.index, job.term, digest, job.roster)
        while True:
            await self.wait_room()
            if job.is_void:
                return False
            try:
                # Whoever installs queues behind this one.
                await self._state.checkpoint(meta, _slowly(job.chunks))
                break
            except DiskFull as error:
                _logger.warning("checkpoint_waits index=%d reason=%s", job.index, error)
                await asyncio.sleep(_FULL_RETRY_S)
        if job.is_void:
            return False
        self.checkpoint_index = job.index
        _logger.info("checkpoint index=%d chunks=%d", job.index, len(job.chunks))
        self._stored(job.index, digest)
        return True

    async def _cut(self, upto: int) -> None:
        if upto < self._core.first_index:
            return
        self._core.compact(upto)
        try:
            await self._log.cut_prefix(Index(upto))
        except DiskFull as error:
            _logger.warning("log_cut_later upto=%d reason=%s", upto, error)

    async def _merge(self) -> None:
        """Make one base of all chunks when what changed outweighs it."""
        await self.wait_room()
        try:
            sizes = await self._state.sizes()
            if sizes.is_merge_due and await self._state.merge():
                size_bytes = sizes.base_bytes + sizes.delta_bytes
                _logger.info("state_merged bytes=%d", size_bytes)
        except DamagedFiles as error:
            self._fail(f"the state cannot be merged: {error}", error)
        except StorageError as error:
            _logger.warning("merge_failed reason=%s", error)


async def _at_once() -> None:
    return


async def _slowly(packed: Sequence[bytes]) -> AsyncIterator[bytes]:
    """Leave the loop, and the disk, to others between any two chunks."""
    for chunk in packed:
        yield chunk
        await asyncio.sleep(_STORE_REST_S)
