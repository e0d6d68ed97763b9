"""The only door out of the core: what to send, write, apply and answer now.

The order of effects, written down once:

1. `send_now` may leave at once, beside the write.
2. `write` is made durable as one transaction, in the order of ids. Several may be
   under way; `Core.stored(id)` says that this one and all before it are durable.
3. `send_after` leaves only when this Ready's `write` is durable. It is empty when
   `write` is None: the core itself holds back what waits for an earlier write, and
   gives it out in the `send_now` that follows that write's `stored`.
4. `commit` is applied in order, then `Core.applied(last index)` is called. A committed
   entry may be applied before the local disk has it; a checkpoint may not pass
   `Core.durable_index`.
   `write.install` puts what it says in the place of everything handed out before:
   the core counts it as applied.
5. `reads` are answered when the applied index has reached theirs.

Source: thesis 10.2.1; rules 7, 22 and 23.
"""

import msgspec

from raftd.consensus.messages import Message
from raftd.consensus.types import (
    Entry,
    HardState,
    Index,
    Install,
    NodeId,
    Proposal,
    Role,
    Term,
)

__all__ = ["Ready", "SoftState", "Write"]


class Write(msgspec.Struct, frozen=True, gc=False):
    """One transaction for the log store. `id` rises by one from 1."""

    id: int
    #: Set only when term or vote changed.
    hard_state: HardState | None
    #: Remove every entry from this index on before adding `entries`.
    truncate_from: Index | None
    entries: tuple[Entry, ...]
    #: The commit index known now: stored along, never a reason for a write.
    commit: Index
    #: The log is dropped whole and starts anew behind this entry, and the snapshot
    #: that ends with it becomes the state, both or neither. Such a write has no
    #: entries and no `truncate_from`.
    install: Install | None = None


class SoftState(msgspec.Struct, frozen=True, gc=False):
    """For people, redirects and the lease clock; never persisted."""

    role: Role
    leader: NodeId | None
    term: Term


class Ready(msgspec.Struct, frozen=True, gc=False):
    """Everything that became due since the last one."""

    #: Appends, heartbeats, pre-votes, and replies that need no further write.
    send_now: tuple[Message, ...] = ()
    write: Write | None = None
    #: Vote requests and replies to be released when `write` is durable.
    send_after: tuple[Message, ...] = ()
    commit: tuple[Entry, ...] = ()
    #: (ctx, index): linearizable once `index` is applied.
    reads: tuple[tuple[int, Index], ...] = ()
    #: ctx of reads that lost their leader: ask again.
    reads_failed: tuple[int, ...] = ()
    #: Set only when it changed.
    soft: SoftState | None = None
    #: (proposal, is_definite). Indefinite: leadership was lost first, it may still be
    #: committed. Definite: another entry is committed at that index.
    failed: tuple[tuple[Proposal, bool], ...] = ()
    #: Followers that just came to need a snapshot: what they lack is cut away.
    snapshots: tuple[NodeId, ...] = ()
