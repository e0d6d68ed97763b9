"""Short ways to write messages, settings and questions in tests of the core."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypedDict, Unpack

from raftd.consensus import (
    ChangeKind,
    Config,
    ConfigChange,
    ConfigStep,
    Entry,
    EntryKind,
    Index,
    Membership,
    Message,
    NodeId,
    Term,
)
from raftd.consensus.messages import Append, PreVote, Vote
from tests.consensus.network import Network

__all__ = [
    "HEARTBEAT",
    "Limits",
    "T",
    "adding",
    "append_of",
    "appends_to",
    "change_of",
    "change_quietly",
    "limited",
    "members",
    "payloads",
    "pre_vote_of",
    "removing",
    "vote_of",
]

#: The default election timeout and heartbeat interval, in ticks.
T = Config(NodeId(1)).election_ticks
HEARTBEAT = Config(NodeId(1)).heartbeat_ticks


class Limits(TypedDict, total=False):
    """Settings that tests change."""

    election_ticks: int
    heartbeat_ticks: int
    append_bytes_max: int
    inflight_messages_max: int
    inflight_bytes_max: int
    uncommitted_bytes_max: int
    apply_bytes_max: int
    cached_log_bytes_max: int
    pre_vote: bool
    check_quorum: bool


def limited(**limits: Unpack[Limits]) -> Callable[[NodeId], Config]:
    """Configure every node with these limits."""
    return lambda node: replace(Config(node), **limits)


def payloads(net: Network, node: int) -> list[bytes]:
    """What a node has applied, without no-ops."""
    return [entry.payload for entry in net[node].applied if entry.payload]


def appends_to(messages: list[Message], dst: int) -> list[Append]:
    """Every append to one node."""
    return [m for m in messages if isinstance(m, Append) and m.dst == dst]


def append_of(
    dst: int, term: int, prev: tuple[int, int], *terms: int, commit: int = 0
) -> Append:
    """An append by node 1; `prev` is (term, index), `terms` those of its entries."""
    entries = tuple(
        Entry(Index(at), Term(t), EntryKind.NORMAL, b"%d.%d" % (t, at))
        for at, t in enumerate(terms, prev[1] + 1)
    )
    return Append(
        NodeId(1),
        NodeId(dst),
        Term(term),
        Index(prev[1]),
        Term(prev[0]),
        entries,
        Index(commit),
    )


def vote_of(src: int, dst: int, term: int, last: tuple[int, int] = (0, 0)) -> Vote:
    """A request for a vote; `last` is (term, index)."""
    return Vote(NodeId(src), NodeId(dst), Term(term), Index(last[1]), Term(last[0]))


def pre_vote_of(
    src: int, dst: int, term: int, last: tuple[int, int] = (0, 0)
) -> PreVote:
    """A request for a pre-vote; `last` is (term, index)."""
    return PreVote(NodeId(src), NodeId(dst), Term(term), Index(last[1]), Term(last[0]))


def change_of(*steps: tuple[ChangeKind, int]) -> ConfigChange:
    """A membership change of these steps."""
    return ConfigChange(tuple(ConfigStep(kind, NodeId(node)) for kind, node in steps))


def adding(node: int) -> ConfigChange:
    """A change that makes `node` a voter."""
    return change_of((ChangeKind.PROMOTE, node))


def removing(node: int) -> ConfigChange:
    """A change that puts `node` out."""
    return change_of((ChangeKind.REMOVE, node))


def members(*voters: int) -> Membership:
    """A configuration of voters only."""
    return Membership(tuple(map(NodeId, voters)))


def change_quietly(net: Network, change: ConfigChange, leader: int = 1) -> None:
    """Propose a change, and let everybody hear that it is committed."""
    net.change(leader, change)
    net.settle()
    net.tick(leader, HEARTBEAT)
