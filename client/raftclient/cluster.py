"""The members of the cluster, and how they do.

Source: SEMANTICS.md section 7; proto/raftpb/v1/cluster.proto.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

import msgspec

from raftpb.v1 import cluster_pb2

if TYPE_CHECKING:
    from raftclient._core import Core

__all__ = ["ClusterCalls", "ClusterStatus", "MemberRole", "MemberStatus"]


class MemberRole(enum.StrEnum):
    """What a member is to Raft."""

    UNKNOWN = "unknown"
    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"
    LEARNER = "learner"


_Wire = cluster_pb2.MemberStatus
_ROLES: Final = {
    _Wire.ROLE_FOLLOWER: MemberRole.FOLLOWER,
    _Wire.ROLE_PRE_CANDIDATE: MemberRole.PRE_CANDIDATE,
    _Wire.ROLE_CANDIDATE: MemberRole.CANDIDATE,
    _Wire.ROLE_LEADER: MemberRole.LEADER,
    _Wire.ROLE_LEARNER: MemberRole.LEARNER,
}


class MemberStatus(msgspec.Struct, frozen=True):
    """A member's own view of itself.

    Attributes:
        lag: Entries behind the leader.
        trouble: Empty = healthy; else what is wrong.
    """

    node_id: int
    name: str
    peer_address: str
    client_address: str
    is_reachable: bool
    role: MemberRole
    term: int
    leader: int
    commit_index: int
    applied_index: int
    last_index: int
    first_index: int
    revision: int
    lag: int
    log_bytes: int
    state_bytes: int
    sync_p50_us: int
    sync_max_us: int
    version: str
    uptime_ms: int
    sessions: int
    keys: int
    checkpoint_index: int
    compared_index: int
    trouble: str


class ClusterStatus(msgspec.Struct, frozen=True):
    """All members, as the one that answered sees them.

    Attributes:
        cluster_id: The same 32 hexadecimal digits on every member.
        leader: Node id; 0 = none known.
        node_id: Who answered.
    """

    cluster_id: str
    leader: int
    node_id: int
    raft_term: int
    revision: int
    members: tuple[MemberStatus, ...]


class ClusterCalls:
    """The calls about the cluster."""

    _core: Core

    async def status(self, *, timeout_s: float | None = None) -> ClusterStatus:
        """Ask any member how all of them do.

        Raises:
            Unavailable: No member could be reached in time.
        """
        request = cluster_pb2.GetStatusRequest(all=True)
        answer = await self._core.unary(request, timeout_s)
        header = answer.header
        return ClusterStatus(
            cluster_id=header.cluster_id.hex(),
            leader=header.leader,
            node_id=header.node_id,
            raft_term=header.raft_term,
            revision=header.revision,
            members=tuple(_member(found) for found in answer.members),
        )


_PLAIN_FIELDS: Final = tuple(
    name for name in MemberStatus.__struct_fields__ if name != "role"
)


def _member(found: cluster_pb2.MemberStatus) -> MemberStatus:
    fields = {name: getattr(found, name) for name in _PLAIN_FIELDS}
    return MemberStatus(role=_ROLES.get(found.role, MemberRole.UNKNOWN), **fields)
