"""How much of the log is kept, and for whom.

Rules: a follower that lives (now, or when this was last decided) keeps the entries that
it still needs, as long as the log behind them stays within a bound; beyond it the
slowest have to take a snapshot. One that is silent keeps a quarter of that, so that a
restart costs no snapshot. What follows a snapshot on its way to a follower is kept
longer, up to four times the bound, or the follower would never catch up. That is looked
at again when the log is cut: the mark that says how far may be older than the transfer.

Source: RELIABILITY.md rule 31; DESIGN.md section 6.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from typing import Final

from raftd.consensus.progress import ProgressState
from raftd.consensus.types import NodeId
from raftd.consensus.view import FollowerView

__all__ = ["LogCut"]

_SAMPLE_BYTES: Final = 1 << 20
_ENTRY_OVERHEAD_BYTES: Final = 64
_SENDING_FACTOR: Final = 4
_SILENT_DIVISOR: Final = 4


class LogCut:
    """Counts the log's bytes, and decides up to where it may be cut."""

    def __init__(self, keep_bytes: int) -> None:
        """Count what is applied from here on; what the log held before counts 0."""
        self._keep_bytes: Final = keep_bytes
        self._total = 0
        # Bytes applied up to and with some entries, about every MiB.
        self._indexes: list[int] = []
        self._totals: list[int] = []
        self._lived: frozenset[NodeId] | None = None

    def start_term(self) -> None:
        """Begin to lead: nobody is known to be gone."""
        self._lived = None

    def note_applied(self, index: int, payload_bytes: int) -> None:
        """Count an entry."""
        self._total += payload_bytes + _ENTRY_OVERHEAD_BYTES
        if not self._totals or self._total - self._totals[-1] >= _SAMPLE_BYTES:
            self._indexes.append(index)
            self._totals.append(self._total)

    def note_first(self, index: int) -> None:
        """Forget what lies before the log's first entry."""
        gone = bisect_right(self._indexes, index) - 1
        if gone > 0:
            del self._indexes[:gone]
            del self._totals[:gone]

    def bytes_behind(self, index: int) -> int:
        """Return about how many bytes follow an entry, rather too many."""
        place = bisect_right(self._indexes, index)
        return self._total - (self._totals[place - 1] if place else 0)

    def choose(
        self, own_index: int, state_index: int, followers: Mapping[NodeId, FollowerView]
    ) -> int:
        """Return the last entry that nobody needs any more.

        Args:
            own_index: The last committed entry on this member's own disk.
            state_index: Of the newest checkpoint: the next snapshot.
            followers: As their leader sees them.
        """
        lives = frozenset(node for node, seen in followers.items() if seen.is_active)
        lived = self._lived if self._lived is not None else frozenset(followers)
        kept_for, self._lived = lives | lived, lives
        cut = own_index
        for node, seen in followers.items():
            if seen.state is ProgressState.SNAPSHOT:
                needed = seen.snapshot_index or state_index
                bound_bytes = _SENDING_FACTOR * self._keep_bytes
            else:
                needed, bound_bytes = seen.match_index, self._keep_bytes
            if node not in kept_for:
                bound_bytes = self._keep_bytes // _SILENT_DIVISOR
            if needed < cut and self.bytes_behind(needed) <= bound_bytes:
                cut = needed
        return cut

    def spare(self, upto: int, followers: Mapping[NodeId, FollowerView]) -> int:
        """Return how much of a cut leaves the snapshots that are on their way of use.

        Args:
            upto: The last entry that the cut would take.
            followers: As their leader sees them; nobody's if this member is none.
        """
        bound_bytes = _SENDING_FACTOR * self._keep_bytes
        for seen in followers.values():
            needed = seen.snapshot_index
            if 0 < needed < upto and self.bytes_behind(needed) <= bound_bytes:
                upto = needed
        return upto
