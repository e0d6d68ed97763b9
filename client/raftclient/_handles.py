"""The synchronous faces of what a client hands out: same names, for threads.

A block ``with client.lock(...)`` cannot be interrupted when the lock is lost; it is
told by ``on_lost``, by ``grant.is_lost``, at the next call that needs the claim, and
at its end.

Source: DESIGN.md section 9; how they are made: ``raftclient._blocking``.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar

from raftclient import aio
from raftclient._blocking import (
    PORTAL,
    Face,
    Reading,
    blocking,
    blocking_handle,
    direct,
    iterating,
)
from raftclient._feed import Feed as AsyncFeed
from raftclient._held import Claim, Held
from raftclient.errors import RaftError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor
    from types import TracebackType

    from raftclient.txn import Compare, Op

__all__ = [
    "Election",
    "Feed",
    "Grant",
    "Leadership",
    "Lease",
    "Lock",
    "Queue",
    "Reservation",
    "ReservedJob",
    "Session",
    "Transaction",
    "Worker",
    "jobs_of",
    "leave",
]

E = TypeVar("E")
J_co = TypeVar("J_co", bound=aio.Reservation, covariant=True)


class Feed(Face[AsyncFeed[E]], Generic[E]):
    """A watch: iterate over it; ``close`` (from any thread) ends the iteration."""

    def __init__(self, inner: AsyncFeed[E]) -> None:
        super().__init__(inner)
        self._items: deque[E] = deque()

    batch = blocking(AsyncFeed[E].batch)

    def close(self) -> None:
        """End the watch; may be called twice."""
        PORTAL.call(self._inner.close)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> E:
        if not self._items:
            self._items.extend(PORTAL.run(self._inner.batch()))
        if not self._items:
            raise StopIteration
        return self._items.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Lease(Face[aio.Lease]):
    """A lease to be granted and kept alive; use it as ``with``."""

    held = Reading[aio.Lease, Held](lambda lease: lease.held)
    lease_id = Reading[aio.Lease, int](lambda lease: lease.lease_id)
    is_lost = Reading[aio.Lease, bool](lambda lease: lease.is_lost)
    remaining_s = Reading[aio.Lease, float](lambda lease: lease.remaining_s)
    check = direct(aio.Lease.check)
    fence = direct(aio.Lease.fence)
    revoke = blocking(aio.Lease.revoke)

    def grant(self, *, timeout_s: float | None = None) -> Self:
        """Have it granted, and keep it alive from now on."""
        PORTAL.run(self._inner.grant(timeout_s=timeout_s))
        return self

    def __enter__(self) -> Self:
        return self.grant()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        leave(self.held, exc_type, self.revoke)


class Session(Face[aio.Session]):
    """An open session; usable wherever a lease is."""

    held = Reading[aio.Session, Held](lambda session: session.held)
    lease_id = Reading[aio.Session, int](lambda session: session.lease_id)
    is_lost = Reading[aio.Session, bool](lambda session: session.is_lost)
    remaining_s = Reading[aio.Session, float](lambda session: session.remaining_s)
    check = direct(aio.Session.check)
    fence = direct(aio.Session.fence)
    on_lost = direct(aio.Session.on_lost)


class Grant(Face[aio.Grant]):
    """A lock in this process's hands."""

    name = Reading[aio.Grant, str](lambda grant: grant.name)
    token = Reading[aio.Grant, int](lambda grant: grant.token)
    claim = Reading[aio.Grant, Claim](lambda grant: grant.claim)
    is_lost = Reading[aio.Grant, bool](lambda grant: grant.is_lost)
    remaining_s = Reading[aio.Grant, float](lambda grant: grant.remaining_s)
    check = direct(aio.Grant.check)
    fence = direct(aio.Grant.fence)
    release = blocking(aio.Grant.release)


class Lock(Face[aio.Lock]):
    """A wish for a lock: one at a time; make one per thread."""

    name = Reading[aio.Lock, str](lambda lock: lock.name)
    claimant = Reading[aio.Lock, str](lambda lock: lock.claimant)
    acquire = blocking_handle(aio.Lock.acquire, Grant)
    release = blocking(aio.Lock.release)

    def __enter__(self) -> Grant:
        self._grant = self.acquire()
        return self._grant

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        leave(self._grant.claim, exc_type, self._grant.release)


class Leadership(Face[aio.Leadership]):
    """Leadership of a name in this process's hands."""

    name = Reading[aio.Leadership, str](lambda leader: leader.name)
    epoch = Reading[aio.Leadership, int](lambda leader: leader.epoch)
    claim = Reading[aio.Leadership, Claim](lambda leader: leader.claim)
    is_lost = Reading[aio.Leadership, bool](lambda leader: leader.is_lost)
    remaining_s = Reading[aio.Leadership, float](lambda leader: leader.remaining_s)
    check = direct(aio.Leadership.check)
    fence = direct(aio.Leadership.fence)
    proclaim = blocking(aio.Leadership.proclaim)
    resign = blocking(aio.Leadership.resign)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        leave(self.claim, exc_type, self.resign)


class Election(Face[aio.Election]):
    """One election, by name."""

    name = Reading[aio.Election, str](lambda election: election.name)
    campaign = blocking_handle(aio.Election.campaign, Leadership)


class _ReservationCalls(Face[J_co]):
    """What every reservation can do."""

    job_id = Reading[aio.Reservation, int](lambda job: job.job_id)
    token = Reading[aio.Reservation, int](lambda job: job.token)
    is_over = Reading[aio.Reservation, bool](lambda job: job.is_over)
    cancel_requested = Reading[aio.Reservation, bool](lambda job: job.cancel_requested)
    fence = direct(aio.Reservation.fence)
    extend = blocking(aio.Reservation.extend)
    savepoint = blocking(aio.Reservation.savepoint)
    complete = blocking(aio.Reservation.complete)
    fail = blocking(aio.Reservation.fail)
    snooze = blocking(aio.Reservation.snooze)
    release = blocking(aio.Reservation.release)


class Reservation(_ReservationCalls[aio.Reservation]):
    """A reservation by job id and token."""


_Job = aio.ReservedJob


class ReservedJob(_ReservationCalls[aio.ReservedJob]):
    """A job in this process's hands, with all that its work needs."""

    queue = Reading[_Job, str](lambda job: job.queue)
    type = Reading[_Job, str](lambda job: job.type)
    payload = Reading[_Job, bytes](lambda job: job.payload)
    content_type = Reading[_Job, str](lambda job: job.content_type)
    meta = Reading[_Job, dict[str, str]](lambda job: job.meta)
    client_id = Reading[_Job, str](lambda job: job.client_id)
    attempt = Reading[_Job, int](lambda job: job.attempt)
    delivery = Reading[_Job, int](lambda job: job.delivery)
    saved = Reading[_Job, bytes](lambda job: job.saved)
    age_ms = Reading[_Job, int](lambda job: job.age_ms)
    reservation_ms = Reading[_Job, int](lambda job: job.reservation_ms)
    held = Reading[_Job, Held](lambda job: job.held)
    is_lost = Reading[_Job, bool](lambda job: job.is_lost)
    remaining_s = Reading[_Job, float](lambda job: job.remaining_s)
    keep = direct(aio.ReservedJob.keep)
    let_go = direct(aio.ReservedJob.let_go)


def jobs_of(found: list[aio.ReservedJob]) -> list[ReservedJob]:
    return [ReservedJob(job) for job in found]


class Queue(Face[aio.Queue]):
    """One queue, by name; it comes into being with its first job."""

    name = Reading[aio.Queue, str](lambda queue: queue.name)
    enqueue = blocking(aio.Queue.enqueue)
    enqueue_many = blocking(aio.Queue.enqueue_many)
    reserve = blocking_handle(aio.Queue.reserve, jobs_of)
    stats = blocking(aio.Queue.stats)
    list = iterating(aio.Queue.list)
    pause = blocking(aio.Queue.pause)
    resume = blocking(aio.Queue.resume)
    purge = blocking(aio.Queue.purge)
    configure = blocking(aio.Queue.configure)
    delete = blocking(aio.Queue.delete)
    redrive = blocking(aio.Queue.redrive)


class Transaction(Face[aio.Transaction]):
    """A transaction in the making; ``commit`` runs it."""

    commit = blocking(aio.Transaction.commit)

    def when(self, *compares: Compare) -> Self:
        """Add conditions; all must hold."""
        self._inner.when(*compares)
        return self

    def then(self, *ops: Op) -> Self:
        """Add operations that run if they do."""
        self._inner.then(*ops)
        return self

    def otherwise(self, *ops: Op) -> Self:
        """Add operations that run if they do not."""
        self._inner.otherwise(*ops)
        return self


class Worker(Face[aio.Worker]):
    """A worker; ``run`` works until ``stop`` is called from another thread."""

    def __init__(self, inner: aio.Worker, threads: Executor) -> None:
        super().__init__(inner)
        self._threads: Final = threads

    handled = Reading[aio.Worker, int](lambda worker: worker.handled)

    def run(self) -> None:
        """Work until ``stop``; once. Handlers that do not end are left behind."""
        try:
            PORTAL.run(self._inner.run())
        finally:
            self._threads.shutdown(wait=False)

    def stop(self) -> None:
        """Fetch no more, and end ``run``; may be called twice, on any thread."""
        PORTAL.call(self._inner.stop)


def leave(
    claim: Claim,
    exc_type: type[BaseException] | None,
    give_back: Callable[[], None],
) -> None:
    """End a block: say that the claim was lost, or give it back."""
    try:
        if exc_type is None:
            claim.check()
        give_back()
    except RaftError:
        if exc_type is None:
            raise
