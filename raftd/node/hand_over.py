"""Leadership handed to another on purpose: to whom, and whether it came about.

Only the leader acts. It waits until the other leads, so that whoever asked knows.

Source: RELIABILITY.md rule 12; SEMANTICS.md section 7.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from raftd.consensus.core import Core
from raftd.consensus.types import NodeId, Role
from raftd.node.member_sight import Sight
from raftd.node.refusals import (
    DEADLINE_NOT_PROPOSED,
    DEADLINE_UNKNOWN,
    HANDING_OVER,
    not_leader,
)
from raftd.node.replica import Replica
from raftd.statemachine.schema.base import Reason, Refusal

__all__ = ["HandOver", "UpPort", "best_voter"]

_logger = logging.getLogger(__name__)


def best_voter(core: Core, is_in_touch: Callable[[NodeId], bool]) -> NodeId | None:
    """Choose who is to lead after this leader: of the voters in touch, the furthest.

    Args:
        core: Of the leader.
        is_in_touch: Tells who counts as a candidate.
    """
    matches = {
        peer: match
        for peer, match in core.match_indexes().items()
        if peer != core.node_id and peer in core.membership.voters and is_in_touch(peer)
    }
    return max(matches, key=lambda peer: matches[peer], default=None)


class UpPort(Protocol):
    """What is known of links here."""

    def is_up(self, peer: NodeId) -> bool:
        """Tell whether messages to a peer would be sent."""


class HandOver:
    """See the module's rules."""

    def __init__(
        self,
        replica: Replica,
        peers: UpPort,
        *,
        sight: Callable[[], Sight],
        wake: Callable[[], None],
        pause: Callable[[], Awaitable[None]],
        meet: Callable[[], Awaitable[None]],
    ) -> None:
        """Hand over from a replica.

        Args:
            replica: Leads, or does not.
            peers: Knows whose link is up.
            sight: Says who is in touch.
            wake: Has the replica take a turn soon.
            pause: Waits for a change, or a moment.
            meet: Lets a new leader hear of the others.
        """
        self._replica: Final = replica
        self._peers: Final = peers
        self._sight: Final = sight
        self._wake: Final = wake
        self._pause: Final = pause
        self._meet: Final = meet

    async def transfer(self, to: int | None, timeout_s: float) -> int | Refusal:
        """Hand leadership over, as the leader, and wait until the other leads."""
        own_id = self._replica.core.node_id
        is_begun = False
        try:
            async with asyncio.timeout(timeout_s):
                if to != own_id:
                    await self._meet()
                target = self._begin(to)
                if isinstance(target, Refusal) or target == own_id:
                    return target
                is_begun = True
                return await self._taken_over(target)
        except TimeoutError:
            return DEADLINE_UNKNOWN if is_begun else DEADLINE_NOT_PROPOSED

    def _begin(self, to: int | None) -> int | Refusal:
        """Ask another to take over; returns who, or this leader if it need not be."""
        core = self._replica.core
        if not self._replica.may_propose or core.role is not Role.LEADER:
            return not_leader(core.leader)
        target = self._heir() if to is None else to
        if target == core.node_id:
            return target
        refusal = self._check_target(target)
        if refusal is not None:
            return refusal
        if not core.transfer(NodeId(target)):
            return HANDING_OVER
        _logger.info("transfer to=%d", target)
        self._wake()
        return target

    def _heir(self) -> int:
        """Return who leads best; 0 if there is nobody."""
        live = self._sight().live
        return best_voter(self._replica.core, lambda peer: peer in live) or 0

    def _check_target(self, target: int) -> Refusal | None:
        kind = self._replica.roster.kind_of(target)
        if not target:
            sentence = "no other voter is in touch that could lead"
        elif kind == "learner":
            sentence = f"member {target} is a learner; only a voter can lead"
        elif kind != "voter":
            return Refusal(Reason.NOT_FOUND, f"there is no voter {target}")
        elif not self._peers.is_up(NodeId(target)):
            sentence = f"member {target} cannot be reached by the leader"
        else:
            return None
        return Refusal(Reason.PRECONDITION, sentence, {"applied": "no"})

    async def _taken_over(self, target: int) -> int | Refusal:
        core = self._replica.core
        while core.leader != target:
            if core.role is Role.LEADER and core.transfer_target is None:
                return Refusal(
                    Reason.PRECONDITION,
                    f"member {target} did not take over in time; member {core.node_id}"
                    " still leads",
                )
            if core.role is not Role.LEADER and core.leader not in (None, target):
                return Refusal(
                    Reason.PRECONDITION,
                    f"member {core.leader} took over in the place of member {target}",
                )
            await self._pause()
        return target
