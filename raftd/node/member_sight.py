"""What the leader sees of the members just now: who is in touch, and what they can do.

Source: RELIABILITY.md rules 43 and 54.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Final

from raftd.consensus.types import Membership
from raftd.node.roster import Roster

__all__ = ["CHANGES_LEVEL", "Shown", "Sight", "missing", "unready"]

CHANGES_LEVEL: Final = 2
"""From this level on a release knows entries that change the members."""


@dataclasses.dataclass(frozen=True, slots=True)
class Shown:
    """What a member has said of itself on the link that is up.

    Attributes:
        level: What its release can do.
        peer_address: Empty if it does not know; so ``client_address``.
    """

    incarnation: bytes
    level: int
    peer_address: str = ""
    client_address: str = ""
    name: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Sight:
    """Who is in touch with the leader just now.

    Attributes:
        live: Ids, the leader's own included.
        shown: What these have said of themselves.
    """

    live: frozenset[int]
    shown: Mapping[int, Shown]


def unready(roster: Roster, sight: Sight, leaving: Iterable[int] = ()) -> list[int]:
    """Return the members that may not know entries which change the members.

    Who leaves, or is being replaced, need not know them.
    """
    gone = (*leaving, *(record.replaces for record in roster.members))
    behind = []
    for node_id in roster.membership.members:
        record, shown = roster.get(node_id), sight.shown.get(node_id)
        level = max(record.level if record else 1, shown.level if shown else 1)
        # A learner that has shown nothing yet will get no entry before it has.
        is_awaited = record is not None and not record.incarnation
        if level < CHANGES_LEVEL and node_id not in gone and not is_awaited:
            behind.append(int(node_id))
    return behind


def missing(membership: Membership, sight: Sight) -> int:
    """Return how many live voters a majority lacks, in the worse half."""
    lacking = 0
    for half in (membership.voters, membership.outgoing):
        if half:
            live = sum(1 for node_id in half if node_id in sight.live)
            lacking = max(lacking, len(half) // 2 + 1 - live)
    return lacking
