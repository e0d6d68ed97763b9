"""The node's errors.

NodeError
├── NodeFailed    this member must end, with one sentence
└── LinkError
    ├── LinkDown  a call was never sent
    └── LinkLost  a call was sent, and its outcome is unknown
"""

from __future__ import annotations

__all__ = ["LinkDown", "LinkError", "LinkLost", "NodeError", "NodeFailed"]


class NodeError(Exception):
    """Base of all errors of a node."""


class NodeFailed(NodeError):
    """This member must end; the sentence says why and what to do."""


class LinkError(NodeError):
    """A call to a peer came to nothing."""


class LinkDown(LinkError):
    """Never sent: nothing happened."""


class LinkLost(LinkError):
    """Sent, no answer: it may have been carried out."""
