"""What the sessions of one client have in common, and what they carry for it.

Source: DESIGN.md section 9.
"""

from __future__ import annotations

import dataclasses
import uuid
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from raftclient._dialects import Dialects
    from raftclient._endpoints import Endpoints
    from raftclient._unary import Channels, Renewer, Unary
    from raftclient.errors import RaftError
    from raftpb.v1.sessions_pb2 import StreamReply, StreamRequest

__all__ = ["Shared", "Subscription"]


@dataclasses.dataclass(slots=True)
class Shared:
    """What all sessions of a client have in common."""

    endpoints: Endpoints
    channels: Channels
    dialects: Dialects
    unary: Unary
    renewer: Renewer
    ttl_ms: int
    claimant: str
    client_version: str
    revision: int = 0
    """The newest revision that any answer came from."""

    def fresh_claimant(self) -> str:
        """Name one lock or candidacy of this client, apart from all others."""
        return f"{self.claimant}/{uuid.uuid4().hex[:12]}"


class Subscription(Protocol):
    """A watch: one request, many replies, begun again on every stream."""

    def request(self) -> StreamRequest:
        """Build the request that continues where the last reply left off."""

    def on_reply(self, reply: StreamReply) -> None:
        """Take one message."""

    def fail(self, error: RaftError) -> None:
        """It cannot go on."""
