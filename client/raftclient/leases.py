"""Leases: a claim on time that pays for keys, locks, candidacies and reservations.

A lease made with ``client.lease`` is kept alive by the process's keeper thread, so
code that blocks for longer than the ttl keeps it. When renewals stop being granted the
holder is told at ``sent + ttl - margin`` of the last one, which is before the cluster
can let go: ``on_lost`` is called, the task inside the ``async with`` is cancelled, and
every later use raises ``LeaseLost``.

``on_lost`` runs on whatever thread notices, mostly the keeper's: it must be quick and
must not block (set an event, kill a child). The task is told through its loop, so a
body that blocks the loop is only stopped when it lets go; ``check()`` asks at any time.

Source: SEMANTICS.md section 1; proto/raftpb/v1/leases.proto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

import msgspec

from raftclient._clock import boottime_s, to_ms
from raftclient._guard import BodyGuard
from raftclient._held import Held
from raftclient._keepalive import KEEPER
from raftclient.errors import InvalidRequest, RaftError
from raftclient.fences import LeaseFence
from raftpb.v1 import leases_pb2
from raftpb.v1.sessions_pb2 import StreamRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType

    from raftclient._core import Core
    from raftpb.v1.sessions_pb2 import StreamReply

__all__ = ["Lease", "LeaseCalls", "LeaseInfo"]


class LeaseInfo(msgspec.Struct, frozen=True):
    """A lease or session as the cluster has it, and what hangs on it."""

    lease_id: int
    ttl_ms: int
    remaining_ms: int
    claimant: str
    is_session: bool
    attachments: int
    keys: tuple[bytes, ...]
    locks: tuple[str, ...]
    elections: tuple[str, ...]
    jobs: tuple[int, ...]


class Lease:
    """A lease to be granted and kept alive; use it as ``async with``.

    Leaving the block revokes it: all that hangs on it goes at once.
    """

    def __init__(
        self,
        core: Core,
        ttl_s: float,
        claimant: str,
        on_lost: Callable[[], None] | None,
    ) -> None:
        self._core: Final = core
        self._ttl_s: Final = ttl_s
        self._claimant: Final = claimant
        self._on_lost: Final = on_lost
        self._held: Held | None = None
        self._guard: BodyGuard | None = None

    @property
    def held(self) -> Held:
        """The claim behind it."""
        if self._held is None:
            raise InvalidRequest("the lease has not been granted yet")
        return self._held

    @property
    def lease_id(self) -> int:
        """Its id in the cluster."""
        return self.held.id

    @property
    def is_lost(self) -> bool:
        """Whether it must count as lost."""
        return self.held.is_lost()

    @property
    def remaining_s(self) -> float:
        """How long it is safe without another renewal; 0 if lost."""
        return self.held.remaining_s

    def check(self) -> None:
        """Raise unless it is safe to go on.

        Raises:
            LeaseLost: Stop the work it protected.
        """
        self.held.check()

    def fence(self) -> LeaseFence:
        """Return the fence that binds a write to this lease.

        Raises:
            LeaseLost: Stop the work it protected.
        """
        self.check()
        return LeaseFence(self.lease_id)

    async def grant(self, *, timeout_s: float | None = None) -> Self:
        """Have it granted, and keep it alive from now on.

        Raises:
            LimitExceeded: There are too many leases.
            Unavailable: Not granted, and never will be: try again.
            OutcomeUnknown: It may have been granted; it ends by itself.
        """
        if self._held is not None:
            raise InvalidRequest("the lease was granted before; make a new one")
        sent_s = boottime_s()
        request = _grant_request(self._ttl_s, self._claimant)
        reply = await self._core.write(request, timeout_s, orphan=self._give_back)
        answer = reply.grant_lease
        held = Held(f"lease {answer.lease_id}", answer.lease_id, answer.ttl_ms, sent_s)
        renewal = leases_pb2.KeepAliveLeaseRequest(lease_id=held.id)
        if self._on_lost is not None:
            held.on_lost(self._on_lost)
        KEEPER.add(
            held, self._core.shared.renewer.sender(renewal), lambda reply: reply.ttl_ms
        )
        self._core.hold(held)
        self._held = held
        return self

    async def revoke(self, *, timeout_s: float | None = None) -> None:
        """End it and all that hangs on it; ending it again is no error."""
        held = self.held
        if held.is_lost():
            return
        KEEPER.remove(held)
        self._core.drop(held)
        held.give_back()
        await self._core.write(_revoke_request(held.id), timeout_s)

    async def __aenter__(self) -> Self:
        await self.grant()
        self._guard = BodyGuard(self.held, self._core.loop)
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
            await self.revoke()
        except RaftError:
            if exc_type is None:
                raise

    def _give_back(self, reply: StreamReply) -> None:
        self._core.post(_revoke_request(reply.grant_lease.lease_id))


class LeaseCalls:
    """The calls about leases."""

    _core: Core

    def lease(
        self,
        ttl_s: float,
        *,
        claimant: str | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> Lease:
        """Make a lease that is kept alive while its ``async with`` runs.

        Args:
            ttl_s: 1 to 86400.
            claimant: Who asks, for people; None = the client's.
            on_lost: Called once if it is lost, on any thread; must not block.
        """
        return Lease(self._core, ttl_s, self._claimant_of(claimant), on_lost)

    async def grant_lease(
        self,
        ttl_s: float,
        *,
        claimant: str | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """Have a lease granted that nobody keeps alive; returns its id.

        It ends ``ttl_s`` after the grant unless somebody renews it.
        """
        request = _grant_request(ttl_s, self._claimant_of(claimant))
        reply = await self._core.write(request, timeout_s)
        return reply.grant_lease.lease_id

    async def keep_alive_lease(
        self, lease_id: int, *, timeout_s: float | None = None
    ) -> float:
        """Renew a lease once; returns its ttl in seconds, counted from the sending.

        Raises:
            LeaseLost: It has ended.
            NotFound: There is no such lease.
        """
        request = leases_pb2.KeepAliveLeaseRequest(lease_id=lease_id)
        answer = await self._core.unary(request, timeout_s)
        ttl_ms: int = answer.ttl_ms
        return ttl_ms / 1000

    async def revoke_lease(
        self, lease_id: int, *, timeout_s: float | None = None
    ) -> int:
        """End a lease; returns how many keys, locks and the like went with it.

        Raises:
            NotFound: There is no such lease.
        """
        reply = await self._core.write(_revoke_request(lease_id), timeout_s)
        return reply.revoke_lease.attachments

    async def lease_info(
        self, lease_id: int, *, timeout_s: float | None = None
    ) -> LeaseInfo:
        """Look at a lease or session.

        Raises:
            NotFound: There is no such lease, or it has ended.
        """
        body = leases_pb2.GetLeaseRequest(lease_id=lease_id)
        reply = await self._core.read(StreamRequest(get_lease=body), timeout_s)
        return _info(reply.get_lease.lease)

    async def leases(
        self, *, limit: int | None = None, timeout_s: float | None = None
    ) -> AsyncIterator[LeaseInfo]:
        """Iterate over leases and sessions by id."""
        after, left = 0, limit
        while left is None or left > 0:
            body = leases_pb2.ListLeasesRequest(after_lease_id=after, limit=left or 0)
            request = StreamRequest(list_leases=body)
            page = (await self._core.read(request, timeout_s)).list_leases
            for found in page.leases:
                yield _info(found)
                after = found.lease_id
            left = None if left is None else left - len(page.leases)
            if not page.more:
                return

    def _claimant_of(self, claimant: str | None) -> str:
        return self._core.shared.claimant if claimant is None else claimant


def _grant_request(ttl_s: float, claimant: str) -> StreamRequest:
    body = leases_pb2.GrantLeaseRequest(ttl_ms=to_ms(ttl_s), claimant=claimant)
    return StreamRequest(grant_lease=body)


def _revoke_request(lease_id: int) -> StreamRequest:
    return StreamRequest(revoke_lease=leases_pb2.RevokeLeaseRequest(lease_id=lease_id))


def _info(found: leases_pb2.Lease) -> LeaseInfo:
    return LeaseInfo(
        lease_id=found.lease_id,
        ttl_ms=found.ttl_ms,
        remaining_ms=found.remaining_ms,
        claimant=found.claimant,
        is_session=found.is_session,
        attachments=found.attachments,
        keys=tuple(found.keys),
        locks=tuple(found.locks),
        elections=tuple(found.elections),
        jobs=tuple(found.jobs),
    )
