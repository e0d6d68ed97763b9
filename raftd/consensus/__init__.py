"""Raft and nothing else: a pure core that carries bytes.

It knows no lock, no clock and no socket. Messages, ticks, proposals and disk
completions go in; `Core.ready` is the only way out. The same inputs give the same
outputs, in the same order.

Inside, each file is one idea and imports go one way:
`core` > `output` > `transfer` > `voting`; `core` > `following`; `output` > `reads` >
`replication`; all of these > `roles` > `proposals` > `state` > `outbox`, `log`,
`progress`, `quorum` > `ready`, `messages`, `config` > `types`.

Source: Ongaro and Ousterhout, "In search of an understandable consensus algorithm"
(the paper); Ongaro, "Consensus: bridging theory and practice" (the thesis);
RELIABILITY.md sections 1 and 2 (the numbered rules).
"""

from raftd.consensus.config import Config
from raftd.consensus.core import Core
from raftd.consensus.log import LogReader
from raftd.consensus.messages import Message
from raftd.consensus.ready import Ready, SoftState, Write
from raftd.consensus.state import Persisted
from raftd.consensus.types import (
    Entry,
    EntryKind,
    HardState,
    Index,
    Membership,
    NodeId,
    Proposal,
    RefusalReason,
    Refused,
    Role,
    Term,
)

__all__ = [
    "Config",
    "Core",
    "Entry",
    "EntryKind",
    "HardState",
    "Index",
    "LogReader",
    "Membership",
    "Message",
    "NodeId",
    "Persisted",
    "Proposal",
    "Ready",
    "RefusalReason",
    "Refused",
    "Role",
    "SoftState",
    "Term",
    "Write",
]
