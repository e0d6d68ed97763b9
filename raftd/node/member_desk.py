"""Takes what operators want of the cluster, on any member, and brings it to the leader.

Rules: what certainly was not done is tried again, wherever the leader is, until the
deadline; what may have been done is not.

Source: DESIGN.md section 7; SEMANTICS.md sections 0 and 7.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Final, Protocol

import msgspec

from raftd.consensus.types import NodeId
from raftd.node.errors import LinkDown, LinkLost
from raftd.node.member_sight import CHANGES_LEVEL
from raftd.node.member_words import MemberChange, MemberInfo
from raftd.node.members import Members
from raftd.node.peer_calls import (
    DeskCall,
    DeskTold,
    ForwardChange,
    ForwardTransfer,
    decode_reply,
    encode,
)
from raftd.node.ports import PeerPort
from raftd.node.refusals import DEADLINE_NOT_PROPOSED, LEADERSHIP_LOST
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.entry import decode_answer, encode_answer

__all__ = ["Desk", "DeskNews", "LevelPort"]

_RETRY_S: Final = 0.1
_GRACE_S: Final = 2.0
"""How long after its own deadline the leader may still answer."""

_NOT_DONE: Final = (Reason.NOT_LEADER, Reason.NO_LEADER)


class DeskNews(Protocol):
    """What the desk asks its node."""

    @property
    def node_id(self) -> int:
        """This member."""

    @property
    def leader(self) -> int:
        """Who leads; 0 if nobody is known to."""

    @property
    def may_lead(self) -> bool:
        """Whether this member may propose."""

    @property
    def trouble(self) -> Refusal | None:
        """Why this member takes no writes."""

    async def leader_changed(self) -> None:
        """Wait until role, leader or term change."""


class LevelPort(PeerPort, Protocol):
    """Links that know what the others' releases can do."""

    def level(self, peer: NodeId) -> int:
        """Return it; 0 while the link is down."""


class Desk:
    """See the module's rules."""

    def __init__(self, node: DeskNews, members: Members, peers: LevelPort) -> None:
        """Stand before a node.

        Args:
            node: Knows who leads.
            members: Carries out what is asked of the leader.
            peers: The links.
        """
        self._node: Final = node
        self._members: Final = members
        self._peers: Final = peers

    async def change_members(
        self, change: MemberChange, timeout_s: float
    ) -> MemberInfo | Refusal:
        """Change the members; see ``NodeService``."""
        told = await self._ask_leader(change, timeout_s)
        assert not isinstance(told, int), "a change is answered by a member"
        return told

    async def transfer_leadership(
        self, to: int | None, timeout_s: float
    ) -> int | Refusal:
        """Hand leadership over; see ``NodeService``."""
        told = await self._ask_leader(to, timeout_s)
        assert not isinstance(told, MemberInfo), "a hand-over is answered by a leader"
        return told

    async def answer(self, call: DeskCall) -> DeskTold:
        """Answer another member's desk, as the leader."""
        told: MemberInfo | int | Refusal
        left_s = call.timeout_ms / 1000
        match call:
            case ForwardChange():
                told = await self._members.change(call.change, left_s)
            case ForwardTransfer():
                told = await self._members.hand_over.transfer(call.to or None, left_s)
        if isinstance(told, Refusal):
            return DeskTold(refusal=encode_answer(told))
        if isinstance(told, int):
            return DeskTold(leader=told)
        return DeskTold(member=dataclasses.asdict(told))

    async def _ask_leader(
        self, wish: MemberChange | int | None, timeout_s: float
    ) -> MemberInfo | int | Refusal:
        """Ask whoever leads, again while it certainly was not done."""
        node = self._node
        end_s = time.monotonic() + timeout_s
        last: Refusal = DEADLINE_NOT_PROPOSED
        while (left_s := end_s - time.monotonic()) > 0:
            if node.trouble is not None:
                return node.trouble
            told: MemberInfo | int | Refusal | None = None
            if node.may_lead:
                told = await self._do(wish, left_s)
            elif node.leader not in (0, node.node_id):
                told = await self._forward(NodeId(node.leader), wish, left_s)
            if told is not None and not _is_not_done(told):
                return told
            if isinstance(told, Refusal):
                last = told
            await self._pause(min(_RETRY_S, left_s))
        return last

    async def _do(
        self, wish: MemberChange | int | None, timeout_s: float
    ) -> MemberInfo | int | Refusal:
        if wish is None or isinstance(wish, int):
            return await self._members.hand_over.transfer(wish, timeout_s)
        return await self._members.change(wish, timeout_s)

    async def _forward(
        self, leader: NodeId, wish: MemberChange | int | None, timeout_s: float
    ) -> MemberInfo | int | Refusal | None:
        """Have the leader do it; None if it certainly was not done."""
        level = self._peers.level(leader)
        if 0 < level < CHANGES_LEVEL:
            return Refusal(
                Reason.PRECONDITION,
                f"member {leader} leads, and its release knows no changes of members"
                " and no hand-over by command; upgrade it",
                {"applied": "no"},
            )
        timeout_ms = int(timeout_s * 1000)
        call: DeskCall
        if wish is None or isinstance(wish, int):
            call = ForwardTransfer(wish or 0, timeout_ms)
        else:
            call = ForwardChange(wish, timeout_ms)
        try:
            data = await self._peers.call(leader, encode(call), timeout_s + _GRACE_S)
        except LinkDown:
            return None
        except LinkLost:
            return LEADERSHIP_LOST
        told = decode_reply(data)
        assert isinstance(told, DeskTold), "a desk is answered by a desk"
        if told.refusal:
            refusal = decode_answer(told.refusal)
            assert isinstance(refusal, Refusal), "a refusal is told as one"
            return refusal
        if told.member:
            return msgspec.convert(told.member, MemberInfo)
        return told.leader

    async def _pause(self, for_s: float) -> None:
        try:
            async with asyncio.timeout(for_s):
                await self._node.leader_changed()
        except TimeoutError:
            return


def _is_not_done(told: MemberInfo | int | Refusal) -> bool:
    return isinstance(told, Refusal) and told.reason in _NOT_DONE
