"""The cluster at the doors: status.

Source: SEMANTICS.md section 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raftd.api.calls import Call, Direct
from raftd.api.limits import DoorLimits
from raftd.api.members import kind_of
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
    "level",
    "snapshot_to",
    "log_entries",
    "is_disk_full",
    "config_pending",
    "trouble_reason",
)

_LEVEL_OF_ALL: Final = 2
"""From which a member tells everything; below it a 0 may mean "not told"."""


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
    message.kind = kind_of(state.kind or info.kind)
    message.role = _role(state.role)
    for name in _PLAIN:
        setattr(message, name, getattr(state, name))
    _fill_told(message, state)


def _fill_told(message: cluster_pb2.MemberStatus, state: MemberState) -> None:
    """Fill what may be unknown; a field that stays absent says so."""
    message.cluster_name = state.cluster
    for pair in state.limits.split():
        name, _, value = pair.partition("=")
        message.limits[name] = int(value)
    if state.snapshot_percent >= 0:
        message.snapshot_percent = state.snapshot_percent
    if state.disk_total_bytes:
        message.disk_free_bytes = state.disk_free_bytes
        message.disk_total_bytes = state.disk_total_bytes
    if state.wall_ms:
        message.wall_ms = state.wall_ms
    if state.compared_at_ms >= 0:
        message.compared_age_ms = state.compared_at_ms
    if state.is_reachable and state.level >= _LEVEL_OF_ALL:
        message.loop_lag_max_us = state.loop_lag_max_us
        message.last_contact_ms = state.last_contact_ms


def _role(role: str) -> cluster_pb2.MemberStatus.Role.ValueType:
    name = f"ROLE_{role.upper().replace('-', '_')}"
    try:
        return cluster_pb2.MemberStatus.Role.Value(name)
    except ValueError:
        return cluster_pb2.MemberStatus.ROLE_UNSPECIFIED
