"""What a replica takes in whole, and what it has others do.

Source: DESIGN.md section 3; the order of effects is in ``raftd.consensus.ready``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from raftd.consensus.messages import Message
from raftd.consensus.ready import SoftState, Write
from raftd.consensus.types import Index, NodeId, Term
from raftd.node.roster import Roster
from raftd.statemachine.answers import AppliedEntry
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.entry import MarkEntry

__all__ = ["Effects", "Loaded"]


class Loaded(msgspec.Struct, frozen=True):
    """A state that came from a leader, loaded and ready to be taken over.

    Attributes:
        index: The state is as of this entry,
        term: whose term this is.
        roster: Who takes part, as of that entry.
    """

    index: Index
    term: Term
    digest: bytes
    roster: Roster
    machine: Machine


class Effects(Protocol):
    """What a turn has done: carried out at once, or begun, never awaited."""

    def send(self, messages: Sequence[Message]) -> None:
        """Send to peers; losing a message is normal."""

    def write(self, write: Write, send_after: Sequence[Message]) -> None:
        """Begin a write; when durable send ``send_after``, then call ``stored``.

        That may be the case before this returns.
        """

    def changed(self, soft: SoftState) -> None:
        """Role, leader or term changed."""

    def applied(self, entry: AppliedEntry) -> None:
        """An entry was applied: tell watches and sessions."""

    def marked(self, index: int, mark: MarkEntry) -> None:
        """A mark was applied: take the checkpoint now, before the next entry."""

    def snapshot_wanted(self, node: NodeId) -> None:
        """A follower needs a snapshot: send it the newest checkpoint."""

    def roster_changed(self, roster: Roster) -> None:
        """A member change took effect."""

    def installed(self, index: int) -> None:
        """Another's state took the place of this member's; its write comes next."""
