"""Raft and nothing else: a pure core that carries bytes.

It knows no lock, no clock and no socket. Messages, ticks, proposals and disk
completions go in; `Core.ready` is the only way out. The same inputs give the same
outputs, in the same order.

Inside, each file is one idea and imports go one way:
`core` > `installing` > `reconfiguring` > `changes`; `core` > `output`; those two >
`reads`, `transfer` > `voting`, `replication`; `installing` > `following`; all of these
> `roles` > `proposals` > `state` > `outbox`, `log`, `progress`, `quorum` > `ready`,
`messages`, `config` > `types`. `core` is a `view`, which sees `state`.

The rules that docstrings and tests cite by number:

1. Timeouts are uniform in [T, 2T-1] ticks, redrawn at each change of role or term.
2. Pre-vote: ask before raising the term; a grant binds nobody.
3. Pre-vote never hides a term, and nobody is refused for being the known leader.
4. Check-quorum: a leader that heard no majority for T steps down.
5. Vote lease: who heard a leader within T ignores campaigns, transfers apart.
6. A leader of a lower term is answered, so that a stuck node gets free.
7. Votes go to logs at least as long, once per term, and count when durable.
8. Who is asked votes, member or not; only voters campaign.
9. No campaign with a committed config change, or the stored commit, unapplied, or
    with a snapshot that is not on disk yet.
10. A no-op starts a term; reads wait until it is committed.
11. Only entries of the own term are committed by counting.
12. A transfer refuses proposals, ends after T, ends with leadership, and ends when
    its target is no voter any more.
13. A follower may forget its leader only while no read relies on leases.
14. A leader that is unfit (its disk, its loop) steps down, and who is unfit does not
    campaign: the node decides.
15. A follower's commit index goes no further than what a message matched.
16. Entries are removed at a real conflict only, never at or below the commit index.
17. A refusal hints at (index, term), so that backing off costs one probe per term.
18. Stale refusals, and replies of another term, are dropped.
19. A follower is probed, then replicated to; trouble goes back to probing.
20. Windows are bounded in messages and bytes; a full one still gets an empty append.
21. Uncommitted bytes, and bytes being applied, are bounded.
22. A proposal is (term, index): lost leadership is indefinite, another entry
    committed there is definite.
23. Persist, then promise. Appends are sent beside the local write.
24. A completion vouches only for what its write still stands for.
26. A stored commit index is clamped to the log.
27. Term and vote never go back.
28. A snapshot says its index, term and configuration.
29. One that ends at or below the commit index is ignored; if the log has its last
    entry the log stays; else all of it goes. Durable before it is acknowledged.
30. Its index and term come from itself; all that can fail comes before the swap.
31. The (index, term) before the first entry is kept when the log is cut; any snapshot
    that reconnects a follower ends its wait.
33. ReadIndex: the commit index at arrival, then a majority confirms a heartbeat sent
    later; rounds are numbered here and never again.
39. One membership change at a time; a new leader takes all it finds for one.
40. None before an entry of the leader's own term is committed.
41. A change takes effect when its entry is applied.
42. In a joint configuration everything needs both majorities; its leader ends it.
44. A leader that removed itself hands over, without counting itself, and steps down.

Source: Ongaro and Ousterhout, "In search of an understandable consensus algorithm"
(the paper); Ongaro, "Consensus: bridging theory and practice" (the thesis).
"""

from raftd.consensus.changes import (
    InvalidChange,
    after,
    decode_change,
    encode_change,
)
from raftd.consensus.config import Config
from raftd.consensus.core import Core
from raftd.consensus.log import LogReader
from raftd.consensus.messages import Input, InstallSnapshot, Message
from raftd.consensus.progress import ProgressState
from raftd.consensus.ready import Ready, SoftState, Write
from raftd.consensus.state import Persisted
from raftd.consensus.types import (
    ChangeKind,
    ConfigChange,
    ConfigStep,
    Entry,
    EntryKind,
    HardState,
    Index,
    Install,
    Membership,
    NodeId,
    Proposal,
    RefusalReason,
    Refused,
    Role,
    Term,
)
from raftd.consensus.view import FollowerView

__all__ = [
    "ChangeKind",
    "Config",
    "ConfigChange",
    "ConfigStep",
    "Core",
    "Entry",
    "EntryKind",
    "FollowerView",
    "HardState",
    "Index",
    "Input",
    "Install",
    "InstallSnapshot",
    "InvalidChange",
    "LogReader",
    "Membership",
    "Message",
    "NodeId",
    "Persisted",
    "ProgressState",
    "Proposal",
    "Ready",
    "RefusalReason",
    "Refused",
    "Role",
    "SoftState",
    "Term",
    "Write",
    "after",
    "decode_change",
    "encode_change",
]
