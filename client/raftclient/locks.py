"""Locks with fencing tokens: exclusive, shared, counting; first come, first served.

A grant is bound to the client's session (or a lease of your choice), which is kept
alive apart from your thread and loop. While a block ``async with client.lock(...)``
runs, losing the lock cancels its task, and the block ends with ``LeaseLost``.

Outside the cluster a lock alone protects nothing: its holder may sleep while the lease
ends. Hand the token to whatever you guard, and let that refuse lower ones; writes to
this cluster take it as ``fences=[grant.fence()]``::

    async with client.lock("reports") as grant:
        await store.write(report, token=grant.token)
        await client.put("reports/last", name, fences=[grant.fence()])

Source: SEMANTICS.md section 4; proto/raftpb/v1/locks.proto.
"""

from __future__ import annotations

import asyncio
import enum
from typing import TYPE_CHECKING, Final

import msgspec

from raftclient._clock import to_ms
from raftclient._guard import BodyGuard
from raftclient._held import Claim, Held
from raftclient._values import LeaseRef, held_now, held_of
from raftclient.errors import InvalidRequest, OutcomeUnknown, RaftError
from raftclient.fences import LockFence
from raftpb.v1 import locks_pb2
from raftpb.v1.sessions_pb2 import StreamRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType

    from raftclient._core import Core
    from raftpb.v1.sessions_pb2 import StreamReply

__all__ = ["Grant", "Lock", "LockCalls", "LockClaim", "LockInfo", "LockMode"]


class LockMode(enum.StrEnum):
    """How a lock may be held together with others."""

    EXCLUSIVE = "exclusive"
    SHARED = "shared"
    SEMAPHORE = "semaphore"


_TO_WIRE: Final = {
    LockMode.EXCLUSIVE: locks_pb2.LOCK_MODE_EXCLUSIVE,
    LockMode.SHARED: locks_pb2.LOCK_MODE_SHARED,
    LockMode.SEMAPHORE: locks_pb2.LOCK_MODE_SEMAPHORE,
}
_FROM_WIRE: Final = {number: mode for mode, number in _TO_WIRE.items()}


class LockClaim(msgspec.Struct, frozen=True):
    """A party of a lock; ``token`` is 0 while it waits."""

    claimant: str
    lease_id: int
    token: int
    mode: LockMode
    since_ms: int


class LockInfo(msgspec.Struct, frozen=True):
    """A lock as the cluster has it.

    Attributes:
        last_change: Why it last changed hands: released, expired, revoked, broken, or
            empty.
        closed_ms: Still closed for so long after an involuntary loss.
    """

    name: str
    mode: LockMode
    limit: int
    holders: tuple[LockClaim, ...]
    waiters: tuple[LockClaim, ...]
    last_change: str
    closed_ms: int


class Grant:
    """A lock in this process's hands."""

    def __init__(self, core: Core, name: str, token: int, parent: Held | None) -> None:
        self._core: Final = core
        self.name: Final = name
        self.token: Final = token
        self.claim: Final = Claim(f'lock "{name}"', parent)

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
            LeaseLost: Stop the work it protected.
        """
        self.claim.check()

    def fence(self) -> LockFence:
        """Return the fence that binds a write to this grant.

        Raises:
            LeaseLost: Stop the work it protected.
        """
        self.check()
        return LockFence(self.name, self.token)

    async def release(self, *, timeout_s: float | None = None) -> None:
        """Give it back; again is no error.

        Raises:
            Fenced: It was not ours any more.
            Unavailable: Not given back; it goes with the lease.
        """
        if self.claim.is_lost():
            return
        self.claim.give_back()
        await self._core.write(_release_request(self.name, self.token), timeout_s)


class Lock:
    """A wish for a lock: one at a time; make one per task."""

    def __init__(self, core: Core, body: locks_pb2.AcquireLockRequest) -> None:
        self._core: Final = core
        self._body: Final = body
        self._waits_s: Final = body.wait_ms / 1000 if body.HasField("wait_ms") else None
        self._lease: LeaseRef | None = None
        self._on_lost: Callable[[], None] | None = None
        self._is_busy = False
        self._grant: Grant | None = None
        self._guard: BodyGuard | None = None

    @property
    def name(self) -> str:
        """The lock's name."""
        return self._body.name

    @property
    def claimant(self) -> str:
        """Who asks, as ``lock_info`` shows it."""
        return self._body.claimant

    def bound_to(
        self, lease: LeaseRef | None, on_lost: Callable[[], None] | None
    ) -> Lock:
        """Say what pays for it, and who is told of its loss."""
        self._lease = lease
        self._on_lost = on_lost
        return self

    async def acquire(self, *, timeout_s: float | None = None) -> Grant:
        """Take the lock, waiting as long as the lock was made to wait.

        Args:
            timeout_s: How long to try beyond that wait; None = the client's default.

        Raises:
            LockHeld: Somebody else holds it, and the wait is over.
            LeaseLost: The session or lease ended meanwhile.
            Unavailable: Not taken, and never will be: try again.
            OutcomeUnknown: No answer came; a grant that may still come is given back.
        """
        if self._is_busy or (self._grant is not None and not self._grant.is_lost):
            raise InvalidRequest("this lock object is in use; make one for each task")
        self._is_busy = True
        try:
            self._grant = await self._acquire(timeout_s)
        finally:
            self._is_busy = False
        if self._on_lost is not None:
            self._grant.claim.on_lost(self._on_lost)
        return self._grant

    async def release(self, *, timeout_s: float | None = None) -> None:
        """Give the lock back; again, or without a grant, is no error."""
        if self._grant is not None:
            await self._grant.release(timeout_s=timeout_s)

    async def _acquire(self, timeout_s: float | None) -> Grant:
        core = self._core
        held, lease_id = held_now(core, self._lease) or await held_of(
            core, self._lease, timeout_s
        )
        request = StreamRequest()
        body = request.acquire_lock
        body.CopyFrom(self._body)
        body.lease_id = lease_id
        try:
            reply = await core.write(
                request,
                timeout_s,
                held=held,
                waits_s=self._waits_s,
                orphan=self._give_back,
            )
        except (asyncio.CancelledError, OutcomeUnknown):
            cancel = locks_pb2.CancelAcquireRequest(
                name=self.name, lease_id=lease_id, claimant=self.claimant
            )
            core.post(StreamRequest(cancel_acquire=cancel), beside_waits=True)
            raise
        return Grant(core, self.name, reply.acquire_lock.token, held)

    def _give_back(self, reply: StreamReply) -> None:
        self._core.post(_release_request(self.name, reply.acquire_lock.token))

    async def __aenter__(self) -> Grant:
        grant = await self.acquire()
        self._guard = BodyGuard(grant.claim, self._core.loop)
        return grant

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
            await self.release()
        except RaftError:
            if exc_type is None:
                raise


class LockCalls:
    """The calls about locks."""

    _core: Core

    def lock(
        self,
        name: str,
        *,
        mode: LockMode = LockMode.EXCLUSIVE,
        limit: int | None = None,
        wait_s: float | None = None,
        delay_s: float = 0.0,
        lease: LeaseRef | None = None,
        claimant: str | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> Lock:
        """Wish for a lock; use it as ``async with`` or call ``acquire``.

        Args:
            name: 1 to 256 bytes.
            mode: Exclusive, shared, or a semaphore with a ``limit``.
            limit: Holders at once; makes it a semaphore.
            wait_s: How long to wait for it; 0 = try, None = for ever.
            delay_s: Stay closed so long after an involuntary loss.
            lease: What pays for it; None = the client's session.
            claimant: Fresh for each object, so that two tasks exclude each other; the
                same one may enter again what it holds.
            on_lost: Called once if it is lost, on any thread; must not block.

        Source: SEMANTICS.md section 4.
        """
        body = locks_pb2.AcquireLockRequest(
            name=name,
            claimant=claimant or self._core.shared.fresh_claimant(),
            mode=_TO_WIRE[mode if limit is None else LockMode.SEMAPHORE],
            limit=limit or 0,
            wait_ms=None if wait_s is None else to_ms(wait_s),
            delay_ms=to_ms(delay_s),
        )
        return Lock(self._core, body).bound_to(lease, on_lost)

    async def release_lock(
        self, name: str, token: int, *, timeout_s: float | None = None
    ) -> None:
        """Give back a lock that was taken elsewhere, by its token.

        Raises:
            Fenced: The token is not current; ``details["current"]`` is.
            NotFound: Nobody holds or wants it.
        """
        await self._core.write(_release_request(name, token), timeout_s)

    async def break_lock(self, name: str, *, timeout_s: float | None = None) -> int:
        """Take a lock from its holders; returns how many lost it.

        Raises:
            NotFound: Nobody holds or wants it.
        """
        request = StreamRequest(break_lock=locks_pb2.BreakLockRequest(name=name))
        reply = await self._core.write(request, timeout_s)
        return reply.break_lock.holders

    async def lock_info(self, name: str, *, timeout_s: float | None = None) -> LockInfo:
        """Look at a lock: who holds, who waits, since when.

        Raises:
            NotFound: Nobody holds or wants it.
        """
        request = StreamRequest(get_lock=locks_pb2.GetLockRequest(name=name))
        reply = await self._core.read(request, timeout_s)
        return _info(reply.get_lock.lock)

    async def locks(
        self,
        prefix: str = "",
        *,
        limit: int | None = None,
        timeout_s: float | None = None,
    ) -> AsyncIterator[LockInfo]:
        """Iterate over locks by name."""
        after, left = "", limit
        while left is None or left > 0:
            body = locks_pb2.ListLocksRequest(
                prefix=prefix, after_name=after, limit=left or 0
            )
            request = StreamRequest(list_locks=body)
            page = (await self._core.read(request, timeout_s)).list_locks
            for found in page.locks:
                yield _info(found)
                after = found.name
            left = None if left is None else left - len(page.locks)
            if not page.more:
                return


def _release_request(name: str, token: int) -> StreamRequest:
    request = StreamRequest()
    body = request.release_lock
    body.name = name
    body.token = token
    return request


def _info(found: locks_pb2.Lock) -> LockInfo:
    return LockInfo(
        name=found.name,
        mode=_mode(found.mode),
        limit=found.limit,
        holders=tuple(_claim(each) for each in found.holders),
        waiters=tuple(_claim(each) for each in found.waiters),
        last_change=found.last_change,
        closed_ms=found.closed_ms,
    )


def _claim(found: locks_pb2.LockClaim) -> LockClaim:
    return LockClaim(
        found.claimant, found.lease_id, found.token, _mode(found.mode), found.since_ms
    )


def _mode(number: locks_pb2.LockMode.ValueType) -> LockMode:
    return _FROM_WIRE.get(number, LockMode.EXCLUSIVE)
