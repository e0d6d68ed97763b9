"""The leader's care for the members: changes asked for, promotions, what they show.

Only the leader acts. A few times in each election timeout it looks at the roster, at
who is in touch and at how far the learners are; what is due becomes one change at a
time. What operators ask for waits for the end of a change that is under way; a bounded
number may wait, and what is due goes out beside it.

Rules: in a leader's first election timeout nobody is told to be out of reach: it may
only not have been heard yet. A learner is promoted when it follows the log with less
than one election timeout of delay, its incarnation is bound, and a majority of the new
voters is in touch.

Source: RELIABILITY.md rules 12, 39-46 and 54.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from raftd.consensus.progress import ProgressState
from raftd.consensus.types import (
    ConfigChange,
    NodeId,
    RefusalReason,
    Refused,
    Role,
)
from raftd.node.hand_over import HandOver
from raftd.node.member_infos import info_of
from raftd.node.member_plans import news, plan, promotion
from raftd.node.member_sight import Shown, Sight
from raftd.node.member_words import (
    AddMember,
    MemberChange,
    MemberInfo,
    RemoveMember,
    ReplaceMember,
    UpdateMember,
)
from raftd.node.owned import Fail, own
from raftd.node.refusals import (
    DEADLINE_NOT_PROPOSED,
    DEADLINE_UNKNOWN,
    HANDING_OVER,
    LEADERSHIP_LOST,
    OVERLOADED,
    not_leader,
)
from raftd.node.replica import Replica
from raftd.node.roster import Roster
from raftd.node.settings import ReplicaSettings
from raftd.statemachine.schema.base import Reason, Refusal

__all__ = ["CHANGES_MAX", "Farewell", "Members", "PeerSight"]

_logger = logging.getLogger(__name__)

_LOOKS_PER_ELECTION: Final = 5

CHANGES_MAX: Final = 16
"""Changes asked for that wait or are under way; more is OVERLOADED."""

PENDING: Final = Refusal(
    Reason.PRECONDITION,
    "another change of the members is under way; wait for its end, then try again",
    {"applied": "no"},
)


class PeerSight(Protocol):
    """What the links know of the others."""

    def is_up(self, peer: NodeId) -> bool:
        """Tell whether messages to a peer would be sent."""

    def shown(self, peer: NodeId) -> Shown | None:
        """Return what a peer said of itself on the link that is up."""


class Farewell(Protocol):
    """Tells those who were removed, when it may be told."""

    @property
    def has_knocked(self) -> bool:
        """Whether one of them came, and could not be told yet."""

    def tell(self, removed: Sequence[int]) -> None:
        """Tell these from now on."""


class Members:
    """See the module's rules."""

    def __init__(
        self,
        replica: Replica,
        peers: PeerSight,
        own: Shown,
        settings: ReplicaSettings,
        *,
        farewell: Farewell,
        wake: Callable[[], None],
        changed: Callable[[], Awaitable[None]],
        fail: Fail,
    ) -> None:
        """Care for the members of a node that runs already.

        Args:
            replica: Proposes, and knows the roster.
            peers: Knows who is in touch.
            own: What this member would say of itself.
            settings: Times.
            farewell: Tells those who were removed.
            wake: Has the replica take a turn soon.
            changed: Waits until role, leader, term or members change.
            fail: Ends the node.
        """
        self._replica: Final = replica
        self._peers: Final = peers
        self._wake: Final = wake
        self._changed: Final = changed
        self._farewell: Final = farewell
        self._fail: Final = fail
        self._told: tuple[int, ...] = ()
        self._telling: tuple[tuple[int, ...], int] | None = None
        self._own: Final = own
        self._look_s: Final = settings.election_ms / 1000 / _LOOKS_PER_ELECTION
        self._meet_ticks: Final = settings.election_ms // settings.tick_ms
        self._lasts: Final[deque[int]] = deque(maxlen=_LOOKS_PER_ELECTION + 1)
        self._waiting = 0
        self._task: asyncio.Task[None] | None = None
        self.hand_over: Final = HandOver(
            replica,
            peers,
            sight=self.sight,
            wake=wake,
            pause=self._pause,
            meet=self._meet,
        )

    def start(self) -> None:
        """Begin to look."""
        self._task = own(
            self._look_again_and_again(), "the care for the members", self._fail
        )

    async def stop(self) -> None:
        """Stop looking; may be called twice, or before ``start``."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    @property
    def roster(self) -> Roster:
        """The members as of the last applied entry."""
        return self._replica.roster

    # --- looking --------------------------------------------------------------------

    async def _look_again_and_again(self) -> None:
        while True:
            self._look()
            try:
                async with asyncio.timeout(self._look_s):
                    await self._changed()
            except TimeoutError:
                continue
            await asyncio.sleep(0)  # what changed may change again in this turn

    def _look(self) -> None:
        """Propose what is due, one change at a time."""
        core = self._replica.core
        if not self._replica.may_propose or core.role is not Role.LEADER:
            self._lasts.clear()
            self._telling = None
            return
        self._lasts.append(core.last_index)
        self._tell_removed()
        if core.has_pending_change or core.transfer_target is not None:
            return
        sight = self.sight()
        change = news(self.roster, sight) or self._promotion(sight)
        if change is not None:
            self._propose(change)

    def _tell_removed(self) -> None:
        """Have the removed told, once a majority without them is sure to know.

        That is when an entry is committed which was appended after the removal was
        applied here: it came with a commit index beyond the removal. Until then the
        removed may be the only ones who know, and the others need their answers.
        """
        removed, core = self.roster.removed, self._replica.core
        if removed == self._told:
            return
        if self._telling is None or self._telling[0] != removed:
            self._telling = removed, core.last_index + 1
        index = self._telling[1]
        if core.commit_index >= index:
            self._told = removed
            self._farewell.tell(removed)
        elif core.last_index < index and self._farewell.has_knocked:
            self._propose(ConfigChange(()))

    def _promotion(self, sight: Sight) -> ConfigChange | None:
        for node_id in self.roster.membership.learners:
            if self._has_caught_up(node_id):
                change = promotion(self.roster, node_id, sight)
                if change is not None:
                    _logger.info("promote node=%d", node_id)
                    return change
        return None

    def _has_caught_up(self, node_id: NodeId) -> bool:
        """Tell whether a learner has what the log had one election timeout ago."""
        follower = self._replica.core.followers().get(node_id)
        if follower is None or follower.state is not ProgressState.REPLICATE:
            return False
        is_known = len(self._lasts) == self._lasts.maxlen
        return is_known and follower.match_index >= self._lasts[0]

    def sight(self) -> Sight:
        """Say who is in touch, and what they have shown."""
        core = self._replica.core
        own_id, followers = core.node_id, core.followers()
        live, shown = {int(own_id): None}, {int(own_id): self._own}
        for node_id in self.roster.membership.members:
            if node_id == own_id or not self._peers.is_up(node_id):
                continue
            told = self._peers.shown(node_id)
            if told is not None:
                shown[node_id] = told
            follower = followers.get(node_id)
            if follower is not None and follower.is_active:
                live[node_id] = None
        return Sight(frozenset(live), shown)

    def _propose(self, change: ConfigChange) -> Refusal | None:
        proposal = self._replica.core.change(change)
        self._wake()
        if isinstance(proposal, Refused):
            return _refusal_of(proposal)
        _logger.info(
            "member_change steps=%s",
            ",".join(f"{step.kind.name.lower()}:{step.node}" for step in change.steps),
        )
        return None

    # --- asked for ------------------------------------------------------------------

    async def change(
        self, wish: MemberChange, timeout_s: float
    ) -> MemberInfo | Refusal:
        """Change the members, as the leader; see ``NodeService.change_members``.

        A refusal of reason NOT_LEADER or NO_LEADER means that nothing happened.
        """
        is_proposed = False
        if self._waiting >= CHANGES_MAX:
            return OVERLOADED
        self._waiting += 1
        try:
            async with asyncio.timeout(timeout_s):
                await self._meet()
                if not await self._is_free(timeout_s / 2):
                    return PENDING
                planned = self._begin(wish)
                if isinstance(planned, Refusal):
                    return planned
                is_proposed = True
                return await self._effect(wish, planned, self._replica.core.term)
        except TimeoutError:
            return DEADLINE_UNKNOWN if is_proposed else DEADLINE_NOT_PROPOSED
        finally:
            self._waiting -= 1

    def _is_leading(self) -> bool:
        return self._replica.may_propose and self._replica.core.role is Role.LEADER

    async def _is_free(self, patience_s: float) -> bool:
        """Wait for the end of a change under way; False if that takes too long."""
        try:
            async with asyncio.timeout(patience_s):
                while self._is_busy() and self._is_leading():
                    await self._pause()
        except TimeoutError:
            return False
        return True

    async def _meet(self) -> None:
        """Wait for who is not in touch, while this leader has only just begun.

        It has heard of nobody then: who is silent has had no time to say anything.
        """
        core = self._replica.core
        while self._is_leading() and core.role_ticks < self._meet_ticks:
            if self.sight().live.issuperset(self.roster.membership.voters):
                return
            await self._pause()

    def _is_busy(self) -> bool:
        return self._replica.core.has_pending_change

    def _begin(self, wish: MemberChange) -> int | Refusal:
        """Propose it; returns the id of the member that it is about."""
        if not self._is_leading():
            return not_leader(self._replica.core.leader)
        planned = plan(self.roster, wish, self.sight())
        if isinstance(planned, Refusal):
            return planned
        change, node_id = planned
        return self._propose(change) or node_id

    async def _effect(
        self, wish: MemberChange, node_id: int, term: int
    ) -> MemberInfo | Refusal:
        """Wait until a change is in effect here, or that leadership was lost before."""
        before = self.roster.get(node_id)
        index = self._replica.core.last_index
        while not _is_in_effect(self.roster, wish, node_id):
            if not self._is_leading() or self._replica.core.term != term:
                return LEADERSHIP_LOST  # led again, it may be another's entry
            if self._replica.core.applied_index >= index and not self._is_busy():
                break
            await self._pause()
        if node_id in self.roster.removed and before is not None:
            return info_of(self.roster, node_id, before)
        return info_of(self.roster, node_id)

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._look_s):
                await self._changed()
        except TimeoutError:
            return


def _is_in_effect(roster: Roster, wish: MemberChange, node_id: int) -> bool:
    match wish:
        case AddMember() | ReplaceMember():
            return node_id in roster.membership.members
        case RemoveMember():
            return node_id in roster.removed
        case UpdateMember():
            record = roster.get(node_id)
            return record is not None and all(
                wanted in ("", is_now)
                for wanted, is_now in (
                    (wish.name, record.name),
                    (wish.peer_address, record.peer_address),
                    (wish.client_address, record.client_address),
                )
            )


def _refusal_of(refused: Refused) -> Refusal:
    match refused.reason:
        case RefusalReason.NOT_LEADER:
            return not_leader(refused.leader)
        case RefusalReason.TRANSFERRING:
            return HANDING_OVER
        case RefusalReason.TOO_MUCH_UNCOMMITTED:
            return OVERLOADED
        case RefusalReason.CHANGE_PENDING | RefusalReason.TERM_NOT_STARTED:
            return PENDING
        case _:
            sentence = refused.detail.rstrip(".") or refused.reason.value
            return Refusal(
                Reason.PRECONDITION,
                sentence[:1].lower() + sentence[1:],
                {"applied": "no"},
            )
