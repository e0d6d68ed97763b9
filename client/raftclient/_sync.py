"""The synchronous client: the same names as the asyncio one, for threads.

Source: DESIGN.md section 9; how it is made: ``raftclient._blocking``.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

from raftclient import aio
from raftclient._blocking import (
    PORTAL,
    Face,
    Reading,
    blocking,
    blocking_handle,
    giving,
    iterating,
)
from raftclient._cluster_face import Cluster
from raftclient._handles import (
    Election,
    Feed,
    Lease,
    Lock,
    Queue,
    Reservation,
    ReservedJob,
    Session,
    Transaction,
    Worker,
    jobs_of,
)
from raftclient._observe import ElectionEvent
from raftclient.jobs import JobEvent
from raftclient.keys import WatchEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from raftclient._values import Data

__all__ = ["Client", "connect"]


class Client(Face[aio.Client]):
    """A client for threads; made by ``raftclient.connect``.

    Any number of threads may use it at once. Nothing is sent before the first call.
    """

    _is_closed = False

    cluster = Reading[aio.Client, Cluster](lambda client: Cluster(client.cluster))
    claimant = Reading[aio.Client, str](lambda client: client.claimant)
    revision = Reading[aio.Client, int](lambda client: client.revision)
    session = blocking_handle(aio.Client.session, Session)
    status = blocking(aio.Client.status)

    put = blocking(aio.Client.put)
    get = blocking(aio.Client.get)
    range = iterating(aio.Client.range)
    count = blocking(aio.Client.count)
    delete = blocking(aio.Client.delete)
    delete_range = blocking(aio.Client.delete_range)
    incr = blocking(aio.Client.incr)
    watch = giving(aio.Client.watch, Feed[WatchEvent])
    txn = giving(aio.Client.txn, Transaction)

    lease = giving(aio.Client.lease, Lease)
    grant_lease = blocking(aio.Client.grant_lease)
    keep_alive_lease = blocking(aio.Client.keep_alive_lease)
    revoke_lease = blocking(aio.Client.revoke_lease)
    lease_info = blocking(aio.Client.lease_info)
    leases = iterating(aio.Client.leases)

    lock = giving(aio.Client.lock, Lock)
    release_lock = blocking(aio.Client.release_lock)
    break_lock = blocking(aio.Client.break_lock)
    lock_info = blocking(aio.Client.lock_info)
    locks = iterating(aio.Client.locks)

    election = giving(aio.Client.election, Election)
    election_info = blocking(aio.Client.election_info)
    leader = blocking(aio.Client.leader)
    observe = giving(aio.Client.observe, Feed[ElectionEvent])
    elections = iterating(aio.Client.elections)
    transfer_election = blocking(aio.Client.transfer_election)

    queue = giving(aio.Client.queue, Queue)
    queues = iterating(aio.Client.queues)
    reserve = blocking_handle(aio.Client.reserve, jobs_of)
    reservation = giving(aio.Client.reservation, Reservation)
    job = blocking(aio.Client.job)
    cancel_job = blocking(aio.Client.cancel_job)
    watch_job = giving(aio.Client.watch_job, Feed[JobEvent])
    watch_jobs = giving(aio.Client.watch_jobs, Feed[JobEvent])
    wait_job = blocking(aio.Client.wait_job)

    def worker(
        self,
        queues: str | Sequence[str] | Mapping[str, int],
        handler: Callable[[ReservedJob], Data | None],
        *,
        concurrency: int = 1,
        types: Sequence[str] = (),
        name: str | None = None,
        reservation_s: float | None = None,
        grace_s: float = 10.0,
    ) -> Worker:
        """Make a worker whose handlers run in threads; see the asyncio one.

        A thread cannot be cancelled: a handler that may lose its job looks at
        ``job.is_lost`` now and then.
        """
        pool = ThreadPoolExecutor(concurrency, thread_name_prefix="raftclient-worker")

        async def handle(job: aio.ReservedJob) -> Data | None:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(pool, handler, ReservedJob(job))

        return Worker(
            PORTAL.call(
                self._inner.worker,
                queues,
                handle,
                concurrency=concurrency,
                types=types,
                name=name,
                reservation_s=reservation_s,
                grace_s=grace_s,
            ),
            pool,
        )

    def close(self) -> None:
        """Say goodbye: claims go at once, reserved jobs go back; may be called twice.

        Calls that other threads wait for end with ``Unavailable`` or
        ``OutcomeUnknown``.
        """
        if self._is_closed:
            return
        self._is_closed = True
        PORTAL.run(self._inner.close())
        PORTAL.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def connect(
    endpoints: str | Sequence[str],
    *,
    ttl_s: float = 10.0,
    claimant: str | None = None,
    timeout_s: float = 5.0,
) -> Client:
    """Make a client for threads; use it as ``with``.

    Args:
        endpoints: ``host:port,host:port``; any members, others are learnt.
        ttl_s: Of its session, 1 to 86400: how long its claims outlive its process.
        claimant: What others see of it; None = host, process and a random part.
        timeout_s: How long each call tries, unless it says otherwise.

    Raises:
        InvalidRequest: An endpoint cannot be read.
    """
    PORTAL.open()
    try:
        return Client(
            PORTAL.call(
                aio.connect,
                endpoints,
                ttl_s=ttl_s,
                claimant=claimant,
                timeout_s=timeout_s,
            )
        )
    except BaseException:
        PORTAL.close()
        raise
