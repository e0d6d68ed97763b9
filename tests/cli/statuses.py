"""Statuses of a healthy cluster, to be spoilt by tests."""

from __future__ import annotations

from typing import Any

import msgspec

from raftclient import ClusterStatus, MemberKind, MemberRole, MemberStatus

__all__ = ["GIB", "MIB", "cluster_of", "down", "learner", "member"]

MIB = 1 << 20
GIB = 1 << 30


def member(node_id: int, **told: Any) -> MemberStatus:
    """Return a member that is well; the first leads."""
    leads = node_id == 1
    usual: dict[str, Any] = {
        "node_id": node_id,
        "name": f"n{node_id}",
        "peer_address": f"h{node_id}:7401",
        "client_address": f"h{node_id}:7400",
        "is_reachable": True,
        "role": MemberRole.LEADER if leads else MemberRole.FOLLOWER,
        "term": 4,
        "leader": 1,
        "commit_index": 100_000,
        "applied_index": 100_000,
        "last_index": 100_000,
        "first_index": 90_000,
        "revision": 99_000,
        "lag": 0,
        "log_bytes": 80 * MIB,
        "state_bytes": 300 * MIB,
        "sync_p50_us": 800,
        "sync_max_us": 12_000,
        "version": "0.2.0",
        "uptime_ms": 3_600_000,
        "sessions": 5,
        "keys": 1000,
        "checkpoint_index": 99_000,
        "compared_index": 99_000,
        "trouble": "",
        "level": 2,
        "disk_free_bytes": 60 * GIB,
        "disk_total_bytes": 100 * GIB,
        "wall_ms": 1_795_000_000_000 + 300 * node_id,
        "loop_lag_max_us": 2000,
        "last_contact_ms": 0 if leads else 80,
        "log_entries": 10_001,
        "compared_age_ms": 30_000,
        "limits": {"key_bytes_max": 1024, "value_bytes_max": MIB},
        "cluster_name": "shop",
    }
    return MemberStatus(**usual | told)


def learner(node_id: int, **told: Any) -> MemberStatus:
    """Return a learner that has caught up."""
    return member(node_id, role=MemberRole.LEARNER, kind=MemberKind.LEARNER, **told)


def cluster_of(*members: MemberStatus, leader: int = 1) -> ClusterStatus:
    """Return what the first member tells of all."""
    return ClusterStatus(
        cluster_id="c" * 32,
        leader=leader,
        node_id=members[0].node_id,
        raft_term=4,
        revision=99_000,
        members=members,
    )


def down(node_id: int, **told: Any) -> MemberStatus:
    """Return a member that does not answer, as another tells it."""
    is_silent: dict[str, Any] = {"is_reachable": False, "trouble": "unreachable"}
    blank = {
        name: type(value)()
        for name, value in msgspec.structs.asdict(member(node_id)).items()
        if isinstance(value, int) and not isinstance(value, bool) and name != "node_id"
    }
    nothing = dict.fromkeys(
        ("disk_free_bytes", "disk_total_bytes", "wall_ms", "loop_lag_max_us")
    )
    unknown = {"role": MemberRole.UNKNOWN, "version": "", "limits": {}}
    return member(node_id, **{**blank, **nothing, **unknown, **is_silent, **told})
