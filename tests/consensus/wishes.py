"""Short ways to wish for membership changes, and to see them through."""

from raftd.consensus import (
    ChangeKind,
    ConfigChange,
    ConfigStep,
    Membership,
    NodeId,
)
from tests.consensus.helpers import HEARTBEAT
from tests.consensus.network import Network

__all__ = [
    "adding",
    "learning",
    "members",
    "removing",
    "replacing",
    "see_through",
    "wish_of",
]


def wish_of(*steps: tuple[ChangeKind, int]) -> ConfigChange:
    """A change of these steps."""
    return ConfigChange(tuple(ConfigStep(kind, NodeId(node)) for kind, node in steps))


def adding(node: int) -> ConfigChange:
    """Let a learner, or a stranger, vote."""
    return wish_of((ChangeKind.PROMOTE, node))


def learning(node: int) -> ConfigChange:
    """Let a stranger be sent the log."""
    return wish_of((ChangeKind.ADD_LEARNER, node))


def removing(node: int) -> ConfigChange:
    """Let a member be one no more."""
    return wish_of((ChangeKind.REMOVE, node))


def replacing(old: tuple[int, ...], new: tuple[int, ...]) -> ConfigChange:
    """Let some go and others vote, in one joint change."""
    ends = tuple((ChangeKind.REMOVE, node) for node in old)
    return wish_of(*((ChangeKind.PROMOTE, node) for node in new), *ends)


def members(
    *voters: int, outgoing: tuple[int, ...] = (), learners: tuple[int, ...] = ()
) -> Membership:
    """A membership of plain numbers."""
    return Membership(
        tuple(map(NodeId, voters)),
        tuple(map(NodeId, outgoing)),
        tuple(map(NodeId, learners)),
    )


def see_through(net: Network, wish: ConfigChange, leader: int = 1) -> None:
    """Propose a change, and let everybody hear that it is committed."""
    net.change(leader, wish)
    net.settle()
    net.tick(leader, HEARTBEAT)
