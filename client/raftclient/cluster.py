"""How the members of the cluster do.

Source: SEMANTICS.md section 7; proto/raftpb/v1/cluster.proto.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Final

import msgspec

from raftclient.members import Cluster, MemberKind, kind_from_wire
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


class MemberStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A member's own view of itself.

    A member of the first release does not tell what has a default here; None = not
    told.

    Attributes:
        lag: Entries behind the leader.
        trouble: Empty = healthy; else what is wrong.
        level: Grows with what releases can do together.
        snapshot_percent: How much of a snapshot it has sent; None = it sends none.
        snapshot_to: To whom; 0 = nobody.
        disk_free_bytes: Of the disk with its data directory.
        wall_ms: Its own clock when it answered, since 1970.
        loop_lag_max_us: The longest that its work was held up lately.
        last_contact_ms: Since it heard of the leader; of the leader itself 0.
        log_entries: In its log.
        is_disk_full: It takes no more entries for lack of room.
        config_pending: A change of the members is in progress.
        compared_age_ms: Since digests were last compared.
        limits: Of apply, by name; equal on all members.
        trouble_reason: The row of the error table, if the trouble is one.
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
    kind: MemberKind = MemberKind.VOTER
    level: int = 1
    snapshot_percent: int | None = None
    snapshot_to: int = 0
    disk_free_bytes: int | None = None
    disk_total_bytes: int | None = None
    wall_ms: int | None = None
    loop_lag_max_us: int | None = None
    last_contact_ms: int | None = None
    log_entries: int = 0
    is_disk_full: bool = False
    config_pending: bool = False
    compared_age_ms: int | None = None
    limits: dict[str, int] = {}
    cluster_name: str = ""
    trouble_reason: str = ""


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

    @property
    def cluster(self) -> Cluster:
        """The cluster as a whole: members, leadership, backup."""
        return Cluster(self._core)

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


_TRANSLATED: Final = frozenset({"role", "kind", "level", "limits"})
_MAY_BE_ABSENT: Final = frozenset(
    field.name
    for field in _Wire.DESCRIPTOR.fields
    if field.containing_oneof is not None
)
"""Declared optional: proto3 keeps each in a oneof of its own."""


def _member(found: cluster_pb2.MemberStatus) -> MemberStatus:
    told = {field.name for field, _ in found.ListFields()}
    fields: dict[str, Any] = {
        name: None if name in _MAY_BE_ABSENT - told else getattr(found, name)
        for name in MemberStatus.__struct_fields__
        if name not in _TRANSLATED
    }
    return MemberStatus(
        role=_ROLES.get(found.role, MemberRole.UNKNOWN),
        kind=kind_from_wire(found.kind),
        level=found.level or 1,
        limits=dict(found.limits),
        **fields,
    )
