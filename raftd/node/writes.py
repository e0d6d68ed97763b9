"""Writes and renewals of one member: carried out here, or through the leader.

Rules: a write that was never proposed is tried again until its deadline, wherever the
leader is; one that may have been proposed is tried again only under its number.

Source: DESIGN.md section 7; SEMANTICS.md section 0.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from raftd.consensus.types import NodeId
from raftd.node.driver import Driver
from raftd.node.errors import LinkDown, LinkLost
from raftd.node.future_sink import FutureSink
from raftd.node.peer_calls import (
    Forwarded,
    ForwardKeepAlive,
    ForwardWrite,
    Renewed,
    decode_reply,
    encode,
)
from raftd.node.ports import PeerPort
from raftd.node.refusals import (
    DEADLINE_NOT_PROPOSED,
    DEADLINE_UNKNOWN,
    LEADERSHIP_LOST,
)
from raftd.node.reserves import Reserves
from raftd.node.service import Answered, AnswerSink, WriteCall
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.entry import decode_answer, seal
from raftd.statemachine.schema.jobs import ReserveJobs

__all__ = ["LeaderNews", "Writes", "hash_key"]

_NEVER_PROPOSED: Final = frozenset(
    {Reason.NOT_LEADER, Reason.NO_LEADER, Reason.OVERLOADED}
)
_RETRY_S: Final = 0.02
_FORWARD_S_MAX: Final = 86_400.0


def hash_key(session_key: bytes) -> bytes:
    """Hash a session's key, as it is stored."""
    return hashlib.blake2b(session_key, digest_size=16).digest()


class LeaderNews(Protocol):
    """What writes need to know of their node."""

    @property
    def trouble(self) -> Refusal | None:
        """Why the member takes no writes, None if all is well."""

    async def leader_changed(self) -> None:
        """Wait until role, leader or term change."""


class Writes:
    """See the module's rules."""

    def __init__(
        self, driver: Driver, peers: PeerPort, node_id: int, news: LeaderNews
    ) -> None:
        replica = driver.replica
        self.driver: Final = driver
        self.node_id: Final = node_id
        self.reserves: Final = Reserves(replica.machine, replica.submit)
        self._peers: Final = peers
        self._news: Final = news

    @property
    def machine(self) -> Machine:
        """The member's state."""
        return self.driver.replica.machine

    async def write(self, call: WriteCall, timeout_s: float | None) -> Answered:
        """Carry out one write, here or through the leader; see ``NodeService``."""
        request = seal(
            call.session, call.number, call.acknowledged, call.command, call.fences
        )
        key_hash = hash_key(call.session_key) if call.session else b""
        sent = _Sent(timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._write_somewhere(call, request, key_hash, sent)
        except TimeoutError:
            refusal = DEADLINE_UNKNOWN if sent.may_apply else DEADLINE_NOT_PROPOSED
            return Answered(refusal, self.machine.revision)

    async def _write_somewhere(
        self, call: WriteCall, request: msgspec.Raw, key_hash: bytes, sent: _Sent
    ) -> Answered:
        while True:
            trouble = self._news.trouble
            if trouble is not None:
                refusal = LEADERSHIP_LOST if sent.may_apply else trouble
                return Answered(refusal, self.machine.revision)
            replica = self.driver.replica
            leader = replica.core.leader
            answered: Answered | None
            if replica.may_propose:
                answered = await self.propose(call, request, key_hash, sent)
            elif leader is not None and leader != self.node_id:
                answered = await self._forward(leader, call, request, key_hash, sent)
            else:
                answered = None
            if answered is not None and not _is_to_be_retried(answered):
                return answered
            await self._pause()

    async def propose(
        self, call: WriteCall, request: msgspec.Raw, key_hash: bytes, sent: _Sent
    ) -> Answered:
        """Carry out a write on this member, which leads."""
        denied = self.check_key(call.session, key_hash)
        if denied is not None:
            return Answered(denied, self.machine.revision)
        was_sent_before = sent.may_apply
        sent.may_apply = True
        answered = await self.answer_of(call, request)
        if _is_to_be_retried(answered):
            sent.may_apply = was_sent_before
        return answered

    async def answer_of(self, call: WriteCall, request: msgspec.Raw) -> Answered:
        """Offer a sealed write and wait for its answer, until cancelled."""
        sink = FutureSink()
        self.offer(call, request, sink, 0)
        try:
            return await sink.future
        finally:
            if sink.future.cancelled():
                self.drop(sink)

    def offer(
        self, call: WriteCall, request: msgspec.Raw, sink: AnswerSink, tag: int
    ) -> None:
        """Queue a sealed write; a reserve may wait for its job."""
        command = call.command
        replica = self.driver.replica
        if (
            type(command) is ReserveJobs
            and call.wait_ms != 0
            and replica.may_propose
            and self._may_wait(call, command)
        ):
            deadline_ms = None
            if call.wait_ms is not None:
                deadline_ms = replica.monotonic_ms + call.wait_ms
            if self.reserves.offer(request, command, sink, tag, deadline_ms):
                self.driver.wake()
                return
        replica.submit(request, sink, tag)
        self.driver.wake()

    def _may_wait(self, call: WriteCall, command: ReserveJobs) -> bool:
        """Tell whether apply would have nothing to say but "not yet"."""
        leases, sessions = self.machine.leases, self.machine.sessions
        if not leases.is_alive(command.lease):
            return False
        return not call.number or sessions.answer(call.session, call.number) is None

    async def _pause(self) -> None:
        """Wait for another leader, or a moment."""
        try:
            async with asyncio.timeout(_RETRY_S):
                await self._news.leader_changed()
        except TimeoutError:
            return

    def check_key(self, session: int, key_hash: bytes) -> Refusal | None:
        """Deny a call that does not know its session's key."""
        if not session:
            return None
        known = self.machine.sessions.key_hash(session)
        if known is None:
            return Refusal(
                Reason.SESSION_UNKNOWN,
                f"session {session} is unknown here",
                {"session": str(session)},
            )
        if known != key_hash:
            return Refusal(
                Reason.DENIED, f"the key given is not the key of session {session}"
            )
        return None

    async def _forward(
        self,
        leader: int,
        call: WriteCall,
        request: msgspec.Raw,
        key_hash: bytes,
        sent: _Sent,
    ) -> Answered | None:
        """Have the leader carry it out; None if it certainly was not."""
        forward = ForwardWrite(
            call.session,
            key_hash,
            bytes(request),
            type(call.command) is ReserveJobs,
            call.wait_ms,
            sent.left_ms(),
        )
        was_sent_before = sent.may_apply
        sent.may_apply = True
        try:
            reply = decode_reply(
                await self._peers.call(NodeId(leader), encode(forward), _FORWARD_S_MAX)
            )
        except LinkDown:
            sent.may_apply = was_sent_before
            return None
        except LinkLost:
            if call.number or was_sent_before:
                return None
            return Answered(LEADERSHIP_LOST, self.machine.revision)
        assert isinstance(reply, Forwarded), "a forwarded write is answered as one"
        answered = Answered(decode_answer(reply.answer), reply.revision)
        if _is_to_be_retried(answered):
            sent.may_apply = was_sent_before
        return answered

    def drop(self, sink: AnswerSink) -> None:
        """Nobody waits behind this sink any more."""
        self.reserves.drop(sink)
        self.driver.replica.drop_waiting(sink)
        self.driver.replica.reads.drop(sink)

    # --- renewals -----------------------------------------------------------------

    async def keep_alive(self, lease: int, session_key: bytes) -> int | Refusal:
        """Renew a lease or session; see ``NodeService``."""
        key_hash = hash_key(session_key) if session_key else b""
        while True:
            if self._news.trouble is not None:
                return self._news.trouble
            replica = self.driver.replica
            leader = replica.core.leader
            told: int | Refusal | None = None
            if replica.may_propose:
                told = await self.renew_here(lease, key_hash)
            elif leader is not None and leader != self.node_id:
                told = await self._renew_there(leader, lease, key_hash)
            if told is not None:
                return told
            await self._pause()

    async def renew_here(self, lease: int, key_hash: bytes) -> int | Refusal | None:
        """Renew on this member; None if it lost leadership meanwhile."""
        known = self.machine.sessions.key_hash(lease)
        if known is not None and known != key_hash:
            return Refusal(
                Reason.DENIED, f"the key given is not the key of session {lease}"
            )
        future: asyncio.Future[Sequence[int] | None] = (
            asyncio.get_running_loop().create_future()
        )

        def done(lost: Sequence[int] | None) -> None:
            if not future.done():
                future.set_result(lost)

        self.driver.replica.renew((lease,), done)
        self.driver.wake()
        lost = await future
        if lost is None:
            return None
        # It may have been revoked after its renewal, before this goes on.
        gone = self.machine.leases.require(lease)
        if lost or gone is not None:
            return gone or _gone(lease)
        return self.machine.leases.ttl_ms(lease)

    async def _renew_there(
        self, leader: int, lease: int, key_hash: bytes
    ) -> int | Refusal | None:
        call = encode(ForwardKeepAlive(lease, key_hash))
        try:
            reply = decode_reply(await self._peers.call(NodeId(leader), call, 5.0))
        except (LinkDown, LinkLost):
            return None
        assert isinstance(reply, Renewed), "a forwarded renewal is answered as one"
        if reply.ttl_ms:
            return reply.ttl_ms
        refusal = decode_answer(reply.refusal)
        assert isinstance(refusal, Refusal), "no ttl means a refusal"
        return None if refusal.reason in _NEVER_PROPOSED else refusal


class _Sent:
    """Whether a write may have been proposed by now, and how long it may take."""

    __slots__ = ("_deadline_s", "_loop", "may_apply")

    def __init__(self, timeout_s: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadline_s = None if timeout_s is None else self._loop.time() + timeout_s
        self.may_apply = False

    def left_ms(self) -> int | None:
        """Return what is left until the deadline, None if there is none."""
        if self._deadline_s is None:
            return None
        return max(0, int((self._deadline_s - self._loop.time()) * 1000))


def _is_to_be_retried(answered: Answered) -> bool:
    """Tell whether the write was refused before it was proposed, for now."""
    answer = answered.answer
    return type(answer) is Refusal and answer.reason in _NEVER_PROPOSED


def _gone(lease: int) -> Refusal:
    return Refusal(
        Reason.LEASE_EXPIRED, f"lease {lease} is over", {"lease": str(lease)}
    )
