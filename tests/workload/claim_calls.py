"""Recorded calls about leases, locks and elections.

Source: SEMANTICS.md sections 1, 4 and 5; `tests.checkers.records` for the fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftclient._clock import to_ms
from raftclient.locks import LockMode
from tests.workload.recorded import Recorded
from tests.workload.wire import fields_of

if TYPE_CHECKING:
    from raftclient.aio import Grant, Leadership
    from raftclient.elections import ElectionInfo
    from raftclient.locks import LockInfo
    from tests.checkers.parts import Fields
    from tests.workload.recorded import Ended
    from tests.workload.tap import Note

__all__ = ["MODES", "ClaimCalls"]

MODES: Final = {LockMode.EXCLUSIVE: 1, LockMode.SHARED: 2, LockMode.SEMAPHORE: 3}
"""As the log numbers them."""


class ClaimCalls(Recorded):
    """The calls about claims of one caller."""

    async def grant(self, ttl_s: float) -> Ended[int]:
        """Have a lease granted that nobody keeps alive."""
        return await self.call(
            "grant",
            {"ttl_ms": to_ms(ttl_s), "claimant": self.client.claimant},
            lambda: self.client.grant_lease(ttl_s),
            lambda lease: {"lease": lease, "ttl_ms": to_ms(ttl_s)},
        )

    async def keep_alive(self, lease: int) -> Ended[float]:
        """Renew a lease once."""
        return await self.call(
            "keep_alive",
            {"lease": lease},
            lambda: self.client.keep_alive_lease(lease),
            lambda ttl_s: {"ttl_ms": round(ttl_s * 1000)},
            is_noted=False,
        )

    async def revoke(self, lease: int) -> Ended[int]:
        """End a lease."""
        return await self.call(
            "revoke",
            {"lease": lease},
            lambda: self.client.revoke_lease(lease),
            lambda attachments: {"attachments": attachments},
        )

    async def acquire(
        self,
        name: str,
        *,
        mode: LockMode = LockMode.EXCLUSIVE,
        limit: int = 1,
        wait_s: float = 0.0,
        lease: int = 0,
    ) -> Ended[Grant]:
        """Take a lock under the session, or under a lease."""
        is_counting = mode is LockMode.SEMAPHORE
        lock = self.client.lock(
            name,
            mode=mode,
            limit=limit if is_counting else None,
            wait_s=wait_s,
            claimant=self.fresh(),
            lease=lease or None,
        )
        asked: Fields = {
            "name": name,
            "claimant": lock.claimant,
            "mode": MODES[mode],
            "limit": limit if is_counting else 1,
            "wait_ms": to_ms(wait_s),
        }
        return await self.call(
            "acquire",
            asked,
            lock.acquire,
            lambda grant: {"token": grant.token},
            more=_lease,
        )

    @staticmethod
    def claimant_of(ended: Ended[Grant] | Ended[Leadership]) -> str:
        """Return the claimant that a granted claim was asked for by."""
        request = ended.note.request
        assert request is not None, "it was granted"
        return request.acquire_lock.claimant or request.campaign.claimant

    async def release(self, grant: Grant) -> Ended[None]:
        """Give a lock back; call it only for what is not lost."""
        return await self.call(
            "release_lock",
            {"name": grant.name, "token": grant.token},
            grant.release,
            _nothing,
        )

    async def release_token(self, name: str, token: int) -> Ended[None]:
        """Give a lock back by its token, whether or not it is still ours."""
        return await self.call(
            "release_lock",
            {"name": name, "token": token},
            lambda: self.client.release_lock(name, token),
            _nothing,
        )

    async def lock_info(self, name: str) -> Ended[LockInfo]:
        """Look at a lock."""
        return await self.call(
            "get_lock",
            {"name": name},
            lambda: self.client.lock_info(name),
            lambda info: {
                "holders": [
                    {"claimant": each.claimant, "token": each.token}
                    for each in info.holders
                ],
                "waiters": len(info.waiters),
            },
            is_write=False,
        )

    async def campaign(
        self, name: str, value: str, *, wait_s: float
    ) -> Ended[Leadership]:
        """Stand for an election."""
        claimant = self.fresh()
        asked: Fields = {
            "name": name,
            "claimant": claimant,
            "value": value,
            "wait_ms": to_ms(wait_s),
        }
        election = self.client.election(name)
        return await self.call(
            "campaign",
            asked,
            lambda: election.campaign(value, wait_s=wait_s, claimant=claimant),
            lambda won: {"epoch": won.epoch},
            more=_lease,
        )

    async def proclaim(self, leadership: Leadership, value: str) -> Ended[None]:
        """Change what observers see."""
        return await self.call(
            "proclaim",
            {"name": leadership.name, "epoch": leadership.epoch, "value": value},
            lambda: leadership.proclaim(value),
            _nothing,
        )

    async def resign(self, leadership: Leadership) -> Ended[None]:
        """Give leadership up; call it only for what is not lost."""
        return await self.call(
            "resign",
            {"name": leadership.name, "epoch": leadership.epoch},
            leadership.resign,
            _nothing,
        )

    async def election_info(self, name: str) -> Ended[ElectionInfo]:
        """Ask who leads."""
        return await self.call(
            "get_election",
            {"name": name},
            lambda: self.client.election_info(name),
            _leader,
            is_write=False,
        )


def _lease(note: Note) -> Fields:
    """Return the lease that the library named: the session's, unless told another."""
    if note.request is None:
        return {}
    kind = note.request.WhichOneof("body")
    assert kind is not None
    lease = fields_of(getattr(note.request, kind)).get("lease")
    return {} if lease is None else {"lease": lease}


def _leader(info: ElectionInfo) -> Fields:
    if info.leader is None:
        return {"epoch": 0, "claimant": "", "value": ""}
    return {
        "epoch": info.leader.epoch,
        "claimant": info.leader.claimant,
        "value": info.leader.value.decode(),
    }


def _nothing(_: None) -> Fields:
    return {}
