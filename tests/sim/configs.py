"""Who the members are, as the committed log says it: one history for all nodes.

* Every majority of a committed configuration meets every majority of the next.
* At most one change is under way in the log of a leader that appends another.
* An id that left never comes back.

Source: RELIABILITY.md rules 39, 42 and 46; section 6, item 7.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Final

from raftd.consensus.changes import decode_change
from raftd.consensus.core import Core
from raftd.consensus.types import Entry, EntryKind, Membership
from raftd.node.roster import Roster, encode_roster
from tests.sim.world import SimFailure, World

__all__ = ["Configs", "is_quorum"]


def is_quorum(membership: Membership, nodes: Iterable[int]) -> bool:
    """Tell whether these nodes can decide, worked out without the production code."""
    there = dict.fromkeys(nodes)
    return all(
        2 * sum(voter in there for voter in half) > len(half)
        for half in (membership.voters, membership.outgoing)
        if half
    )


class Configs:
    """The history of one cluster's configurations."""

    def __init__(self, world: World) -> None:
        self._world: Final = world
        self._indexes: Final[list[int]] = []
        self._rosters: Final[list[Roster]] = []
        self._pending: Final[dict[tuple[int, int], Membership]] = {}
        self._latest_term = 0

    def begin(self, roster: Roster) -> None:
        """Learn the roster before the first entry."""
        self._indexes.append(0)
        self._rosters.append(roster)

    @property
    def latest(self) -> Roster:
        """The roster after the last change that anybody applied."""
        return self._rosters[-1]

    @property
    def count(self) -> int:
        """How many changes were applied."""
        return len(self._rosters) - 1

    @property
    def latest_index(self) -> int:
        """Where that change stands in the log."""
        return self._indexes[-1]

    def newest_first(self) -> Iterator[tuple[int, Membership]]:
        """Give all of them, with where they stand in the log."""
        for index, roster in zip(
            reversed(self._indexes), reversed(self._rosters), strict=True
        ):
            yield index, roster.membership

    def possible(self) -> list[Membership]:
        """Return every membership that may still count, beside the latest.

        What an older leader put behind the latest change cannot be committed any more:
        terms never fall within a log, and every log to come has that change.
        """
        last = self._indexes[-1]
        return [
            each
            for (index, term), each in self._pending.items()
            if index > last and term >= self._latest_term
        ]

    def check(self, node_id: int, index: int, roster: Roster) -> None:
        """Check what one node believes as of an entry."""
        at = bisect_right(self._indexes, index) - 1
        if encode_roster(self._rosters[at]) != encode_roster(roster):
            raise SimFailure(
                f"n{node_id} at {index} has {roster}, the log says {self._rosters[at]}"
            )

    def on_roster(
        self, node_id: int, index: int, roster: Roster, *, is_change: bool
    ) -> None:
        """Take in what one node made of a change, or was told by a snapshot."""
        if is_change and index > self._indexes[-1]:
            self._take(index, roster)
        else:
            self.check(node_id, index, roster)

    def _take(self, index: int, new: Roster) -> None:
        old = self._rosters[-1]
        self._indexes.append(index)
        self._rosters.append(new)
        a, b = old.membership, new.membership
        self._latest_term = max(self._latest_term, self._term_of(index, b))
        self._world.note(f"members {index}: {a} -> {b}")
        if _may_part(a, b):
            raise SimFailure(f"majorities of {a} and {b} need not meet")
        back = [n for n in b.members if n in old.removed]
        if back:
            raise SimFailure(f"{back} come back after {old.removed}")
        gone = [n for n in a.members if n not in b.members]
        if any(n not in new.removed for n in gone):
            raise SimFailure(f"{gone} may come back: {new.removed}")

    def _term_of(self, index: int, result: Membership) -> int:
        """Return the lowest term that a change may be of; 0 if nobody was seen."""
        return min(
            (
                term
                for (at, term), each in self._pending.items()
                if at == index and each == result
            ),
            default=0,
        )

    def on_appended(self, core: Core, entries: Sequence[Entry]) -> None:
        """Check what a leader appends of its own (rules 39 and 40)."""
        for entry in entries:
            if entry.kind is not EntryKind.CONFIG or entry.term != core.term:
                continue
            if not core.is_term_started:
                raise SimFailure(f"n{core.node_id} changes members before its no-op")
            result = decode_change(entry.payload).result
            assert result is not None, "a leader says what a change comes to"
            self._pending[entry.index, entry.term] = result
            low = core.applied_index + 1
            log = core._s.log  # noqa: SLF001  # nobody else needs to look there
            between = log.in_memory(low, entry.index - 1) if low < entry.index else ()
            if any(each.kind is EntryKind.CONFIG for each in between):
                raise SimFailure(f"n{core.node_id} has two changes under way")


def _may_part(a: Membership, b: Membership) -> bool:
    """Tell whether a quorum of one and a quorum of the other can have nobody common."""
    nodes = sorted({*a.voters, *a.outgoing, *b.voters, *b.outgoing})
    for count in range(len(nodes) + 1):
        for some in combinations(nodes, count):
            rest = [n for n in nodes if n not in some]
            if is_quorum(a, some) and is_quorum(b, rest):
                return True
    return False
