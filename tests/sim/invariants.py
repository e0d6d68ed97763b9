"""What must hold at every step, whatever happens, checked as it happens.

* One leader a term; every leader holds all that was committed in earlier terms.
* Logs that have an entry in common are equal before it (chained hashes). One entry an
  index is committed; answers and digests are equal wherever it is applied, and after
  an install too.
* Terms, votes, commit indexes and revisions never fall, across crashes where they are
  stored.
* What a message promises is on its sender's disk before it leaves.
* The lease clock moves by capped ticks, and never faster than true time.

Source: figure 3 of the Raft paper; RELIABILITY.md section 6, items 1 to 7 and 9.
"""

from __future__ import annotations

import dataclasses
from hashlib import blake2b
from typing import Final

import msgspec

from raftd.consensus.core import Core
from raftd.consensus.messages import (
    AppendReply,
    HeartbeatReply,
    Message,
    Vote,
    VoteReply,
)
from raftd.consensus.ready import Ready, Write
from raftd.consensus.types import Entry, EntryKind, Role
from raftd.node.roster import Roster
from raftd.statemachine.answers import AppliedEntry
from raftd.statemachine.limits import DEFAULT_LIMITS
from raftd.statemachine.machine import Machine
from tests.sim.clock import DRIFT_PPM_MAX
from tests.sim.configs import Configs
from tests.sim.disk import Disk
from tests.sim.model import Model
from tests.sim.world import SimFailure, World

__all__ = ["Invariants", "Life"]

_ENCODE: Final = msgspec.msgpack.Encoder().encode
_SLACK_MS: Final = 500
_TURNS_MAX: Final = 20_000
"""So often a core gives something out within one event."""

_Place = tuple[int, int]
"""Index and term of an entry."""


@dataclasses.dataclass(slots=True)
class Life:
    """What one node has shown since its last start."""

    node_id: int
    commit: int = 0
    term: int = 0
    revision: int = 0
    lease_term: int = 0
    lease_ms: int = 0
    installs: int = 0
    led_commit: int = 0
    step: int = 0
    turns: int = 0


class Invariants:
    """Sees every node from outside; fails at the first contradiction."""

    def __init__(self, world: World) -> None:
        self._world: Final = world
        self.model: Final = Model(world)
        self.configs: Final = Configs(world)
        self.leaders: Final[dict[int, int]] = {}
        self.committed: Final[list[Entry]] = []
        self.installs = 0
        self._commit_terms: Final[list[int]] = []
        """The term in which each entry was first seen to be committed."""
        self._answers: Final[list[bytes]] = []
        self._digests: Final[dict[int, bytes]] = {}
        self._chain: Final[dict[_Place, bytes]] = {(0, 0): b""}

    # --- the core -----------------------------------------------------------------

    def on_ready(self, life: Life, core: Core, ready: Ready) -> None:
        """Check what a core gives out, before it is carried out."""
        if life.step != self._world.steps:
            life.step, life.turns = self._world.steps, 0
        life.turns += 1
        if life.turns > _TURNS_MAX:
            raise SimFailure(f"n{life.node_id} does not come to rest")
        if core.commit_index < life.commit:
            raise SimFailure(f"n{life.node_id}: the commit index falls")
        if core.term < life.term:
            raise SimFailure(f"n{life.node_id}: the term falls")
        life.commit, life.term = core.commit_index, core.term
        if ready.soft is not None:
            soft = ready.soft
            self._world.note(
                f"n{life.node_id} {soft.role.value} {soft.term} {soft.leader}"
            )
            if soft.role is Role.LEADER:
                self._on_leader(core)
        if ready.write is not None:
            self._on_write(life, core, ready.write)
        for entry in ready.commit:
            self._on_commit(life, core, entry)

    def _on_leader(self, core: Core) -> None:
        known = self.leaders.setdefault(core.term, core.node_id)
        if known != core.node_id:
            raise SimFailure(f"two leaders in term {core.term}: {known} {core.node_id}")
        for at in range(len(self.committed) - 1, -1, -1):
            entry = self.committed[at]
            if entry.index < core.first_index:
                break
            if self._commit_terms[at] < core.term:
                if core.term_at(entry.index) != entry.term:
                    raise SimFailure(
                        f"leader {core.node_id} of {core.term} lacks {entry.index},"
                        f" committed in term {self._commit_terms[at]}"
                    )
                break  # what lies before an equal entry is equal: see _chain

    def _on_write(self, life: Life, core: Core, write: Write) -> None:
        """Chain the new entries: equal places have equal pasts."""
        if not write.entries:
            return
        first = write.entries[0]
        term = core.term_at(first.index - 1)
        assert term is not None, "what precedes a new entry is known"
        past = self._chain[first.index - 1, term]
        committed = self.committed
        for entry in write.entries:
            data = b"%d.%d." % (entry.term, entry.kind) + entry.payload
            past = blake2b(past + data, digest_size=8).digest()
            if self._chain.setdefault((entry.index, entry.term), past) != past:
                raise SimFailure(
                    f"n{life.node_id}: two pasts of {entry.index}/{entry.term}"
                )
            is_known = entry.index <= min(core.commit_index, len(committed))
            if is_known and committed[entry.index - 1] != entry:
                raise SimFailure(f"n{life.node_id} overwrites {entry.index}")
        if core.role is Role.LEADER:
            self.configs.on_appended(core, write.entries)

    def _on_commit(self, life: Life, core: Core, entry: Entry) -> None:
        committed = self.committed
        if entry.index <= len(committed):
            if committed[entry.index - 1] != entry:
                raise SimFailure(
                    f"n{life.node_id} commits another entry {entry.term}/{entry.index}"
                    f" than {committed[entry.index - 1].term}"
                )
            return
        if entry.index != len(committed) + 1:
            raise SimFailure(f"n{life.node_id} commits {entry.index} out of order")
        committed.append(entry)
        self._commit_terms.append(core.term)

    def on_sent(self, disk: Disk, message: Message) -> None:
        """Check that the sender's disk has what a message promises (rule 23)."""
        match message:
            case AppendReply() | HeartbeatReply() | VoteReply() | Vote():
                self._check_promise(disk, message)
            case _:
                pass

    def _check_promise(
        self, disk: Disk, message: AppendReply | HeartbeatReply | VoteReply | Vote
    ) -> None:
        hard = disk.hard_state
        is_kept = hard.term >= message.term
        if hard.term == message.term:
            match message:
                case AppendReply() if message.accepted:
                    is_kept = disk.last_index >= message.index
                case VoteReply() if message.granted:
                    is_kept = hard.vote == message.dst
                case Vote():
                    is_kept = hard.vote == message.src
                case _:
                    pass
        if not is_kept:
            raise SimFailure(f"promised, not on disk ({hard}): {message}")

    # --- the state ----------------------------------------------------------------

    def on_loaded(self, life: Life, index: int, roster: Roster) -> None:
        """Check what a node starts from."""
        self.configs.check(life.node_id, index, roster)

    def on_roster(self, life: Life, index: int, roster: Roster) -> None:
        """Check who the members are as of an entry that was applied or installed."""
        is_change = (
            index <= len(self.committed)
            and self.committed[index - 1].kind is EntryKind.CONFIG
        )
        self.configs.on_roster(life.node_id, index, roster, is_change=is_change)

    def on_installed(self, life: Life, index: int, digest: bytes) -> None:
        """Check a state that came from a leader: committed, equal, and newer."""
        life.installs += 1
        self.installs += 1
        self._world.note(f"n{life.node_id} installs {index}")
        if index > len(self.committed):
            raise SimFailure(f"n{life.node_id} installs {index}, not committed")
        # Who stored the checkpoint may have ended before it could tell.
        if self._digests.setdefault(index, digest) != digest:
            raise SimFailure(f"n{life.node_id} installs another state at {index}")
        if self.model.applied_index < index:
            raise SimFailure(f"{index} is installed before anybody applied it")

    def on_applied(self, life: Life, machine: Machine, applied: AppliedEntry) -> None:
        """Check an entry that one node applied, against the others and the model."""
        index = machine.applied_index
        if machine.revision < life.revision:
            raise SimFailure(f"n{life.node_id}: the revision falls")
        life.revision = machine.revision
        told = _ENCODE(
            (
                index,
                applied.answers,
                applied.revisions,
                applied.decided,
                applied.lost,
                applied.closed,
            )
        )
        if self.model.applied_index < index:
            self._skip_empty(index)
            self._check_stamp(machine)
            self.model.apply(self.committed[index - 1].payload, machine, applied)
            self._answers.append(told)
        elif self._answers[index - 1] != told:
            raise SimFailure(f"n{life.node_id} answers entry {index} otherwise")

    def _skip_empty(self, index: int) -> None:
        """Pass over no-ops and member changes, which nobody reports."""
        while self.model.applied_index < index - 1:
            entry = self.committed[self.model.applied_index]
            if entry.payload and entry.kind is EntryKind.NORMAL:
                raise SimFailure(f"entry {index} is applied before its predecessor")
            self.model.applied_index += 1
            self._answers.append(b"")

    def _check_stamp(self, machine: Machine) -> None:
        true_ms = self._world.now_us // 1000
        limit_ms = true_ms + true_ms * DRIFT_PPM_MAX // 1_000_000 + _SLACK_MS
        if machine.context.now_ms > limit_ms:
            raise SimFailure(f"the lease clock is fast: {machine.context.now_ms}")

    def on_tick(self, life: Life, term: int, lease_ms: int, cap_ms: int) -> None:
        """Check the lease clock of a node that leads, or not (0), at each tick."""
        is_same = term and term == life.lease_term
        if is_same and not 0 <= lease_ms - life.lease_ms <= cap_ms:
            raise SimFailure(f"the lease clock jumps: {life.lease_ms} {lease_ms}")
        life.lease_term, life.lease_ms = term, lease_ms

    def replayed(self) -> Machine:
        """Apply the whole log from its beginning, and compare each mark's digest."""
        machine = Machine(DEFAULT_LIMITS)
        for entry in self.committed:
            is_batch = entry.kind is EntryKind.NORMAL
            applied = machine.apply(entry.index, entry.payload if is_batch else b"")
            if applied.mark is None:
                continue
            machine.take_checkpoint().finish()
            machine.checkpoint_written()
            known = self._digests.get(entry.index, machine.digest)
            if machine.digest_index != entry.index or machine.digest != known:
                raise SimFailure(f"a replay differs from the nodes at {entry.index}")
        return machine

    def on_digest(self, node_id: int, index: int, digest: bytes) -> None:
        """Check that equal marks have equal digests."""
        if self._digests.setdefault(index, digest) != digest:
            raise SimFailure(f"n{node_id} differs from the others at mark {index}")
        self._world.note(f"n{node_id} checkpoint {index} {digest.hex()[:8]}")
