"""The words of the Raft core: plain values, no behaviour.

Rules: everything here is immutable and hashable, so it may be shared freely between
the core, the store and the transport. Node ids are positive; 0 is no node. Index 0
and term 0 stand for "before the first entry".

Source: Raft paper figure 2.
"""

import enum
from typing import NewType

import msgspec

__all__ = [
    "ChangeKind",
    "ConfigChange",
    "ConfigStep",
    "EntriesGone",
    "Entry",
    "EntryKind",
    "HardState",
    "Index",
    "Install",
    "Membership",
    "NodeId",
    "Proposal",
    "RefusalReason",
    "Refused",
    "Role",
    "Term",
]

Term = NewType("Term", int)
Index = NewType("Index", int)
NodeId = NewType("NodeId", int)


class Role(enum.Enum):
    """What a node is at the moment; see `roles.ROLE_TRANSITIONS` for the moves."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class EntryKind(enum.IntEnum):
    """What the payload of an entry is. Numbers are on disk and on the wire."""

    #: Bytes for the state machine; an empty payload is a leader's no-op.
    NORMAL = 0
    #: A `ConfigChange` (see `changes`).
    CONFIG = 1


class EntriesGone(AssertionError):
    """The log ends before entries that this node has acknowledged: stop the node.

    Its disk lost them, so it must promise nothing more under its name.
    """


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One position of the replicated log."""

    index: Index
    term: Term
    kind: EntryKind
    payload: bytes


class HardState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What must be durable before any promise made under it leaves the node."""

    term: Term = Term(0)
    #: Whom this node voted for in `term`; None is nobody yet.
    vote: NodeId | None = None


class Membership(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who takes part. Each tuple is sorted and free of duplicates."""

    voters: tuple[NodeId, ...]
    #: The old voters while a joint change is under way, else empty.
    outgoing: tuple[NodeId, ...] = ()
    learners: tuple[NodeId, ...] = ()

    @property
    def members(self) -> tuple[NodeId, ...]:
        """Every id that entries are replicated to, sorted."""
        both = dict.fromkeys(self.voters + self.outgoing + self.learners)
        return tuple(sorted(both))

    def is_voter(self, node: NodeId) -> bool:
        """Tell whether `node` votes in either half of the configuration."""
        return node in self.voters or node in self.outgoing


class ChangeKind(enum.IntEnum):
    """What happens to one node. Numbers are on disk and on the wire."""

    #: A stranger is sent the log, and does not count yet.
    ADD_LEARNER = 1
    #: A learner, or a stranger, votes.
    PROMOTE = 2
    #: A voter or a learner is no part of it any more.
    REMOVE = 3


class ConfigStep(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One node's share of a change."""

    kind: ChangeKind
    node: NodeId


class ConfigChange(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The payload of a CONFIG entry, and the wish for one.

    More than one step that touches a voter makes the configuration joint; the leader
    then ends that by an entry of its own. Without steps only the context counts.
    """

    steps: tuple[ConfigStep, ...] = ()
    #: What the node says about members, addresses for example: opaque to the core.
    context: bytes = b""
    #: Ends a joint configuration; then there are no steps.
    is_leave: bool = False
    #: What the change makes of the membership: added by the leader's core, so that a
    #: node which joined, and is sent the log from its beginning, need not know the
    #: configuration that the cluster began with.
    result: Membership | None = None


class Install(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The log is to start anew behind a snapshot, whose last entry is this one."""

    index: Index
    term: Term


class Proposal(msgspec.Struct, frozen=True, gc=False):
    """Where a proposed payload was put: it is committed only at exactly this place."""

    term: Term
    index: Index


class RefusalReason(enum.Enum):
    """Why a proposal was not appended. Each is definite: nothing happened."""

    NOT_LEADER = "not leader"
    TRANSFERRING = "leadership is being transferred"
    TOO_MUCH_UNCOMMITTED = "too many uncommitted bytes"
    CHANGE_PENDING = "another membership change is under way"
    TERM_NOT_STARTED = "nothing of this leader's term is committed yet"
    INVALID_CHANGE = "the membership change is not possible"


class Refused(msgspec.Struct, frozen=True, gc=False):
    """The answer to a proposal that was not appended."""

    reason: RefusalReason
    #: The leader as far as this node knows.
    leader: NodeId | None
    #: What is wrong with an INVALID_CHANGE, as a sentence.
    detail: str = ""
