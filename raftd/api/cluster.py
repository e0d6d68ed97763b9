"""The cluster at the doors: status.

Source: SEMANTICS.md section 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raftd.api.calls import Call, Direct
from raftd.api.limits import DoorLimits
from raftd.node.service import MemberState, NodeService
from raftpb.v1 import cluster_pb2

__all__ = ["ClusterCalls"]

# Fields of the same name and kind on both sides.
_PLAIN: Final = (
    "is_reachable",
    "term",
    "leader",
    "commit_index",
    "applied_index",
    "last_index",
    "first_index",
    "revision",
    "lag",
    "log_bytes",
    "state_bytes",
    "sync_p50_us",
    "sync_max_us",
    "version",
    "uptime_ms",
    "sessions",
    "keys",
    "checkpoint_index",
    "compared_index",
    "trouble",
)


class ClusterCalls:
    """The calls of ClusterService."""

    def __init__(self, limits: DoorLimits) -> None:
        self._limits: Final = limits

    def calls(self) -> Sequence[Call]:
        """Return the entries of the table."""
        return (Direct("get_status", _get_status),)


async def _get_status(
    node: NodeService,
    request: cluster_pb2.GetStatusRequest,
    timeout_s: float | None,
) -> cluster_pb2.GetStatusResponse:
    response = cluster_pb2.GetStatusResponse()
    for state in await node.status(is_for_all=request.all):
        _fill_member(response.members.add(), state)
    return response


def _fill_member(message: cluster_pb2.MemberStatus, state: MemberState) -> None:
    info = state.info
    message.node_id = info.node_id
    message.name = info.name
    message.peer_address = info.peer_address
    message.client_address = info.client_address
    message.role = _role(state.role)
    for name in _PLAIN:
        setattr(message, name, getattr(state, name))


def _role(role: str) -> cluster_pb2.MemberStatus.Role.ValueType:
    name = f"ROLE_{role.upper().replace('-', '_')}"
    try:
        return cluster_pb2.MemberStatus.Role.Value(name)
    except ValueError:
        return cluster_pb2.MemberStatus.ROLE_UNSPECIFIED
