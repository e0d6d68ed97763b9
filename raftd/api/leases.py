"""Leases at the doors.

Source: SEMANTICS.md section 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raftd.api.calls import Call, Direct, Query, Read, Write
from raftd.api.checks import check_id, check_text, invalid, page_items
from raftd.api.limits import DoorLimits
from raftd.node.service import NodeService
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.leases import (
    GrantLease,
    LeaseGranted,
    LeaseRevoked,
    RevokeLease,
)
from raftd.statemachine.tables import Rank
from raftpb.v1 import leases_pb2

__all__ = ["LeaseCalls", "check_ttl"]


class LeaseCalls:
    """The calls of LeaseService."""

    def __init__(self, limits: DoorLimits) -> None:
        self._limits: Final = limits

    def calls(self) -> Sequence[Call]:
        """Return the entries of the table."""
        return (
            Write("grant_lease", self._grant, _fill_granted),
            Write("revoke_lease", self._revoke, _fill_revoked),
            Direct("keep_alive_lease", _keep_alive),
            Read("get_lease", self._get),
            Read("list_leases", self._list),
        )

    def _grant(
        self, request: leases_pb2.GrantLeaseRequest, session: int
    ) -> GrantLease | Refusal:
        ttl_ms, claimant = request.ttl_ms, request.claimant
        return (
            check_ttl(ttl_ms, self._limits)
            or check_text("the claimant", claimant, self._limits)
            or GrantLease(ttl_ms, claimant)
        )

    def _revoke(
        self, request: leases_pb2.RevokeLeaseRequest, session: int
    ) -> RevokeLease | Refusal:
        lease = request.lease_id
        return check_id("lease id", lease) or RevokeLease(lease)

    def _get(self, request: leases_pb2.GetLeaseRequest) -> Query | Refusal:
        lease = request.lease_id
        refusal = check_id("lease id", lease)
        if refusal is not None:
            return refusal

        def query(machine: Machine) -> leases_pb2.GetLeaseResponse | Refusal:
            response = leases_pb2.GetLeaseResponse()
            if _fill_lease(response.lease, machine, lease):
                _fill_attachments(response.lease, machine)
                return response
            return Refusal(
                Reason.NOT_FOUND,
                f"there is no live lease {lease}",
                {"lease": f"{lease}"},
            )

        return query

    def _list(self, request: leases_pb2.ListLeasesRequest) -> Query:
        after = request.after_lease_id
        limit = page_items(request.limit, self._limits)

        def query(machine: Machine) -> leases_pb2.ListLeasesResponse:
            response = leases_pb2.ListLeasesResponse()
            found = machine.leases.ids(after, limit + 1)
            for lease in found[:limit]:
                _fill_lease(response.leases.add(), machine, lease)
            response.more = len(found) > limit
            return response

        return query


def check_ttl(ttl_ms: int, limits: DoorLimits) -> Refusal | None:
    """Refuse a ttl out of range."""
    least, most = limits.apply.ttl_ms_min, limits.apply.ttl_ms_max
    if least <= ttl_ms <= most:
        return None
    return invalid(
        f"a ttl of {ttl_ms} ms is not within {least} to {most} ms",
        limit=str(most),
        size=str(ttl_ms),
    )


async def _keep_alive(
    node: NodeService,
    request: leases_pb2.KeepAliveLeaseRequest,
    timeout_s: float | None,
) -> leases_pb2.KeepAliveLeaseResponse | Refusal:
    refusal = check_id("lease id", request.lease_id)
    if refusal is not None:
        return refusal
    ttl_ms = await node.keep_alive(request.lease_id, request.session_key)
    if isinstance(ttl_ms, Refusal):
        return ttl_ms
    return leases_pb2.KeepAliveLeaseResponse(ttl_ms=ttl_ms)


def _fill_granted(
    response: leases_pb2.GrantLeaseResponse, result: LeaseGranted, machine: Machine
) -> None:
    response.lease_id = result.lease
    response.ttl_ms = result.ttl_ms


def _fill_revoked(
    response: leases_pb2.RevokeLeaseResponse, result: LeaseRevoked, machine: Machine
) -> None:
    response.attachments = result.attachments


def _fill_lease(message: leases_pb2.Lease, machine: Machine, lease: int) -> bool:
    view = machine.leases.view(lease)
    if view is None:
        return False
    message.lease_id = view.lease
    message.ttl_ms = view.ttl_ms
    message.remaining_ms = view.remaining_ms
    message.claimant = view.claimant
    message.is_session = view.is_session
    message.attachments = view.attachments
    return True


def _fill_attachments(message: leases_pb2.Lease, machine: Machine) -> None:
    locks, elections = machine.modules.locks, machine.modules.elections
    for rank, key in machine.leases.attachments(message.lease_id):
        match rank, key:
            case Rank.KV, bytes():
                message.keys.append(key)
            case Rank.LOCKS, int():
                message.locks.append(locks.name_of(key) or "")
            case Rank.ELECTIONS, int():
                message.elections.append(elections.name_of(key) or "")
            case Rank.QUEUES, int():
                message.jobs.append(key)
            case _:
                raise AssertionError(f"nothing of rank {rank} hangs on a lease")
