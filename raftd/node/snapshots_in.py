"""Snapshots on their way in: staged, loaded beside the work, installed at one blow.

Flow: the leader offers a snapshot and hears how many of its chunks are on disk here;
sends the rest, each answered when it is durable; and asks to finish. Then the staged
rows become a machine, in slices, while the node goes on; the core is asked; and if it
says so, that machine takes the old one's place in one turn. The writer then installs
the staged rows in state.db and resets the log, in order with other writes, and only
then the core's acknowledgement leaves.

Rules: one snapshot at a time, of the present leader. Everything that can fail comes
before the swap. A crash at any byte leaves the old state, or the new one with a mark
by which the start completes the log. What is not needed any more is dropped.

Source: RELIABILITY.md rules 25 and 28 to 32; DESIGN.md section 6.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import secrets
import zlib
from collections.abc import Callable
from typing import Final

import msgspec

from raftd.consensus.ready import Write
from raftd.consensus.types import HardState, Index, NodeId, Term
from raftd.node.driver import Driver
from raftd.node.owned import own
from raftd.node.pace import Pace
from raftd.node.peer_calls import (
    FinishSnapshot,
    OfferSnapshot,
    SendChunks,
    SnapshotCall,
    SnapshotTold,
)
from raftd.node.ports import LogPort, StatePort
from raftd.node.replica import Loaded
from raftd.node.roster import Roster, RosterError, decode_roster, encode_roster
from raftd.node.state_loading import load_state
from raftd.statemachine.limits import Limits
from raftd.statemachine.machine import Machine, MachineLoading
from raftd.statemachine.rows import DIGEST_BYTES
from raftd.storage.errors import BAD_ROWS, DamagedFiles, DiskFull, StorageError
from raftd.storage.types import CheckpointMeta, InstallMark

__all__ = ["SnapshotsIn"]

_logger = logging.getLogger(__name__)

_SLICE_S: Final = 0.003
_REST_SHARE: Final = 0.5
_ANSWER_S: Final = 1.0
"""A finish is answered at least so soon; the leader asks again."""
_LEADER_S: Final = 0.05
_INSTALL_ID_BYTES: Final = 16

_UNREADABLE: Final = (DamagedFiles, *BAD_ROWS)
"""What rows raise that are no state of this release."""

_NOT_LEADING: Final = SnapshotTold(refusal="whoever offers it does not lead here")
_BUSY: Final = SnapshotTold(refusal="another snapshot is being loaded")
_UNKNOWN: Final = SnapshotTold(refusal="it was not offered")
_NO_ROOM: Final = "the disk is full, and its last room is for votes"
_DONE: Final = SnapshotTold(is_done=True)


class _Incoming:
    """One snapshot on its way in."""

    __slots__ = ("end", "have", "loading", "offer", "roster")

    def __init__(self, offer: OfferSnapshot, roster: Roster, have: int) -> None:
        self.offer: Final = offer
        self.roster: Final = roster
        self.have = have
        self.loading: asyncio.Task[None] | None = None
        self.end: SnapshotTold | None = None

    @property
    def is_whole(self) -> bool:
        return self.have >= self.offer.chunk_count


class _Installing(msgspec.Struct):
    """A state that was swapped in and is not durable yet."""

    offer: OfferSnapshot
    meta: CheckpointMeta
    is_state_stored: bool = False


class SnapshotsIn:
    """The receiver of one member; see the module's rules."""

    def __init__(
        self,
        driver: Driver,
        log: LogPort,
        state: StatePort,
        limits: Limits,
        installed: Callable[[int], None],
    ) -> None:
        """Wire it.

        Args:
            driver: Of this member; its ``on_install`` is set here.
            log: Is reset by an install.
            state: Keeps what arrives.
            limits: Of the machine.
            installed: Told the index of an install that is durable.
        """
        self._driver: Final = driver
        self._replica: Final = driver.replica
        self._log: Final = log
        self._state: Final = state
        self._limits: Final = limits
        self._installed: Final = installed
        self._lock: Final = asyncio.Lock()
        self._incoming: _Incoming | None = None
        self._installing: _Installing | None = None
        self._tidying: asyncio.Task[None] | None = None
        self.on_offered: Callable[[], None] = _nothing
        """Told that a snapshot begins to come in."""
        driver.on_install = self._install

    async def stop(self) -> None:
        """Give up what is being loaded; it stays staged."""
        incoming = self._incoming
        tasks = [self._tidying, incoming.loading if incoming is not None else None]
        for task in tasks:
            if task is not None:
                task.cancel()
        await asyncio.gather(*filter(None, tasks), return_exceptions=True)

    def note_checkpoint(self) -> None:
        """This member stored a checkpoint, so the log takes it on: drop leftovers."""
        if self._tidying is None or self._tidying.done():
            self._tidying = own(self._tidy(), "tidying up", self._driver.fail)

    async def _tidy(self) -> None:
        async with self._lock:
            incoming = self._incoming
            if self._installing is not None or (
                incoming is not None
                and incoming.offer.index > self._replica.core.commit_index
            ):
                return
            if incoming is None or incoming.loading is None:
                self._incoming = None
                await self._drop()

    async def answer(self, peer: NodeId, call: SnapshotCall) -> SnapshotTold:
        """Answer one call of a leader."""
        core = self._replica.core
        try:
            async with self._lock:
                if isinstance(call, SendChunks):
                    return await self._take_chunks(call)
                if (core.leader, core.term) != (peer, call.term):
                    return _NOT_LEADING
                if isinstance(call, OfferSnapshot):
                    return await self._take_offer(call)
                incoming = self._finish(call)
        except DiskFull as error:
            return SnapshotTold(refusal=str(error))
        except StorageError as error:
            self._driver.fail(f"a snapshot cannot be stored: {error}", error)
            raise
        if incoming is None:
            return _UNKNOWN
        if incoming.loading is not None:
            await asyncio.wait([incoming.loading], timeout=_ANSWER_S)
        return incoming.end or SnapshotTold(incoming.have)

    # --- staging ------------------------------------------------------------------

    async def _take_offer(self, offer: OfferSnapshot) -> SnapshotTold:
        incoming = self._incoming
        if offer.index <= self._replica.core.commit_index:
            if incoming is not None and incoming.loading is None:
                self._incoming = None
                await self._state.drop_staged()
            return _DONE
        if incoming is not None and incoming.offer.offer_id == offer.offer_id:
            return SnapshotTold(incoming.have)
        if self._installing is not None or (incoming and incoming.loading is not None):
            return _BUSY
        if not _is_sound(offer):
            return SnapshotTold(refusal="no state is like the one that is offered")
        try:
            roster = decode_roster(offer.roster)
        except RosterError as error:
            return SnapshotTold(refusal=str(error))
        have = await self._state.staged(offer.offer_id)
        self._incoming = _Incoming(offer, roster, min(have, offer.chunk_count))
        self.on_offered()
        _logger.info(
            "snapshot_offered index=%d chunks=%d bytes=%d have=%d",
            *(offer.index, offer.chunk_count, offer.size_bytes, have),
        )
        return SnapshotTold(have)

    async def _take_chunks(self, call: SendChunks) -> SnapshotTold:
        incoming = self._incoming
        if incoming is None or incoming.offer.offer_id != call.offer_id:
            return _UNKNOWN
        end = call.first + len(call.chunks)
        if call.first > incoming.have or end > incoming.offer.chunk_count:
            return SnapshotTold(incoming.have)
        if self._driver.guard.is_full:
            return SnapshotTold(incoming.have, refusal=_NO_ROOM)
        if len(call.crcs) != len(call.chunks) or any(
            zlib.crc32(chunk) != crc
            for chunk, crc in zip(call.chunks, call.crcs, strict=False)
        ):
            return SnapshotTold(refusal="a chunk was altered on its way")
        if end > incoming.have:
            await self._state.stage(call.offer_id, call.first, call.chunks)
            incoming.have = max(incoming.have, end)
        return SnapshotTold(incoming.have)

    # --- loading ------------------------------------------------------------------

    def _finish(self, call: FinishSnapshot) -> _Incoming | None:
        incoming = self._incoming
        if incoming is None or incoming.offer.offer_id != call.offer_id:
            return None
        if incoming.is_whole and incoming.loading is None:
            incoming.loading = own(
                self._load_guarded(incoming), "loading a snapshot", self._driver.fail
            )
        return incoming

    async def _load_guarded(self, incoming: _Incoming) -> None:
        try:
            machine = await self._load(incoming)
        except _UNREADABLE as bad:
            # Nothing was touched yet: drop it, the leader offers it anew.
            _logger.exception("snapshot_refused index=%d", incoming.offer.index)
            await self._end(incoming, SnapshotTold(refusal=f"no state: {bad}"))
            return
        except StorageError as error:
            self._driver.fail(f"a snapshot cannot be loaded: {error}", error)
            return
        await self._take_up(incoming, machine)

    async def _load(self, incoming: _Incoming) -> Machine:
        """Make a machine of the staged rows, with turns of the loop between."""
        offer = incoming.offer
        loading = MachineLoading(self._limits, index=offer.index, digest=offer.digest)
        pace = Pace(slice_s=_SLICE_S, rest_share=_REST_SHARE)
        return await load_state(loading, self._state.load_staged(offer.offer_id), pace)

    async def _take_up(self, incoming: _Incoming, machine: Machine) -> None:
        """Offer the loaded state to the core, under the leader of the moment."""
        core = self._replica.core
        while core.leader in (None, core.node_id):
            if core.commit_index >= incoming.offer.index:
                break
            await asyncio.sleep(_LEADER_S)
        offer = incoming.offer
        loaded = Loaded(
            Index(offer.index),
            Term(offer.index_term),
            offer.digest,
            incoming.roster,
            machine,
        )
        is_taken = False
        if self._driver.failed.done():
            return  # nothing goes out any more
        if core.leader is not None and core.leader != core.node_id:
            try:
                is_taken = self._replica.take_up(loaded, core.leader)
            except Exception as error:  # a broken promise, as any other step's
                self._driver.fail(f"a snapshot cannot be taken up: {error!r}", error)
                return
        self._driver.wake()
        if is_taken:
            self._begin_install(incoming)
            await _let_go(machine)
        else:
            await self._end(incoming, _DONE)

    async def _end(self, incoming: _Incoming, told: SnapshotTold) -> None:
        """Nothing came of it, or nothing is left to do: drop what is staged."""
        incoming.end = told
        async with self._lock:  # or it might drop what the next offer has staged
            if self._incoming is incoming:
                self._incoming = None
                await self._drop()

    async def _drop(self) -> None:
        try:
            await self._state.drop_staged()
        except DiskFull as error:
            _logger.warning("staged_kept reason=%s", error)
        except StorageError as error:
            self._driver.fail(f"a snapshot cannot be dropped: {error}", error)

    # --- installing ---------------------------------------------------------------

    def _begin_install(self, incoming: _Incoming) -> None:
        """The machine was swapped in this turn; its write is queued."""
        offer, core = incoming.offer, self._replica.core
        mark = InstallMark(
            secrets.token_bytes(_INSTALL_ID_BYTES), HardState(core.term, core.vote)
        )
        meta = CheckpointMeta(
            Index(offer.index),
            Term(offer.index_term),
            offer.digest,
            encode_roster(incoming.roster),
            install=mark,
        )
        self._installing = _Installing(offer, meta)
        incoming.end = _DONE
        self._incoming = None
        gc.freeze()  # the new state is there to stay

    async def _install(self, write: Write) -> None:
        """Make the state that was swapped in durable; may be called again.

        Raises:
            DiskFull: It may be tried again.
            StorageError: The node must end.
        """
        installing = self._installing
        assert installing is not None, "an install of what was not swapped in"
        offer, meta = installing.offer, installing.meta
        assert meta.install is not None, "it is an install"
        if not installing.is_state_stored:
            await self._state.install(offer.offer_id, offer.chunk_count, meta)
            installing.is_state_stored = True
        await self._log.reset(meta.applied_index, meta.applied_term, meta.install)
        if write.hard_state is not None:
            # The reset keeps a vote of the same term as it was.
            await self._log.write(
                Write(write.id, write.hard_state, None, (), write.commit)
            )
        self._installing = None
        _logger.info("snapshot_installed index=%d", offer.index)
        self._installed(offer.index)


def _is_sound(offer: OfferSnapshot) -> bool:
    """Tell whether what is offered can be a state of a log that its leader has."""
    return (
        offer.chunk_count >= 0
        and 0 < offer.index_term <= offer.term
        and len(offer.digest) == DIGEST_BYTES
    )


def _nothing() -> None:
    return


async def _let_go(machine: Machine) -> None:
    """Free a state that was replaced, in slices: it may be large."""
    pace = Pace(slice_s=_SLICE_S, rest_share=_REST_SHARE)
    for _ in machine.let_go_steps():
        await pace.step()
