"""The members as the doors want them: each record with its part in the cluster."""

from __future__ import annotations

from collections.abc import Iterable

from raftd.node.member_words import MemberInfo
from raftd.node.roster import MemberRecord, Roster

__all__ = ["addresses_of", "info_of", "infos_of"]


def addresses_of(members: Iterable[MemberInfo]) -> tuple[tuple[int, str, str], ...]:
    """Say what clients are told of the members: who they are, and where."""
    return tuple((each.node_id, each.name, each.client_address) for each in members)


def infos_of(roster: Roster) -> tuple[MemberInfo, ...]:
    """Say who is a member, as the doors want it."""
    return tuple(info_of(roster, node_id) for node_id in roster.membership.members)


def info_of(
    roster: Roster, node_id: int, record: MemberRecord | None = None
) -> MemberInfo:
    """Say what is known of one member.

    Args:
        roster: Says what it is now.
        node_id: Of the member.
        record: Of one that has none any more, as it was.
    """
    record, kind = roster.get(node_id) or record, roster.kind_of(node_id)
    is_joining = kind == "learner"
    if record is None:
        return MemberInfo(node_id, f"n{node_id}", "", "", kind, is_joining)
    return MemberInfo(
        node_id,
        record.name,
        record.peer_address,
        record.client_address,
        kind,
        is_joining,
        record.replaces,
    )
