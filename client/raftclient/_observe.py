"""The watch of an election, as a feed of transitions.

Source: SEMANTICS.md section 5; proto/raftpb/v1/elections.proto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from raftclient._feed import Feed
from raftpb.v1 import elections_pb2
from raftpb.v1.sessions_pb2 import StreamRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftclient._core import Core
    from raftpb.v1.sessions_pb2 import StreamReply

__all__ = ["ElectionEvent", "ElectionFeed", "LeaderInfo", "leader_of"]


class LeaderInfo(msgspec.Struct, frozen=True):
    """Who leads a name."""

    epoch: int
    claimant: str
    lease_id: int
    value: bytes
    since_ms: int


class ElectionEvent(msgspec.Struct, frozen=True):
    """A transition of an election.

    Attributes:
        leader: None = nobody leads.
        is_resync: Transitions before this one were missed; it is the present state.
    """

    revision: int
    leader: LeaderInfo | None
    is_resync: bool = False


class ElectionFeed(Feed[ElectionEvent]):
    """See the module; made by ``observe``.

    Args:
        core: The client's engine.
        name: The election.
        from_rev: First revision wanted; 0 = begin with who leads now.
        see: Called with each event instead of queueing it.
    """

    def __init__(
        self,
        core: Core,
        name: str,
        from_rev: int,
        see: Callable[[ElectionEvent], None] | None = None,
    ) -> None:
        self._name: Final = name
        self._from_rev = from_rev
        self._see: Final = see
        super().__init__(core)

    def request(self) -> StreamRequest:
        """Build the request that continues where the last reply left off."""
        body = elections_pb2.ObserveElectionRequest(
            name=self._name, from_rev=self._from_rev
        )
        return StreamRequest(observe_election=body)

    def take(self, reply: StreamReply) -> None:
        """Queue the transitions of one message."""
        message = reply.observe_election
        is_resync = message.is_resync
        for each in message.events:
            event = ElectionEvent(each.revision, leader_of(each.leader), is_resync)
            is_resync = False
            if self._see is not None:
                self._see(event)
            else:
                self.push(event)
        self._from_rev = max(self._from_rev, message.revision + 1)


def leader_of(found: elections_pb2.Leadership) -> LeaderInfo | None:
    """Turn the API's message into ours; epoch 0 = nobody."""
    if not found.epoch:
        return None
    return LeaderInfo(
        found.epoch, found.claimant, found.lease_id, found.value, found.since_ms
    )
