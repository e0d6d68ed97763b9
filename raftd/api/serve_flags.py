"""What a new member's ``raftd serve`` must be told, as its cluster knows it.

Rules: only what the new machine cannot know: who it is, whom to ask, and the settings
that must be equal on all members where they are not the defaults. Its own addresses to
listen on and its data directory are its operator's.

Source: docs/ARCHITECTURE.md "Configuration" (a flag is a setting's name with dashes).
"""

from __future__ import annotations

import dataclasses

from raftd.api.limits import DEFAULT_DOOR_LIMITS, DoorLimits
from raftd.node.service import MemberInfo, NodeService

__all__ = ["serve_flags"]

_DEFAULT_CLUSTER = "raftd"


async def serve_flags(
    node: NodeService, member: MemberInfo, limits: DoorLimits
) -> list[str]:
    """Return flags and values, to be joined by spaces after ``raftd serve``."""
    (own,) = await node.status(is_for_all=False)
    seeds = [
        each.peer_address
        for each in node.members
        if each.node_id != member.node_id and not each.is_joining
    ]
    flags = ["--node-id", str(member.node_id), "--join", ",".join(seeds)]
    if own.cluster not in {"", _DEFAULT_CLUSTER}:
        flags += ["--cluster", own.cluster]
    for name, value in _differing(limits):
        flags += [f"--limits-{name.replace('_', '-')}", str(value)]
    return flags


def _differing(limits: DoorLimits) -> list[tuple[str, int]]:
    """Return the limits that are not as a member without settings has them."""
    apply, usual = limits.apply, DEFAULT_DOOR_LIMITS.apply
    found = [
        (field.name, getattr(apply, field.name))
        for field in dataclasses.fields(apply)
        if getattr(apply, field.name) != getattr(usual, field.name)
    ]
    if limits.request_bytes_max != DEFAULT_DOOR_LIMITS.request_bytes_max:
        found.append(("request_bytes_max", limits.request_bytes_max))
    return found
