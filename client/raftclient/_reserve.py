"""Taking jobs: a wait of any length, made of waits of a bounded one.

A number that waits holds up ``acknowledged``, and a wait whose caller has gone may
still take a job, which is then given back; so no single request waits for longer than
a few seconds.

Source: SEMANTICS.md section 6 (Reserve).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from raftclient._clock import to_ms
from raftclient._values import held_now, held_of
from raftclient.reservations import ReservedJob, release_request
from raftpb.v1.sessions_pb2 import StreamRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftclient._core import Core
    from raftclient._values import LeaseRef
    from raftpb.v1.sessions_pb2 import StreamReply

__all__ = ["reserve", "weights_of"]

SLICE_S: Final = 10.0


async def reserve(
    core: Core,
    queues: Mapping[str, int],
    jobs_max: int,
    *,
    wait_s: float | None,
    lease: LeaseRef | None,
    worker: str | None,
    reservation_s: float | None,
    types: Sequence[str],
    timeout_s: float | None,
) -> list[ReservedJob]:
    """See ``QueueCalls.reserve``."""

    def give_back(reply: StreamReply) -> None:
        for found in reply.reserve_jobs.jobs:
            core.post(release_request(found.job_id, found.token))

    end_s = math.inf if wait_s is None else core.loop.time() + wait_s
    while True:
        held, lease_id = held_now(core, lease) or await held_of(core, lease, timeout_s)
        slice_s = min(SLICE_S, max(0.0, end_s - core.loop.time()))
        request = StreamRequest()
        body = request.reserve_jobs
        body.lease_id = lease_id
        body.wait_ms = to_ms(slice_s)
        for name, weight in queues.items():
            queue = body.queues.add()
            queue.queue = name
            queue.weight = weight
        body.worker = worker or core.shared.claimant
        body.jobs_max = jobs_max
        if reservation_s is not None:
            body.reservation_ms = to_ms(reservation_s)
        if types:
            body.types.extend(types)
        reply = await core.write(
            request,
            timeout_s,
            held=held,
            waits_s=slice_s,
            orphan=give_back,
        )
        # An answer that was lost may come when a reservation is over; such a job is
        # bare, and somebody else's matter.
        jobs = [
            ReservedJob(core, each, held)
            for each in reply.reserve_jobs.jobs
            if each.reservation_ms
        ]
        if jobs or core.loop.time() >= end_s:
            return jobs


def weights_of(queues: str | Sequence[str] | Mapping[str, int]) -> Mapping[str, int]:
    """Return each queue with its weight."""
    if isinstance(queues, Mapping):
        return queues
    names = (queues,) if isinstance(queues, str) else queues
    return dict.fromkeys(names, 1)
