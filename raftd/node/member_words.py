"""What is said about members between a node and its doors, and among nodes.

Rules: a change is what an operator asks for, not yet what the log says; it is sent to
the leader as it is, so its tags and fields are part of the peers' protocol. The names
of ``MemberState``'s fields are too: members tell each other theirs as a map.

Source: SEMANTICS.md section 7; RELIABILITY.md rules 39-46.
"""

from __future__ import annotations

import dataclasses

import msgspec

__all__ = [
    "AddMember",
    "MemberChange",
    "MemberInfo",
    "MemberState",
    "RemoveMember",
    "ReplaceMember",
    "UpdateMember",
]


class _Change(msgspec.Struct, frozen=True, array_like=True, tag_field="tag", gc=False):
    """A change of the members, as an operator asks for it."""


class AddMember(_Change, frozen=True, tag=1):
    """Add a member: a learner, which becomes a voter by itself when it has caught up.

    Attributes:
        name: Not used by another member.
        peer_address: ``host:port`` where it will listen for members.
        client_address: The same for clients; empty: the node tells it when it comes.
        node_id: 0 = the next free one; one that was ever used is refused.
        is_forced: Even if a majority would not be live.
    """

    name: str
    peer_address: str
    client_address: str = ""
    node_id: int = 0
    is_forced: bool = False


class RemoveMember(_Change, frozen=True, tag=2):
    """Remove a member for ever, the leader too."""

    node_id: int
    is_forced: bool = False


class ReplaceMember(_Change, frozen=True, tag=3):
    """Add a learner that takes a member's place, in one change, when it has caught up.

    Attributes:
        node_id: Whom to replace.
        name: Of the new one; may be the old one's, as may the addresses.
        new_id: 0 = the next free one.
    """

    node_id: int
    name: str
    peer_address: str
    client_address: str = ""
    new_id: int = 0
    is_forced: bool = False


class UpdateMember(_Change, frozen=True, tag=4):
    """Change a member's name or addresses; what is empty stays as it is."""

    node_id: int
    name: str = ""
    peer_address: str = ""
    client_address: str = ""


MemberChange = AddMember | RemoveMember | ReplaceMember | UpdateMember


@dataclasses.dataclass(frozen=True, slots=True)
class MemberInfo:
    """A member.

    Attributes:
        kind: "voter", "learner", "outgoing" (until a joint change is over), "removed".
        is_joining: A learner that has not shown its data yet, or is catching up.
        replaces: Whom it will replace when it has caught up; 0 = nobody.
    """

    node_id: int
    name: str
    peer_address: str
    client_address: str
    kind: str = "voter"
    is_joining: bool = False
    replaces: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MemberState:
    """A member's own view of itself; the fields of MemberStatus.

    Attributes:
        kind: See ``MemberInfo``.
        level: What its release can do; see ``roster.LEVEL``.
        snapshot_percent: Sent of the snapshot under way, -1 if none.
        snapshot_to: Whom it is sent to; 0 = nobody.
        disk_free_bytes: Of the file system of its data directory.
        wall_ms: Its own clock.
        loop_lag_max_us: Longest wait of the loop for its turn, of late.
        last_contact_ms: Since it heard the leader; 0 on the leader.
        log_entries: That the log holds.
        is_disk_full: Whether it refuses writes for lack of room.
        config_pending: Whether a change of the members is under way.
        compared_at_ms: Age of the last comparison of digests, -1 if there was none.
        cluster: Its name.
        trouble_reason: The row of the error table, if the trouble is one.
        limits: Of apply, as ``name=value``, apart by spaces.
    """

    info: MemberInfo
    is_reachable: bool = False
    role: str = ""
    term: int = 0
    leader: int = 0
    commit_index: int = 0
    applied_index: int = 0
    last_index: int = 0
    first_index: int = 0
    revision: int = 0
    lag: int = 0
    log_bytes: int = 0
    state_bytes: int = 0
    sync_p50_us: int = 0
    sync_max_us: int = 0
    version: str = ""
    uptime_ms: int = 0
    sessions: int = 0
    keys: int = 0
    checkpoint_index: int = 0
    compared_index: int = 0
    trouble: str = ""
    kind: str = ""
    level: int = 1
    snapshot_percent: int = -1
    snapshot_to: int = 0
    disk_free_bytes: int = 0
    disk_total_bytes: int = 0
    wall_ms: int = 0
    loop_lag_max_us: int = 0
    last_contact_ms: int = 0
    log_entries: int = 0
    is_disk_full: bool = False
    config_pending: bool = False
    compared_at_ms: int = -1
    cluster: str = ""
    limits: str = ""
    trouble_reason: str = ""
