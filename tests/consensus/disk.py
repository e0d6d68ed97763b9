"""A node of the test network: what it has durably, and what came out of its core.

The state machine is the list of applied entries, so a snapshot is that list too.
"""

from collections import deque
from dataclasses import dataclass, field

from raftd.consensus import (
    Core,
    Entry,
    EntryKind,
    HardState,
    Index,
    Install,
    Membership,
    Message,
    Persisted,
    Proposal,
    Term,
    Write,
)

__all__ = ["Disk", "Node", "Snapshot", "entries_of_terms", "runs_of"]


def entries_of_terms(*terms: int) -> list[Entry]:
    """Make a log from index 1 on whose entries have these terms."""
    return [
        Entry(Index(at), Term(term), EntryKind.NORMAL, b"%d.%d" % (term, at))
        for at, term in enumerate(terms, 1)
    ]


def runs_of(entries: list[Entry]) -> list[tuple[Index, Term]]:
    """List the term runs of a log."""
    runs: list[tuple[Index, Term]] = []
    for entry in entries:
        if not runs or runs[-1][1] != entry.term:
            runs.append((entry.index, entry.term))
    return runs


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state, and the last entry in it."""

    index: Index
    term: Term
    membership: Membership
    applied: tuple[Entry, ...] = ()


_NOTHING = Snapshot(Index(0), Term(0), Membership(()))


@dataclass
class Disk:
    """What a node has durably."""

    hard_state: HardState = field(default_factory=HardState)
    log: list[Entry] = field(default_factory=list)
    commit: int = 0
    #: The newest checkpoint.
    state: Snapshot = _NOTHING
    #: The entry before the first.
    prev_index: int = 0
    prev_term: int = 0

    @property
    def last_index(self) -> int:
        """The last index in the log."""
        return self.prev_index + len(self.log)

    def apply(self, write: Write, snapshot: Snapshot | None = None) -> None:
        """Make one write durable, with the snapshot that it installs."""
        if write.hard_state is not None:
            assert write.hard_state.term >= self.hard_state.term, "the term fell"
            self.hard_state = write.hard_state
        if write.install is not None:
            self._install(write, snapshot)
        if write.truncate_from is not None:
            assert write.truncate_from > self.state.index, "the state is ahead"
            del self.log[write.truncate_from - self.prev_index - 1 :]
        for entry in write.entries:
            assert entry.index == self.last_index + 1, "a gap on disk"
            self.log.append(entry)
        self.commit = write.commit

    def _install(self, write: Write, snapshot: Snapshot | None) -> None:
        assert snapshot is not None, "nothing to install"
        assert write.install is not None
        assert write.install.index == snapshot.index > self.state.index, "backwards"
        assert not write.entries, "an install with entries"
        assert write.truncate_from is None, "an install that truncates"
        self.log = []
        self.prev_index, self.prev_term = snapshot.index, snapshot.term
        self.state = snapshot

    def cut(self, index: int) -> None:
        """Forget the log up to `index`, which a checkpoint contains."""
        assert self.prev_index < index <= self.state.index, "not in a checkpoint"
        self.prev_term = self.log[index - self.prev_index - 1].term
        del self.log[: index - self.prev_index]
        self.prev_index = index

    def entries(self, lo: int, hi: int, bytes_max: int) -> list[Entry]:
        """Read entries back, as `LogReader` asks."""
        found: list[Entry] = []
        used = 0
        assert lo > self.prev_index, "cut away"
        for entry in self.log[lo - self.prev_index - 1 : hi - self.prev_index - 1]:
            used += len(entry.payload)
            if found and used > bytes_max:
                break
            found.append(entry)
        return found

    def persisted(self) -> Persisted:
        """What a core starts from."""
        return Persisted(
            membership=self.state.membership,
            hard_state=self.hard_state,
            commit=Index(self.commit),
            applied=self.state.index,
            first_index=Index(self.prev_index + 1),
            prev_term=Term(self.prev_term),
            entries=list(self.log),
            term_runs=runs_of(self.log),
            reader=self,
        )


@dataclass
class Node:
    """A core, its disk, and what came out of it."""

    core: Core
    disk: Disk
    #: What the disk will be when all writes are done: the core's own view of its log.
    log: list[Entry]
    #: The state: every entry that was handed out, or is in an installed snapshot.
    applied: list[Entry]
    writes: deque[tuple[Write, tuple[Message, ...]]] = field(default_factory=deque)
    #: Snapshots that are here whole, by what an Install names.
    loaded: dict[Install, Snapshot] = field(default_factory=dict)
    #: What was handed out one by one, by index.
    handed: dict[Index, Entry] = field(default_factory=dict)
    reads: dict[int, Index] = field(default_factory=dict)
    reads_failed: list[int] = field(default_factory=list)
    failed: list[tuple[Proposal, bool]] = field(default_factory=list)
    #: Followers that a Ready named, oldest first.
    snapshots: list[int] = field(default_factory=list)
    is_disk_held: bool = False
    is_apply_held: bool = False

    def to_install(self, write: Write) -> Snapshot | None:
        """Return the snapshot that belongs to a write, if any does."""
        return None if write.install is None else self.loaded[write.install]

    def snapshot(self) -> Snapshot:
        """Return the state as of what is applied."""
        core = self.core
        term = core.term_at(core.applied_index)
        assert term is not None, "applied, and gone from the log"
        done = tuple(e for e in self.applied if e.index <= core.applied_index)
        return Snapshot(core.applied_index, term, core.membership, done)
