"""The node's errors.

NodeError
├── NodeFailed    this member must end, with one sentence
├── BackupBroken  a backup that had begun cannot be completed
└── LinkError
    ├── LinkDown  a call was never sent
    └── LinkLost  a call was sent, and its outcome is unknown
"""

from __future__ import annotations

from raftd.statemachine.schema.base import Refusal

__all__ = [
    "BackupBroken",
    "LinkDown",
    "LinkError",
    "LinkLost",
    "NodeError",
    "NodeFailed",
]


class NodeError(Exception):
    """Base of all errors of a node."""


class NodeFailed(NodeError):
    """This member must end; the sentence says why and what to do."""


class BackupBroken(NodeError):
    """What was sent of a backup is worth nothing; ``refusal`` says why."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.sentence)
        self.refusal = refusal


class LinkError(NodeError):
    """A call to a peer came to nothing."""


class LinkDown(LinkError):
    """Never sent: nothing happened."""


class LinkLost(LinkError):
    """Sent, no answer: it may have been carried out."""
