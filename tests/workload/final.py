"""Reads what is there when a run is over: keys, claims, jobs, at one revision.

Leases that nobody renews still end for a while after the last call, so everything is
read again until nothing changed from the first list to the last.

Source: RELIABILITY.md section 5 (final reads).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.checkers.history import as_text
from tests.checkers.records import FinalState
from tests.workload.claim_calls import MODES
from tests.workload.kv_calls import found_of
from tests.workload.setting import for_a_while
from tests.workload.tap import noting

if TYPE_CHECKING:
    from raftclient.queue_info import QueueInfo
    from tests.checkers.parts import Fields
    from tests.workload.tap import TappedClient

__all__ = ["FinalReader"]

_AGAIN_S: Final = 0.2
_COUNTS: Final = (
    "scheduled",
    "ready",
    "blocked",
    "reserved",
    "done",
    "dead",
    "cancelled",
    "expired",
    "enqueued_total",
    "completed_total",
    "failed_total",
    "dead_total",
)


class FinalReader:
    """See the module."""

    def __init__(self, client: TappedClient) -> None:
        self._client: Final = client

    async def read(self) -> FinalState:
        """Read everything; ends when nothing changes any more."""
        while True:
            first = await self._revision()
            found = await self._read_once(first)
            if await self._revision() == first:
                return found
            await for_a_while(_AGAIN_S)

    async def _revision(self) -> int:
        with noting() as note:
            await self._client.get("final")
        return note.revision

    async def _read_once(self, revision: int) -> FinalState:
        client = self._client
        queues = [info async for info in client.queues()]
        return FinalState(
            revision=revision,
            keys=await self._keys(),
            locks=await self._locks(),
            elections=await self._elections(),
            jobs=[job for info in queues for job in await self._jobs(info.name)],
            queues=[_counts(info) for info in queues],
        )

    async def _keys(self) -> list[Fields]:
        found = []
        async for key in self._client.range(prefix=""):
            fields = found_of(key)
            assert fields is not None
            found.append(fields)
        return found

    async def _locks(self) -> list[Fields]:
        return [
            {
                "name": lock.name,
                "holders": [
                    {
                        "claimant": each.claimant,
                        "lease": each.lease_id,
                        "token": each.token,
                        "mode": MODES[each.mode],
                    }
                    for each in lock.holders
                ],
                "waiters": len(lock.waiters),
            }
            async for lock in self._client.locks()
        ]

    async def _elections(self) -> list[Fields]:
        found: list[Fields] = []
        async for election in self._client.elections():
            leader = election.leader
            found.append(
                {
                    "name": election.name,
                    "epoch": 0 if leader is None else leader.epoch,
                    "claimant": "" if leader is None else leader.claimant,
                    "value": "" if leader is None else as_text(leader.value),
                }
            )
        return found

    async def _jobs(self, queue: str) -> list[Fields]:
        return [
            {
                "job": job.job_id,
                "queue": job.queue,
                "state": str(job.state),
                "attempt": job.attempt,
                "delivery": job.delivery,
                "crashes": job.crashes,
                "token": job.token,
                "client_id": job.client_id,
            }
            async for job in self._client.queue(queue).list(payloads=False)
        ]


def _counts(info: QueueInfo) -> Fields:
    return {"name": info.name, **{name: getattr(info, name) for name in _COUNTS}}
