"""What members ask each other outside Raft: writes, renewals, status, snapshots.

Rules: a call is one msgpack value with a tag, opaque to the transport. A forwarded
write is carried out at the leader or refused as not applied; it is never passed on.

Source: DESIGN.md section 7.
"""

from __future__ import annotations

from typing import Final

import msgspec

from raftd.node.member_words import MemberChange
from raftd.storage.errors import BAD_BYTES

__all__ = [
    "AskMark",
    "AskStatus",
    "DeskCall",
    "DeskTold",
    "FinishSnapshot",
    "ForwardChange",
    "ForwardKeepAlive",
    "ForwardTransfer",
    "ForwardWrite",
    "Forwarded",
    "Noted",
    "OfferSnapshot",
    "PeerCall",
    "PeerReply",
    "Renewed",
    "SendChunks",
    "SnapshotCall",
    "SnapshotTold",
    "StatusTold",
    "TellDigest",
    "decode_call",
    "decode_reply",
    "encode",
]


class _Tagged(
    msgspec.Struct,
    frozen=True,
    array_like=True,
    tag_field="tag",
    forbid_unknown_fields=True,
):
    """A call or its answer."""


class ForwardWrite(_Tagged, frozen=True, tag=1):
    """Carry out a write that came in on another member.

    Attributes:
        key_hash: Hash of the session's key; empty without a session.
        request: The sealed request.
        wait_ms: Of a reserve: how long it may wait; None = for ever.
        is_reserve: Whether it may wait for jobs.
        timeout_ms: The caller gives up then.
    """

    session: int
    key_hash: bytes
    request: bytes
    is_reserve: bool
    wait_ms: int | None
    timeout_ms: int | None


class ForwardKeepAlive(_Tagged, frozen=True, tag=2):
    """Renew a lease or session."""

    lease: int
    key_hash: bytes


class AskStatus(_Tagged, frozen=True, tag=3):
    """How do you do?"""


class TellDigest(_Tagged, frozen=True, tag=4):
    """The digest of a member's state at a mark."""

    index: int
    digest: bytes


class OfferSnapshot(_Tagged, frozen=True, tag=5):
    """Take a snapshot; how many of its chunks do you have?

    Attributes:
        offer_id: Of exactly these chunks in this order; drawn by the leader.
        term: The leader's.
        index: The state is as of this entry,
        index_term: whose term this is.
        digest: Of the state.
        roster: The members as of that entry, encoded as checkpoints hold them.
        chunk_count: How many chunks there are,
        size_bytes: and their bytes in all.
    """

    offer_id: bytes
    term: int
    index: int
    index_term: int
    digest: bytes
    roster: bytes
    chunk_count: int
    size_bytes: int


class SendChunks(_Tagged, frozen=True, tag=6):
    """Chunks of the snapshot that was offered, each with its CRC-32.

    Attributes:
        first: Number of the first of them, from 0.
    """

    offer_id: bytes
    first: int
    chunks: tuple[bytes, ...]
    crcs: tuple[int, ...]


class FinishSnapshot(_Tagged, frozen=True, tag=7):
    """You have all of it: install it. Asked again until it is done.

    Attributes:
        term: The leader's.
    """

    offer_id: bytes
    term: int


class ForwardChange(_Tagged, frozen=True, tag=8):
    """Change the members, as the leader; only of a level that knows such changes.

    Attributes:
        timeout_ms: The caller gives up then.
    """

    change: MemberChange
    timeout_ms: int


class ForwardTransfer(_Tagged, frozen=True, tag=9):
    """Hand leadership over.

    Attributes:
        to: 0 = the best voter.
        timeout_ms: The caller gives up then.
    """

    to: int
    timeout_ms: int


class AskMark(_Tagged, frozen=True, tag=12):
    """Have all members take a checkpoint soon.

    Attributes:
        index: At this entry, which is committed, or behind it.
    """

    index: int


SnapshotCall = OfferSnapshot | SendChunks | FinishSnapshot
DeskCall = ForwardChange | ForwardTransfer
PeerCall = (
    ForwardWrite
    | ForwardKeepAlive
    | AskStatus
    | TellDigest
    | SnapshotCall
    | DeskCall
    | AskMark
)


class Forwarded(_Tagged, frozen=True, tag=1):
    """A write's answer, encoded as in the log, and the revision after it."""

    answer: bytes
    revision: int


class Renewed(_Tagged, frozen=True, tag=2):
    """The lease's ttl, or (0) a refusal encoded as an answer."""

    ttl_ms: int
    refusal: bytes


class StatusTold(_Tagged, frozen=True, tag=3):
    """A MemberState, as a map."""

    state: dict[str, int | str | bool]


class Noted(_Tagged, frozen=True, tag=4):
    """Thank you."""


class SnapshotTold(_Tagged, frozen=True, tag=5):
    """How far a snapshot is at its receiver.

    Attributes:
        have: Chunks that are on its disk.
        is_done: Installed, or not needed any more: go on with the log.
        refusal: Why it is not taken; offer it again later, if at all.
    """

    have: int = 0
    is_done: bool = False
    refusal: str = ""


class DeskTold(_Tagged, frozen=True, tag=6):
    """What came of a change or a hand-over.

    Attributes:
        member: The member that was added, changed or removed, by field names.
        leader: Who leads now; 0 if it was no hand-over.
        refusal: Why not, encoded as an answer; empty if it was done.
    """

    member: dict[str, int | str | bool] = {}
    leader: int = 0
    refusal: bytes = b""


PeerReply = Forwarded | Renewed | StatusTold | Noted | SnapshotTold | DeskTold

_encoder: Final = msgspec.msgpack.Encoder()
_calls: Final = msgspec.msgpack.Decoder(PeerCall)
_replies: Final = msgspec.msgpack.Decoder(PeerReply)


def encode(call: PeerCall | PeerReply) -> bytes:
    """Encode a call or its answer."""
    return _encoder.encode(call)


def decode_call(data: bytes) -> PeerCall:
    """Decode a call.

    Raises:
        msgspec.MsgspecError: Not one of ours.
    """
    try:
        call: PeerCall = _calls.decode(data)
    except BAD_BYTES as error:
        raise msgspec.DecodeError(str(error)) from error
    return call


def decode_reply(data: bytes) -> PeerReply:
    """Decode an answer.

    Raises:
        msgspec.MsgspecError: Not one of ours.
    """
    try:
        reply: PeerReply = _replies.decode(data)
    except BAD_BYTES as error:
        raise msgspec.DecodeError(str(error)) from error
    return reply
