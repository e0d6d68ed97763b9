"""One running member: what its doors use (``NodeService``), over one driver.

Rules: a write that was never proposed is tried again until its deadline, wherever the
leader is; one that may have been proposed is tried again only under its number. What
is waited for is dropped when nobody waits any more.

Source: DESIGN.md section 7; SEMANTICS.md section 0.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

from raftd.consensus.ready import SoftState
from raftd.consensus.types import Role
from raftd.node.driver import Driver
from raftd.node.future_sink import FutureSink
from raftd.node.member_infos import addresses_of, infos_of
from raftd.node.ports import PeerPort
from raftd.node.readiness import Readiness
from raftd.node.refusals import (
    DEADLINE_NOT_PROPOSED,
    SHUTTING_DOWN,
    handed_over,
    not_leader,
)
from raftd.node.roster import Roster
from raftd.node.service import (
    Answered,
    AnswerSink,
    Header,
    MemberChange,
    MemberInfo,
    MemberState,
    ReadAnswer,
    StreamSink,
    WatchSpec,
    WriteCall,
)
from raftd.node.settings import ReplicaSettings
from raftd.node.streams import Streams
from raftd.node.watches import Watch, Watches
from raftd.node.writes import Writes
from raftd.statemachine.answers import AppliedEntry
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.entry import seal

__all__ = ["BackupMaker", "MemberDesk", "Node", "StatusTeller"]

T = TypeVar("T")


class Node:
    """See the module's rules."""

    def __init__(
        self,
        driver: Driver,
        peers: PeerPort,
        roster: Roster,
        *,
        node_id: int,
        cluster_id: bytes,
        settings: ReplicaSettings,
    ) -> None:
        """Stand before a driver that is not started yet."""
        self.driver: Final = driver
        self.roster = roster
        self.members: tuple[MemberInfo, ...] = infos_of(roster)
        self.node_id: Final = node_id
        self.watches: Final = Watches(driver.replica.machine)
        self.writes: Final = Writes(driver, peers, node_id, self)
        self.reserves: Final = self.writes.reserves
        self.streams: Final = Streams(self)
        self._cluster_id: Final = cluster_id
        self._settings: Final = settings
        self._leader_changed = asyncio.Event()
        self._revision_waits: list[tuple[int, asyncio.Future[None]]] = []
        self._heir = 0
        self._trouble: Refusal | None = None
        self.readiness: Final = Readiness(self, driver, self._tell_change)
        self.peer_service: StatusTeller | None = None
        self.desk: MemberDesk | None = None
        self.backups: BackupMaker | None = None
        driver.on_soft = self._on_soft
        driver.on_applied = self._on_applied
        driver.on_turn = self._on_turn

    @property
    def machine(self) -> Machine:
        """This member's state."""
        return self.driver.replica.machine

    @property
    def may_lead(self) -> bool:
        """Whether this member may propose."""
        return self.driver.replica.may_propose and self._trouble is None

    @property
    def leader(self) -> int:
        """Who leads, 0 if nobody is known to."""
        return self.driver.replica.core.leader or 0

    @property
    def trouble(self) -> Refusal | None:
        """Why this member takes no writes, None if all is well."""
        return self._trouble

    def header(self) -> Header:
        """Say where an answer made now comes from."""
        core = self.driver.replica.core
        return Header(
            self.machine.revision,
            core.term,
            core.leader or 0,
            self._cluster_id,
            self.node_id,
        )

    def refuse_writes(self, refusal: Refusal) -> None:
        """Take no more writes, for a reason: an alarm, or a stop."""
        self._trouble = refusal
        self.streams.close_all(refusal)
        self.reserves.refuse_all(refusal)
        self._tell_change()

    def note_roster(self, roster: Roster) -> None:
        """Know these members from now on, and tell the clients who is where."""
        before = addresses_of(self.members)
        self.roster = roster
        self.members = infos_of(roster)
        if addresses_of(self.members) != before:
            self.streams.members_changed()
        self._tell_change()

    # --- what the driver tells ----------------------------------------------------

    def _on_soft(self, soft: SoftState) -> None:
        if soft.role is not Role.LEADER:
            refusal, heir = not_leader(soft.leader), self._heir
            ended = handed_over(heir) if heir and not soft.leader else refusal
            self._heir = 0
            self.streams.close_all(ended)
            self.reserves.refuse_all(refusal)
        self._tell_change()

    def _tell_change(self) -> None:
        self._leader_changed.set()
        self._leader_changed = asyncio.Event()

    def _on_applied(self, entry: AppliedEntry) -> None:
        if entry.record is not None:
            self.watches.publish(entry.record)
        if entry.closed:
            self.streams.sessions_closed(entry.closed)
            self.reserves.leases_closed(entry.closed)
        if self._revision_waits:
            self._wake_revisions()

    def note_installed(self) -> None:
        """Another state took the machine's place: whoever waits has to look again."""
        self.readiness.begin_install()
        self.watches.leap()
        self._wake_revisions()

    def _on_turn(self, monotonic_ms: int) -> None:
        self._heir = self.driver.replica.core.transfer_target or 0
        if len(self.reserves):
            refusal = self._trouble
            if refusal is None and not self.driver.replica.may_propose:
                refusal = not_leader(self.leader)
            if refusal is not None:  # also what was proposed, in vain, before
                self.reserves.refuse_all(refusal)
                return
            self.reserves.expire(monotonic_ms)
            self.reserves.poke()
            if self.driver.replica.has_queued:
                self.driver.wake()

    def _wake_revisions(self) -> None:
        revision = self.machine.revision
        still = []
        for wanted, future in self._revision_waits:
            if future.done():
                continue
            if wanted > revision:
                still.append((wanted, future))
            else:
                future.set_result(None)
        self._revision_waits = still

    # --- writes -------------------------------------------------------------------

    async def write(self, call: WriteCall, timeout_s: float | None) -> Answered:
        """Carry out one write, here or through the leader; see ``NodeService``."""
        return await self.writes.write(call, timeout_s)

    async def keep_alive(self, lease: int, session_key: bytes) -> int | Refusal:
        """Renew a lease or session; see ``NodeService``."""
        return await self.writes.keep_alive(lease, session_key)

    def require(self, session: int) -> Refusal | None:
        """Refuse unless a session is alive."""
        return self.machine.leases.require(session)

    def check_key(self, session: int, key_hash: bytes) -> Refusal | None:
        """Deny a call that does not know its session's key."""
        return self.writes.check_key(session, key_hash)

    # --- reads and watches ----------------------------------------------------------

    async def read(
        self,
        query: Callable[[Machine], T],
        *,
        is_stale: bool = False,
        min_revision: int = 0,
        timeout_s: float | None = None,
    ) -> ReadAnswer:
        """Run a query on this member's state; see ``NodeService``."""
        try:
            async with asyncio.timeout(timeout_s):
                if min_revision > self.machine.revision:
                    await self._wait_revision(min_revision)
                if is_stale:
                    return ReadAnswer(
                        query(self.machine), self.machine.revision, self.age_ms()
                    )
                return await self._read_linearizable(query)
        except TimeoutError:
            return ReadAnswer(
                DEADLINE_NOT_PROPOSED, self.machine.revision, self.age_ms()
            )

    async def _read_linearizable(self, query: Callable[[Machine], Any]) -> ReadAnswer:
        sink = FutureSink()
        reads = self.driver.replica.reads
        reads.add(query, sink, 0)
        self.driver.wake()
        try:
            answered = await sink.future
        finally:
            if not sink.future.done() or sink.future.cancelled():
                reads.drop(sink)
        return ReadAnswer(answered.answer, answered.revision, 0)

    async def _wait_revision(self, revision: int) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._revision_waits.append((revision, future))
        try:
            await future
        except asyncio.CancelledError:
            self._revision_waits = [
                wait for wait in self._revision_waits if wait[1] is not future
            ]
            raise

    def age_ms(self) -> int:
        """Return how long ago this member heard from the leader; 0 if it leads."""
        core = self.driver.replica.core
        if core.role is Role.LEADER:
            return 0
        return core.ticks_since_contact * self._settings.tick_ms

    def watch(self, spec: WatchSpec) -> Watch | Refusal:
        """Begin a watch on this member's state."""
        return self.watches.open(spec)

    # --- session streams ------------------------------------------------------------

    def attach(
        self, session: int, session_key: bytes, sink: StreamSink
    ) -> Refusal | None:
        """Bind a sink to a live session."""
        if self._trouble is not None:
            return self._trouble
        return self.streams.attach(session, session_key, sink)

    def detach(self, session: int, sink: StreamSink) -> None:
        """Unbind it."""
        self.streams.detach(session, sink)
        self.writes.drop(sink)

    def submit(self, call: WriteCall, sink: AnswerSink, tag: int) -> None:
        """Queue a write of a stream."""
        request = seal(
            call.session, call.number, call.acknowledged, call.command, call.fences
        )
        self.writes.offer(call, request, sink, tag)

    def renew(
        self,
        session: int,
        leases: Sequence[int],
        done: Callable[[bool, Sequence[int]], None],
    ) -> None:
        """Renew a session and leases of a stream."""

        def told(lost: Sequence[int] | None) -> None:
            done(lost is not None and session not in lost, lost or ())

        self.driver.replica.renew((session, *leases), told)
        self.driver.wake()

    def read_soon(
        self, query: Callable[[Machine], Any], sink: AnswerSink, tag: int
    ) -> None:
        """Queue a linearizable read of a stream."""
        self.driver.replica.reads.add(query, sink, tag)
        self.driver.wake()

    async def status(self, *, is_for_all: bool) -> Sequence[MemberState]:
        """Say how this member, or each member, does."""
        assert self.peer_service is not None, "the composition root sets it"
        return await self.peer_service.status(is_for_all=is_for_all)

    async def change_members(
        self, change: MemberChange, timeout_s: float
    ) -> MemberInfo | Refusal:
        """Change the members; see ``NodeService``."""
        assert self.desk is not None, "the composition root sets it"
        return await self.desk.change_members(change, timeout_s)

    async def transfer_leadership(
        self, to: int | None, timeout_s: float
    ) -> int | Refusal:
        """Hand leadership over; see ``NodeService``."""
        assert self.desk is not None, "the composition root sets it"
        return await self.desk.transfer_leadership(to, timeout_s)

    async def backup(self, timeout_s: float | None) -> AsyncIterator[bytes] | Refusal:
        """Make a backup of the whole state; see ``NodeService``."""
        assert self.backups is not None, "the composition root sets it"
        return await self.backups.backup(timeout_s)

    def mark_beyond(self, index: int) -> None:
        """Have all members take a checkpoint at an entry or behind it, if leading."""
        self.driver.replica.mark_beyond(index)
        self.driver.wake()

    async def leader_changed(self) -> None:
        """Wait until role, leader, term, members or readiness change, or a refusal."""
        await self._leader_changed.wait()

    def stop_serving(self) -> None:
        """Take no more writes, and end all streams: this member is stopping."""
        self.refuse_writes(SHUTTING_DOWN)
        self.streams.close_readers(SHUTTING_DOWN)


class StatusTeller(Protocol):
    """Knows how all members do; see ``peer_service``."""

    async def status(self, *, is_for_all: bool) -> Sequence[MemberState]:
        """Say how this member, or each member, does."""


class BackupMaker(Protocol):
    """Makes backups of a member's state; see ``backup``."""

    async def backup(self, timeout_s: float | None) -> AsyncIterator[bytes] | Refusal:
        """Begin a backup."""


class MemberDesk(Protocol):
    """Takes what operators want of the cluster; see ``member_desk``."""

    async def change_members(
        self, change: MemberChange, timeout_s: float
    ) -> MemberInfo | Refusal:
        """Change the members, here or through the leader."""

    async def transfer_leadership(
        self, to: int | None, timeout_s: float
    ) -> int | Refusal:
        """Hand leadership to a voter, here or through the leader."""
