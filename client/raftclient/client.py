"""The asyncio client: one object, composed of the calls of each primitive.

Source: DESIGN.md section 9.
"""

from __future__ import annotations

import importlib.metadata
import os
import socket
import uuid
from typing import TYPE_CHECKING, Self

from raftclient._clock import to_ms
from raftclient._core import Core
from raftclient._dialects import Dialects
from raftclient._endpoints import Endpoints, parse_endpoints
from raftclient._shared import Shared
from raftclient._unary import Channels, Renewer, Unary
from raftclient.cluster import ClusterCalls
from raftclient.elections import ElectionCalls
from raftclient.jobs import JobCalls
from raftclient.kv import KvCalls
from raftclient.leases import LeaseCalls
from raftclient.locks import LockCalls
from raftclient.queues import QueueCalls
from raftclient.reservations import ReservationCalls
from raftclient.sessions import SessionCalls
from raftclient.txn import TxnCalls
from raftclient.worker import WorkerCalls

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

__all__ = ["Client"]


class Client(
    KvCalls,
    LeaseCalls,
    LockCalls,
    ElectionCalls,
    QueueCalls,
    JobCalls,
    ReservationCalls,
    WorkerCalls,
    TxnCalls,
    ClusterCalls,
    SessionCalls,
):
    """A client on the running loop; made by ``raftclient.aio.connect``.

    Any number of tasks of that loop may use it at once. Nothing is sent before the
    first call.
    """

    def __init__(
        self,
        endpoints: str | Sequence[str],
        *,
        ttl_s: float,
        claimant: str | None,
        timeout_s: float,
    ) -> None:
        own = parse_endpoints(endpoints)
        known = Endpoints(own)
        channels = Channels()
        shared = Shared(
            dialects=Dialects(),
            endpoints=known,
            channels=channels,
            unary=Unary(known, channels),
            renewer=Renewer(known),
            ttl_ms=to_ms(ttl_s),
            claimant=claimant or _default_claimant(),
            client_version=_version(),
        )
        self._core = Core(shared, timeout_s)

    async def close(self) -> None:
        """Say goodbye: claims go at once, reserved jobs go back. May be called twice.

        Calls that are still waiting end with ``Unavailable`` or ``OutcomeUnknown``.
        """
        await self._core.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


def _default_claimant() -> str:
    return f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"


def _version() -> str:
    try:
        return importlib.metadata.version("raftd")
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        return "0"
