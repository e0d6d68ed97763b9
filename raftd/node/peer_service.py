"""Answers what other members ask of this one, and asks them how they do.

Rules: what a peer forwards and nobody here can read is refused, not a reason to hang up
on it; so is what is beyond a bound of forwarded calls that wait for their answers.

Source: ``peer_calls``.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, assert_never

import msgspec

from raftd.consensus.types import NodeId
from raftd.node.errors import LinkError
from raftd.node.member_desk import Desk
from raftd.node.node import Node
from raftd.node.peer_calls import (
    AskMark,
    AskStatus,
    FinishSnapshot,
    ForwardChange,
    Forwarded,
    ForwardKeepAlive,
    ForwardTransfer,
    ForwardWrite,
    Noted,
    OfferSnapshot,
    PeerReply,
    Renewed,
    SendChunks,
    SnapshotCall,
    SnapshotTold,
    StatusTold,
    TellDigest,
    decode_call,
    decode_reply,
    encode,
)
from raftd.node.ports import PeerPort
from raftd.node.refusals import (
    DEADLINE_UNKNOWN,
    NOT_APPLIED,
    OVERLOADED,
    UNREADABLE,
    not_leader,
)
from raftd.node.service import Answered, MemberInfo, MemberState, WriteCall
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.entry import Request, encode_answer
from raftd.storage.errors import BAD_BYTES

__all__ = ["FORWARDED_CALLS_MAX", "PeerService"]

_logger = logging.getLogger(__name__)

FORWARDED_CALLS_MAX: Final = 32_768
"""Calls of one peer that wait here for their answers; more is OVERLOADED."""

_STATUS_S: Final = 1.0

_request_decoder: Final = msgspec.msgpack.Decoder(Request)


class PeerService:
    """The member-to-member side of a node."""

    def __init__(
        self,
        node: Node,
        peers: PeerPort,
        *,
        own_state: Callable[[], MemberState],
        take_digest: Callable[[int, int, bytes], None],
        take_snapshot: Callable[[NodeId, SnapshotCall], Awaitable[SnapshotTold]],
    ) -> None:
        """Serve a node.

        Args:
            node: Carries out what is forwarded.
            peers: The links.
            own_state: Says how this member does.
            take_digest: Given (member, index, digest).
            take_snapshot: Given (member, call); see ``snapshots_in``.
        """
        self._node: Final = node
        self._peers: Final = peers
        self._own_state: Final = own_state
        self._take_digest: Final = take_digest
        self._take_snapshot: Final = take_snapshot
        self._told: Final[dict[asyncio.Task[None], None]] = {}
        self._forwarded: Final[dict[NodeId, int]] = {}
        self.desk: Desk | None = None
        peers.serve(self.answer)

    async def answer(self, peer: NodeId, body: bytes) -> bytes:
        """Answer one call of a peer."""
        call = decode_call(body)
        reply: PeerReply
        match call:
            case ForwardWrite() | ForwardKeepAlive():
                reply = await self._forwarded_call(peer, call)
            case AskStatus():
                reply = StatusTold(_to_map(self._own_state()))
            case TellDigest():
                self._take_digest(peer, call.index, call.digest)
                reply = Noted()
            case AskMark():
                self._node.mark_beyond(call.index)
                reply = Noted()
            case ForwardChange() | ForwardTransfer():
                assert self.desk is not None, "the composition root sets it"
                reply = await self.desk.answer(call)
            case OfferSnapshot() | SendChunks() | FinishSnapshot():
                reply = await self._take_snapshot(peer, call)
            case _:
                assert_never(call)
        return encode(reply)

    async def _forwarded_call(
        self, peer: NodeId, call: ForwardWrite | ForwardKeepAlive
    ) -> Forwarded | Renewed:
        """Carry out what came in on a peer, within a bound for each."""
        count = self._forwarded.get(peer, 0)
        if count >= FORWARDED_CALLS_MAX:
            refusal = encode_answer(OVERLOADED)
            if isinstance(call, ForwardKeepAlive):
                return Renewed(0, refusal)
            return Forwarded(refusal, self._node.machine.revision)
        self._forwarded[peer] = count + 1
        try:
            if isinstance(call, ForwardKeepAlive):
                return await self._keep_alive(call)
            answered = self._refused(call) or await self._write(peer, call)
            return Forwarded(encode_answer(answered.answer), answered.revision)
        finally:
            self._forwarded[peer] -= 1

    async def _write(self, peer: NodeId, call: ForwardWrite) -> Answered:
        node = self._node
        try:
            request = _request_decoder.decode(call.request)
        except BAD_BYTES as error:
            _logger.info("forwarded_unreadable peer=%d reason=%s", peer, error)
            return Answered(UNREADABLE, node.machine.revision)
        write = WriteCall(
            command=request.command,
            session=request.session,
            number=request.number,
            wait_ms=call.wait_ms,
        )
        left_s = None if call.timeout_ms is None else call.timeout_ms / 1000
        try:
            async with asyncio.timeout(left_s):
                return await node.writes.answer_of(write, msgspec.Raw(call.request))
        except TimeoutError:
            return Answered(DEADLINE_UNKNOWN, node.machine.revision)

    def _refused(self, call: ForwardWrite) -> Answered | None:
        node = self._node
        revision = node.machine.revision
        if node.trouble is not None:
            return Answered(node.trouble, revision)
        if not node.may_lead:
            return Answered(not_leader(node.leader), revision)
        denied = node.check_key(call.session, call.key_hash)
        return Answered(denied, revision) if denied is not None else None

    async def _keep_alive(self, call: ForwardKeepAlive) -> Renewed:
        told: int | Refusal | None = None
        if self._node.may_lead:
            told = await self._node.writes.renew_here(call.lease, call.key_hash)
        if isinstance(told, int):
            return Renewed(told, b"")
        return Renewed(0, encode_answer(told or NOT_APPLIED))

    # --- asking --------------------------------------------------------------------

    def tell_digest(self, index: int, digest: bytes) -> None:
        """Tell all others this member's digest at a mark."""
        for member in self._node.members:
            if member.node_id != self._node.node_id:
                task = asyncio.create_task(
                    self._tell(NodeId(member.node_id), TellDigest(index, digest))
                )
                self._told[task] = None
                task.add_done_callback(lambda done: self._told.pop(done, None))

    async def _tell(self, peer: NodeId, call: TellDigest) -> None:
        for _ in range(10):
            try:
                await self._peers.call(peer, encode(call), 5.0)
            except LinkError:
                await asyncio.sleep(1.0)
            else:
                return

    async def status(self, *, is_for_all: bool) -> Sequence[MemberState]:
        """Say how this member, or each member, does."""
        own = self._own_state()
        if not is_for_all:
            return [own]
        others = [m for m in self._node.members if m.node_id != self._node.node_id]
        told = await asyncio.gather(*(self._ask(member) for member in others))
        states = sorted([own, *told], key=lambda state: state.info.node_id)
        last = max(state.last_index for state in states)
        return [
            dataclasses.replace(state, lag=max(0, last - state.applied_index))
            if state.is_reachable
            else state
            for state in states
        ]

    async def _ask(self, member: MemberInfo) -> MemberState:
        try:
            reply = decode_reply(
                await self._peers.call(
                    NodeId(member.node_id), encode(AskStatus()), _STATUS_S
                )
            )
        except LinkError:
            return MemberState(info=member, trouble="unreachable")
        assert isinstance(reply, StatusTold), "a status is answered by a status"
        fields = dict(reply.state)
        return msgspec.convert({**fields, "info": _member_map(member)}, MemberState)

    async def stop(self) -> None:
        """Stop telling."""
        for task in list(self._told):
            task.cancel()


def _to_map(state: MemberState) -> dict[str, int | str | bool]:
    return {
        field.name: getattr(state, field.name)
        for field in dataclasses.fields(state)
        if field.name != "info"
    }


def _member_map(member: MemberInfo) -> dict[str, int | str]:
    """Return a member's fields by name."""
    return dataclasses.asdict(member)
