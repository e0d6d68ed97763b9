"""Short ways to write replies and heartbeats, and to look for what was said."""

from typing import TypeVar

from raftd.consensus import (
    Index,
    Install,
    InstallSnapshot,
    Membership,
    Message,
    NodeId,
    Term,
)
from raftd.consensus.messages import (
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    PreVoteReply,
    VoteReply,
)
from tests.consensus.disk import Snapshot, entries_of_terms
from tests.consensus.network import Network

__all__ = [
    "accepted_by",
    "heartbeat_of",
    "heartbeat_reply_of",
    "pre_vote_reply_of",
    "refused_by",
    "sent",
    "take_up",
    "vote_reply_of",
]

_M = TypeVar("_M", bound=Message)


def sent(
    net: Network, kind: type[_M], *, src: int | None = None, dst: int | None = None
) -> list[_M]:
    """Everything of one kind that was sent, oldest first."""
    return [
        m
        for m in net.sent
        if isinstance(m, kind) and src in (None, m.src) and dst in (None, m.dst)
    ]


def heartbeat_of(
    src: int, dst: int, term: int, *, commit: int = 0, read_id: int = 0
) -> Heartbeat:
    """A heartbeat."""
    return Heartbeat(NodeId(src), NodeId(dst), Term(term), Index(commit), read_id)


def heartbeat_reply_of(
    src: int, dst: int, term: int, *, read_id: int = 0
) -> HeartbeatReply:
    """The answer to a heartbeat."""
    return HeartbeatReply(NodeId(src), NodeId(dst), Term(term), read_id)


def accepted_by(src: int, dst: int, term: int, index: int) -> AppendReply:
    """The log of `src` is durable and equal up to `index`."""
    return AppendReply(NodeId(src), NodeId(dst), Term(term), True, Index(index))


def refused_by(src: int, dst: int, term: int, index: int) -> AppendReply:
    """The log of `src` differs at `index`, or ends before it."""
    return AppendReply(NodeId(src), NodeId(dst), Term(term), False, Index(index))


def vote_reply_of(src: int, dst: int, term: int, *, granted: bool) -> VoteReply:
    """A vote, or its refusal."""
    return VoteReply(NodeId(src), NodeId(dst), Term(term), granted)


def pre_vote_reply_of(src: int, dst: int, term: int, *, granted: bool) -> PreVoteReply:
    """The promise of a vote, or its refusal."""
    return PreVoteReply(NodeId(src), NodeId(dst), Term(term), granted)


def take_up(
    net: Network,
    dst: int,
    term: int,
    last: tuple[int, int],
    voters: tuple[int, ...] = (1, 2, 3),
) -> None:
    """A snapshot of node 1 is at `dst`, whole; `last` is (term, index)."""
    end, index = Term(last[0]), Index(last[1])
    membership = Membership(tuple(map(NodeId, voters)))
    applied = tuple(entries_of_terms(*[end] * index))
    node = net[dst]
    node.loaded[Install(index, end)] = Snapshot(index, end, membership, applied)
    node.core.step(
        InstallSnapshot(NodeId(1), NodeId(dst), Term(term), index, end, membership)
    )
