"""A node's disk: what is durable, and writes that are not yet.

Rules: writes become durable in order, each as a whole. A crash keeps a random prefix
of those under way; nothing that was confirmed is ever lost. Term and vote only go
forward, entries have no gap, a checkpoint never goes beyond the log.

Source: RELIABILITY.md section 6 (disk), rules 23, 25, 26 and 27.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Sequence
from random import Random
from typing import Final

from raftd.consensus.messages import Message
from raftd.consensus.ready import Write
from raftd.consensus.state import Persisted
from raftd.consensus.types import Entry, HardState, Index, Membership, Term
from raftd.node.driver import _merge
from raftd.statemachine.limits import DEFAULT_LIMITS
from raftd.statemachine.machine import Machine
from raftd.statemachine.rows import Row
from tests.sim.world import SimFailure

__all__ = ["Disk", "StoredState"]

_Pending = tuple[Write, Sequence[Message]]


@dataclasses.dataclass(slots=True)
class StoredState:
    """The checkpoints of one node, merged."""

    index: int = 0
    digest: bytes = b""
    rows: dict[tuple[int, bytes], bytes | None] = dataclasses.field(
        default_factory=dict
    )


class Disk:
    """One node's two files; see the module's rules."""

    def __init__(self, membership: Membership) -> None:
        self.hard_state = HardState()
        self.commit = 0
        self.first_index = 1
        self.prev_term = 0
        self.log: list[Entry] = []
        self.state: Final = StoredState()
        self.pending: Final[deque[_Pending]] = deque()
        self._membership: Final = membership
        self._working: _Pending | None = None

    @property
    def last_index(self) -> int:
        """The last durable entry."""
        return self.first_index - 1 + len(self.log)

    def term_at(self, index: int) -> int:
        """The term of a durable entry."""
        if index == self.first_index - 1:
            return self.prev_term
        return self.log[index - self.first_index].term

    # --- writes -----------------------------------------------------------------

    @property
    def is_working(self) -> bool:
        """Whether a write is under way."""
        return self._working is not None

    def begin(self) -> bool:
        """Take up the next writes, merged as the driver merges them."""
        if self._working is None and self.pending:
            self._working = _merge(self.pending)
            return True
        return False

    def finish(self) -> _Pending:
        """Make durable what was taken up."""
        done, self._working = self._working, None
        assert done is not None, "nothing is under way"
        self._store(done[0])
        return done

    def crash(self, rng: Random) -> None:
        """Keep some of the writes under way, from the oldest on."""
        writes = [self._working, *self.pending] if self._working else [*self.pending]
        for write, _ in writes[: rng.randint(0, len(writes))]:
            self._store(write)
        self._working = None
        self.pending.clear()

    def _store(self, write: Write) -> None:
        hard, old = write.hard_state, self.hard_state
        if hard is not None:
            if (hard.term, hard.vote or 0) < (old.term, old.vote or 0) or (
                hard.term == old.term and old.vote not in {None, hard.vote}
            ):
                raise SimFailure(f"hard state goes back: {old} then {hard}")
            self.hard_state = hard
        if write.truncate_from is not None:
            if write.truncate_from <= max(self.commit, self.state.index):
                raise SimFailure(f"a committed entry is cut: {write.truncate_from}")
            del self.log[write.truncate_from - self.first_index :]
        for entry in write.entries:
            if entry.index != self.last_index + 1:
                raise SimFailure(f"a gap on disk before {entry.index}")
            self.log.append(entry)
        self.commit = max(self.commit, min(write.commit, self.last_index))

    # --- checkpoints ----------------------------------------------------------------

    def put_checkpoint(self, index: int, digest: bytes, rows: Iterable[Row]) -> None:
        """Store a checkpoint, all of it or nothing."""
        if index > self.last_index:
            raise SimFailure(f"checkpoint {index} beyond the log {self.last_index}")
        self.state.index, self.state.digest = index, digest
        for table, key, value in rows:
            self.state.rows[table, key] = value

    def cut_prefix(self, upto: int) -> None:
        """Forget entries up to and with this index."""
        if upto > self.state.index:
            raise SimFailure(
                f"the log is cut at {upto}, the state at {self.state.index}"
            )
        self.prev_term = self.term_at(upto)
        del self.log[: upto + 1 - self.first_index]
        self.first_index = upto + 1

    # --- start --------------------------------------------------------------------

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
            last_start = min(max(self.commit, self.state.index) + 1, self.last_index)
            tail = rng.randint(self.first_index, max(self.first_index, last_start))
        runs: list[tuple[Index, Term]] = []
        for entry in self.log:
            if not runs or runs[-1][1] != entry.term:
                runs.append((entry.index, entry.term))
        return Persisted(
            membership=self._membership,
            hard_state=self.hard_state,
            commit=Index(self.commit),
            applied=Index(self.state.index),
            first_index=Index(self.first_index),
            prev_term=Term(self.prev_term),
            entries=self.log[tail - self.first_index :],
            term_runs=runs,
            reader=self,
        )

    def load_machine(self) -> Machine:
        """Build the state of the newest checkpoint."""
        if not self.state.index:
            return Machine(DEFAULT_LIMITS)
        rows = [(table, key, value) for (table, key), value in self.state.rows.items()]
        return Machine.load(
            DEFAULT_LIMITS, rows, index=self.state.index, digest=self.state.digest
        )
