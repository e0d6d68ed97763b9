"""A node's disk: log and state as they are durable, and what is on its way to them.

Rules: each transaction is stored as a whole or not at all. A crash keeps any of those
under way and nothing that was not begun; what was confirmed is never lost. Term and
vote only go forward, entries have no gap, a checkpoint never goes beyond the log. A
start completes the log of an install whose state alone is there, as ``open_stores``
does, and refuses what was damaged.

Source: RELIABILITY.md section 6 (disk), rules 23, 25 to 29, 49 and 50.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from raftd.consensus.ready import Write
from raftd.consensus.state import Persisted
from raftd.consensus.types import Entry, HardState, Index, Term
from raftd.node.roster import Roster, decode_roster, encode_roster
from raftd.statemachine.limits import DEFAULT_LIMITS
from raftd.statemachine.machine import Machine
from raftd.storage.chunks import Row, unpack
from raftd.storage.errors import DamagedFiles
from raftd.storage.types import NO_DIGEST, CheckpointMeta, InstallMark
from tests.sim.world import SimFailure

__all__ = ["Disk", "Staged"]

_PLENTY_BYTES: Final = 1 << 40


@dataclasses.dataclass(slots=True)
class Staged:
    """A snapshot on its way in."""

    offer_id: bytes
    chunks: list[bytes] = dataclasses.field(default_factory=list)


class Disk:
    """One node's two files; see the module's rules."""

    def __init__(self, roster: Roster) -> None:
        """Make a disk whose only content is the first roster."""
        self.hard_state = HardState()
        self.commit = 0
        self.first_index = 1
        self.prev_term = 0
        self.log: list[Entry] = []
        self.install_id = b""
        self.meta = CheckpointMeta(Index(0), Term(0), NO_DIGEST, encode_roster(roster))
        self.base: list[bytes] = []
        self.deltas: list[bytes] = []
        self.staged: Staged | None = None
        self.installs = 0
        """A merge that began under another count comes to nothing."""
        self.under_way: Final[list[Callable[[], object]]] = []
        self.is_damaged = False
        self.room_bytes = _PLENTY_BYTES
        self.has_ballast = True

    @property
    def last_index(self) -> int:
        """The last durable entry."""
        return self.first_index - 1 + len(self.log)

    @property
    def state_index(self) -> int:
        """Of the newest checkpoint."""
        return self.meta.applied_index

    def term_at(self, index: int) -> int:
        """The term of a durable entry."""
        if index == self.first_index - 1:
            return self.prev_term
        return self.log[index - self.first_index].term

    def has(self, index: int, term: int | None) -> bool:
        """Tell whether an entry, which is committed if it is cut away, is here."""
        if index < self.first_index:
            return True
        return index <= self.last_index and self.term_at(index) == term

    def voted(self, term: int, candidate: int) -> bool:
        """Tell whether the vote may have gone to a candidate in a term."""
        hard = self.hard_state
        return hard.term > term or (hard.term == term and hard.vote == candidate)

    def crash(self, rng: Random) -> None:
        """Keep some of the transactions under way."""
        for store in self.under_way:
            if rng.random() < 0.5:
                store()
        self.under_way.clear()

    # --- the log ------------------------------------------------------------------

    def store(self, write: Write) -> None:
        """Store a write of the core."""
        hard, old = write.hard_state, self.hard_state
        if hard is not None:
            if (hard.term, hard.vote or 0) < (old.term, old.vote or 0) or (
                hard.term == old.term and old.vote not in {None, hard.vote}
            ):
                raise SimFailure(f"hard state goes back: {old} then {hard}")
            self.hard_state = hard
        if write.truncate_from is not None:
            if write.truncate_from <= max(self.commit, self.state_index):
                raise SimFailure(f"a committed entry is cut: {write.truncate_from}")
            del self.log[write.truncate_from - self.first_index :]
        for entry in write.entries:
            if entry.index != self.last_index + 1:
                raise SimFailure(f"a gap on disk before {entry.index}")
            self.log.append(entry)
        self.commit = max(self.commit, min(write.commit, self.last_index))

    def store_here(self, write: Write) -> None:
        """Store a write that only appends, while the node's loop waits."""
        self.store(write)

    def cut_prefix(self, upto: int) -> None:
        """Forget entries up to and with this index."""
        if upto < self.first_index:
            return
        if upto > self.state_index:
            raise SimFailure(f"the log is cut at {upto}, the state at {self.meta}")
        self.prev_term = self.term_at(upto)
        del self.log[: upto + 1 - self.first_index]
        self.first_index = upto + 1

    def reset(self, index: int, term: int, mark: InstallMark) -> None:
        """Begin the log anew behind an installed state."""
        if self.state_index < index:
            raise SimFailure(f"the log is reset at {index}, the state at {self.meta}")
        ours, theirs = self.hard_state, mark.hard_state
        if theirs.term > ours.term or (theirs.term == ours.term and ours.vote is None):
            self.hard_state = theirs
        self.log.clear()
        self.first_index, self.prev_term = index + 1, term
        self.commit = index
        self.install_id = mark.install_id

    # --- the state ------------------------------------------------------------------

    def put_checkpoint(self, meta: CheckpointMeta, chunks: list[bytes]) -> None:
        """Store what changed since the last checkpoint."""
        if meta.applied_index > self.last_index:
            raise SimFailure(f"the state {meta.applied_index} leads {self.last_index}")
        if meta.applied_index <= self.state_index:
            raise SimFailure(f"a checkpoint goes back: {meta} after {self.meta}")
        self.meta = meta
        self.deltas.extend(chunks)

    def put_staged(self, offer_id: bytes, first: int, chunks: list[bytes]) -> None:
        """Store chunks of a snapshot where nobody sees them."""
        staged = self.staged
        if staged is None or staged.offer_id != offer_id:
            staged = self.staged = Staged(offer_id)
        if first > len(staged.chunks):
            raise SimFailure(f"a gap before chunk {first}")
        staged.chunks.extend(chunks[len(staged.chunks) - first :])

    def install(self, offer_id: bytes, count: int, meta: CheckpointMeta) -> None:
        """Make the staged chunks the state."""
        if self.meta == meta:
            return
        staged = self.staged
        if staged is None or (staged.offer_id, len(staged.chunks)) != (offer_id, count):
            raise SimFailure(f"what is installed is not staged: {meta}")
        if meta.applied_index <= self.state_index:
            raise SimFailure(f"an install goes back: {meta} after {self.meta}")
        self.meta = meta
        self.base, self.deltas = staged.chunks, []
        self.staged = None
        self.installs += 1

    def drop_staged(self) -> None:
        """Forget what is staged."""
        self.staged = None

    def swap_base(self, delta_count: int, merged: list[bytes]) -> None:
        """Put one base in the place of the old one and some deltas."""
        del self.deltas[:delta_count]
        self.base = merged

    # --- start --------------------------------------------------------------------

    def look(self) -> None:
        """Look whether it is damaged.

        Raises:
            DamagedFiles: It is.
        """
        if self.is_damaged:
            raise DamagedFiles("log.db is damaged.")

    def close(self) -> None:
        """Nobody needs it any more."""

    def recover(self) -> None:
        """Complete what a crash interrupted."""
        meta = self.meta
        if meta.install is not None and meta.install.install_id != self.install_id:
            self.reset(meta.applied_index, meta.applied_term, meta.install)
        if not self.first_index - 1 <= meta.applied_index <= self.last_index:
            raise SimFailure(f"log {self.first_index}-{self.last_index}, state {meta}")
        if self.term_at(meta.applied_index) != meta.applied_term:
            raise SimFailure(f"the log has another entry than the state {meta}")

    @property
    def roster(self) -> Roster:
        """The roster of the newest checkpoint."""
        return decode_roster(self.meta.membership)

    def entries(self, lo: int, hi: int, bytes_max: int) -> list[Entry]:
        """Read entries back, as ``LogReader`` asks."""
        found: list[Entry] = []
        used = 0
        for entry in self.log[lo - self.first_index : hi - self.first_index]:
            used += len(entry.payload)
            if found and used > bytes_max:
                break
            found.append(entry)
        return found

    def persisted(self, rng: Random) -> Persisted:
        """Read what a core starts from; how much of the log varies."""
        tail = self.first_index
        if self.log:
            last_start = min(max(self.commit, self.state_index) + 1, self.last_index)
            tail = rng.randint(self.first_index, max(self.first_index, last_start))
        runs: list[tuple[Index, Term]] = []
        for entry in self.log:
            if not runs or runs[-1][1] != entry.term:
                runs.append((entry.index, entry.term))
        return Persisted(
            membership=self.roster.membership,
            hard_state=self.hard_state,
            commit=Index(self.commit),
            applied=Index(self.state_index),
            first_index=Index(self.first_index),
            prev_term=Term(self.prev_term),
            entries=self.log[tail - self.first_index :],
            term_runs=runs,
            reader=self,
        )

    def rows(self) -> Iterator[Row]:
        """Give all rows, oldest first."""
        for chunk in (*self.base, *self.deltas):
            yield from unpack(chunk)

    def load_machine(self) -> Machine:
        """Build the state of the newest checkpoint."""
        if not self.state_index:
            return Machine(DEFAULT_LIMITS)
        return Machine.load(
            DEFAULT_LIMITS,
            self.rows(),
            index=self.state_index,
            digest=self.meta.digest,
        )

    # --- room ---------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Whether there is not room for everything."""
        return self.room_bytes < _PLENTY_BYTES

    def take_room(self, size_bytes: int) -> bool:
        """Use room; False if there is none."""
        if not self.is_full:
            return True
        if size_bytes > self.room_bytes:
            return False
        self.room_bytes -= size_bytes
        return True

    def fill(self) -> None:
        """Somebody else uses all room."""
        self.room_bytes = 0

    def clean(self) -> None:
        """There is plenty of room again."""
        self.room_bytes = _PLENTY_BYTES
