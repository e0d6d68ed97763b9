"""What Raft nodes say to each other: one struct per message, a closed union.

Rules: every message names its sender, its addressee and a term. The term is the
sender's own, but for a pre-vote (the term it asks for) and a granted pre-vote reply
(the term that was asked). Arrays with an integer tag go over the wire as msgpack, so
fields may only be added at the end, with a default; tags are never used again.

Source: Raft paper figure 2; thesis sections 3.10, 6.4 and 9.6 (transfer, reads,
pre-vote); rules 2-6, 12, 15, 17 and 33.
"""

from typing import TypeAlias

import msgspec

from raftd.consensus.types import Entry, Index, Membership, NodeId, Term

__all__ = [
    "Append",
    "AppendReply",
    "Heartbeat",
    "HeartbeatReply",
    "Input",
    "InstallSnapshot",
    "Message",
    "PreVote",
    "PreVoteReply",
    "ReadIndexReply",
    "ReadIndexRequest",
    "TimeoutNow",
    "Vote",
    "VoteReply",
]


class _Header(msgspec.Struct, frozen=True, array_like=True, gc=False):
    src: NodeId
    dst: NodeId
    term: Term


class PreVote(_Header, frozen=True, tag=1):
    """Would you vote for me in `term`? Changes nothing at the voter."""

    last_index: Index
    last_term: Term


class PreVoteReply(_Header, frozen=True, tag=2):
    """A grant carries the asked term, a refusal the voter's own."""

    granted: bool
    #: What the voter knows to be committed: (index, term) of an entry.
    commit: Index = Index(0)
    commit_term: Term = Term(0)


class Vote(_Header, frozen=True, tag=3):
    """A request for the one vote that a node has in `term`."""

    last_index: Index
    last_term: Term
    #: The old leader asked for this election: it overrides the vote lease.
    transfer: bool = False


class VoteReply(_Header, frozen=True, tag=4):
    """Leaves the voter only when its vote, or its refusal's term, is durable."""

    granted: bool
    #: As in a `PreVoteReply`.
    commit: Index = Index(0)
    commit_term: Term = Term(0)


class Append(_Header, frozen=True, tag=5):
    """Entries that follow (`prev_index`, `prev_term`); may be empty."""

    prev_index: Index
    prev_term: Term
    entries: tuple[Entry, ...]
    #: The leader's commit index, unclamped: the follower clamps it to what matched.
    commit: Index


class AppendReply(_Header, frozen=True, tag=6):
    """Accepted: the log is durable and equal up to `index`. Else `index` is refused."""

    accepted: bool
    index: Index
    #: On refusal: the largest own entry with index <= prev_index and
    #: term <= prev_term, and its term.
    hint_index: Index = Index(0)
    hint_term: Term = Term(0)
    #: The sender's wall clock, opaque to the core.
    wall_ms: int = 0


class Heartbeat(_Header, frozen=True, tag=7):
    """The leader is alive; `commit` never exceeds what this follower acknowledged."""

    commit: Index
    #: The read confirmation round to be echoed; 0 is none.
    read_id: int = 0


class HeartbeatReply(_Header, frozen=True, tag=8):
    """Echoes the round, and so confirms that the leader led after it began."""

    read_id: int = 0
    #: The sender's wall clock, opaque to the core.
    wall_ms: int = 0


class ReadIndexRequest(_Header, frozen=True, tag=9):
    """A follower asks from which index on its reads are linearizable."""

    #: Chosen by the asking core, never reused, never a caller's number.
    ctx: int


class ReadIndexReply(_Header, frozen=True, tag=10):
    """Reads of `ctx` may be answered once `index` is applied."""

    ctx: int
    index: Index


class TimeoutNow(_Header, frozen=True, tag=11):
    """The leader hands over: campaign at once, without a pre-vote."""


class InstallSnapshot(_Header, frozen=True, tag=12):
    """A leader's snapshot has arrived here whole, and can be taken up.

    Never read from a link: rows travel otherwise, and the receiving node makes this
    once they all are on its disk and loaded. `term` is that of the leader's last word.
    """

    #: The last entry that the snapshot contains, and its term.
    index: Index
    index_term: Term
    #: The configuration as of that entry.
    membership: Membership


# Tag 13 was reserved for a reply to it and stays unused: an AppendReply answers.

Message: TypeAlias = (
    PreVote
    | PreVoteReply
    | Vote
    | VoteReply
    | Append
    | AppendReply
    | Heartbeat
    | HeartbeatReply
    | ReadIndexRequest
    | ReadIndexReply
    | TimeoutNow
)

#: What a core takes in: what peers say, and what the node itself puts together.
Input: TypeAlias = Message | InstallSnapshot
