"""The asyncio face of the client.

``Client`` and the handles it gives out are the implementation; ``raftclient`` itself
has the same names for threads.

    async with aio.connect("h1:7400,h2:7400,h3:7400") as client:
        await client.put("greeting", "hello")
        async with client.lock("reports") as grant:
            ...

Source: DESIGN.md section 9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftclient._feed import Feed
from raftclient._observe import ElectionFeed
from raftclient._watch import KeyWatch
from raftclient.client import Client
from raftclient.elections import Election, Leadership
from raftclient.jobs import JobFeed
from raftclient.kv import KeyRange
from raftclient.leases import Lease
from raftclient.locks import Grant, Lock
from raftclient.members import Cluster
from raftclient.queues import Queue
from raftclient.reservations import Reservation, ReservedJob
from raftclient.sessions import Session
from raftclient.txn import Transaction
from raftclient.worker import Handler, Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "Client",
    "Cluster",
    "Election",
    "ElectionFeed",
    "Feed",
    "Grant",
    "Handler",
    "JobFeed",
    "KeyRange",
    "KeyWatch",
    "Leadership",
    "Lease",
    "Lock",
    "Queue",
    "Reservation",
    "ReservedJob",
    "Session",
    "Transaction",
    "Worker",
    "connect",
]


def connect(
    endpoints: str | Sequence[str],
    *,
    ttl_s: float = 10.0,
    claimant: str | None = None,
    timeout_s: float = 5.0,
) -> Client:
    """Make a client on the running loop; use it as ``async with``.

    Args:
        endpoints: ``host:port,host:port``; any members, others are learnt.
        ttl_s: Of its session, 1 to 86400: how long its claims outlive its process.
        claimant: What others see of it; None = host, process and a random part.
        timeout_s: How long each call tries, unless it says otherwise.

    Raises:
        InvalidRequest: An endpoint cannot be read.
    """
    return Client(endpoints, ttl_s=ttl_s, claimant=claimant, timeout_s=timeout_s)
