"""Elections: one leader of a name at a time, and everybody can watch.

A candidacy is bound to the client's session. Leadership is lost with the session, and
also when an operator transfers it: the leader watches its own election, so it is told
of both. While a block ``async with`` on a leadership runs, losing it cancels the task,
and the block ends with ``LeaseLost`` or ``Fenced``::

    async with await client.election("scheduler").campaign("node-7") as leadership:
        await client.put("plan", plan, fences=[leadership.fence()])

Source: SEMANTICS.md section 5; proto/raftpb/v1/elections.proto.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Self

import msgspec

from raftclient._clock import to_ms
from raftclient._guard import BodyGuard
from raftclient._held import Claim, Held
from raftclient._observe import ElectionEvent, ElectionFeed, LeaderInfo, leader_of
from raftclient._values import Data, LeaseRef, as_bytes, held_of
from raftclient.errors import Fenced, NotFound, OutcomeUnknown, RaftError
from raftclient.fences import ElectionFence
from raftpb.v1 import elections_pb2
from raftpb.v1.sessions_pb2 import StreamRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType

    from raftclient._core import Core
    from raftpb.v1.sessions_pb2 import StreamReply

__all__ = [
    "CandidateInfo",
    "Election",
    "ElectionCalls",
    "ElectionInfo",
    "Leadership",
]


class CandidateInfo(msgspec.Struct, frozen=True):
    """A candidate that waits."""

    claimant: str
    lease_id: int
    value: bytes
    since_ms: int


class ElectionInfo(msgspec.Struct, frozen=True):
    """An election as the cluster has it; ``leader`` is None if nobody leads."""

    name: str
    leader: LeaderInfo | None
    candidates: tuple[CandidateInfo, ...]


class Leadership:
    """Leadership of a name in this process's hands."""

    def __init__(self, core: Core, name: str, epoch: int, parent: Held | None) -> None:
        self._core: Final = core
        self.name: Final = name
        self.epoch: Final = epoch
        self.claim: Final = Claim(f'leadership of "{name}"', parent)
        self._guard: BodyGuard | None = None
        self._feed: Final = ElectionFeed(core, name, 0, self._see)
        self.claim.on_lost(self._stop_looking)

    @property
    def is_lost(self) -> bool:
        """Whether it must count as lost."""
        return self.claim.is_lost()

    @property
    def remaining_s(self) -> float:
        """How long it is safe without another renewal; 0 if lost."""
        return self.claim.remaining_s

    def check(self) -> None:
        """Raise unless it is safe to go on.

        Raises:
            LeaseLost: The session ended: stop leading.
            Fenced: Somebody else was made leader: stop leading.
        """
        self.claim.check()

    def fence(self) -> ElectionFence:
        """Return the fence that binds a write to this leadership; see ``check``."""
        self.check()
        return ElectionFence(self.name, self.epoch)

    async def proclaim(self, value: Data, *, timeout_s: float | None = None) -> None:
        """Change the value that observers see.

        Raises:
            LeaseLost, Fenced: Stop leading.
        """
        self.check()
        body = elections_pb2.ProclaimRequest(
            name=self.name, epoch=self.epoch, value=as_bytes(value)
        )
        await self._core.write(StreamRequest(proclaim=body), timeout_s)

    async def resign(self, *, timeout_s: float | None = None) -> None:
        """Give leadership up; again, or when it is lost, is no error."""
        if self.claim.is_lost():
            return
        self.claim.give_back()
        self._feed.close()
        await self._core.write(_resign_request(self.name, self.epoch), timeout_s)

    async def __aenter__(self) -> Self:
        self._guard = BodyGuard(self.claim, self._core.loop)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._guard is not None, "entered before it is left"
        lost = self._guard.leave(exc_type)
        if lost is not None:
            raise lost from exc
        try:
            await self.resign()
        except RaftError:
            if exc_type is None:
                raise

    def _see(self, event: ElectionEvent) -> None:
        epoch = 0 if event.leader is None else event.leader.epoch
        if epoch == self.epoch or 0 < epoch < self.epoch:
            return
        details = {"token": str(self.epoch), "current": str(epoch)}
        self.claim.lose(Fenced(f"{self.claim.what} went to another", details=details))

    def _stop_looking(self) -> None:
        self._core.call_soon(self._feed.close)


class Election:
    """One election, by name."""

    def __init__(self, core: Core, name: str) -> None:
        self._core: Final = core
        self.name: Final = name

    async def campaign(
        self,
        value: Data = b"",
        *,
        wait_s: float | None = None,
        claimant: str | None = None,
        lease: LeaseRef | None = None,
        on_lost: Callable[[], None] | None = None,
        timeout_s: float | None = None,
    ) -> Leadership:
        """Stand, and wait to win.

        Args:
            value: What observers see of the winner.
            wait_s: How long to wait; 0 = try, None = for ever.
            claimant: Fresh for each call unless given.
            lease: What pays for it; None = the client's session.
            on_lost: Called once if leadership is lost, on any thread; must not block.
            timeout_s: How long to try beyond the wait; None = the client's default.

        Raises:
            LockHeld: Somebody else leads, and the wait is over.
            LeaseLost: The session or lease ended meanwhile.
            Unavailable: Not standing, and never will be: try again.
            OutcomeUnknown: No answer came; a win that may still come is given back.
        """
        core = self._core
        who = claimant or core.shared.fresh_claimant()
        held, lease_id = await held_of(core, lease, timeout_s)
        body = elections_pb2.CampaignRequest(
            name=self.name,
            lease_id=lease_id,
            claimant=who,
            value=as_bytes(value),
            wait_ms=None if wait_s is None else to_ms(wait_s),
        )
        try:
            reply = await core.write(
                StreamRequest(campaign=body),
                timeout_s,
                held=held,
                waits_s=wait_s,
                orphan=self._give_back,
            )
        except (asyncio.CancelledError, OutcomeUnknown):
            withdraw = elections_pb2.WithdrawCampaignRequest(
                name=self.name, lease_id=lease_id, claimant=who
            )
            core.post(StreamRequest(withdraw_campaign=withdraw), beside_waits=True)
            raise
        leadership = Leadership(core, self.name, reply.campaign.epoch, held)
        if on_lost is not None:
            leadership.claim.on_lost(on_lost)
        return leadership

    def _give_back(self, reply: StreamReply) -> None:
        self._core.post(_resign_request(self.name, reply.campaign.epoch))


class ElectionCalls:
    """The calls about elections."""

    _core: Core

    def election(self, name: str) -> Election:
        """Name an election (1 to 256 bytes), to stand in it."""
        return Election(self._core, name)

    async def election_info(
        self, name: str, *, timeout_s: float | None = None
    ) -> ElectionInfo:
        """Look at an election: who leads, who waits.

        Raises:
            NotFound: Nobody leads or stands.
        """
        body = elections_pb2.GetElectionRequest(name=name)
        reply = await self._core.read(StreamRequest(get_election=body), timeout_s)
        return _info(reply.get_election.election)

    async def leader(
        self, name: str, *, timeout_s: float | None = None
    ) -> LeaderInfo | None:
        """Ask who leads a name; None = nobody."""
        try:
            return (await self.election_info(name, timeout_s=timeout_s)).leader
        except NotFound:
            return None

    def observe(self, name: str, *, from_rev: int | None = None) -> ElectionFeed:
        """Follow who leads a name, "nobody" included.

        Args:
            name: The election.
            from_rev: From this revision on; None = begin with who leads now.

        Returns:
            An async iterator of ``ElectionEvent`` that survives reconnects; end it
            with ``close`` or ``async with``.
        """
        return ElectionFeed(self._core, name, from_rev or 0)

    async def elections(
        self,
        prefix: str = "",
        *,
        limit: int | None = None,
        timeout_s: float | None = None,
    ) -> AsyncIterator[ElectionInfo]:
        """Iterate over elections by name."""
        after, left = "", limit
        while left is None or left > 0:
            body = elections_pb2.ListElectionsRequest(
                prefix=prefix, after_name=after, limit=left or 0
            )
            request = StreamRequest(list_elections=body)
            page = (await self._core.read(request, timeout_s)).list_elections
            for found in page.elections:
                yield _info(found)
                after = found.name
            left = None if left is None else left - len(page.elections)
            if not page.more:
                return

    async def transfer_election(
        self, name: str, to: str, *, timeout_s: float | None = None
    ) -> int:
        """Hand leadership to a waiting candidate, by claimant; returns its epoch.

        Raises:
            NotFound: There is no such election or candidate.
        """
        body = elections_pb2.TransferElectionRequest(name=name, to=to)
        request = StreamRequest(transfer_election=body)
        reply = await self._core.write(request, timeout_s)
        return reply.transfer_election.epoch


def _resign_request(name: str, epoch: int) -> StreamRequest:
    return StreamRequest(resign=elections_pb2.ResignRequest(name=name, epoch=epoch))


def _info(found: elections_pb2.Election) -> ElectionInfo:
    return ElectionInfo(
        name=found.name,
        leader=leader_of(found.leader),
        candidates=tuple(
            CandidateInfo(each.claimant, each.lease_id, each.value, each.since_ms)
            for each in found.candidates
        ),
    )
