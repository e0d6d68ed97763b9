"""What log.db says, as of the last write that is durable; and what may follow.

Source: DESIGN.md section 6 (log.db); RELIABILITY.md rules 23 to 26.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from raftd.consensus.types import Entry, HardState, Index
from raftd.storage.log_rows import CutPoint, LogHead, LogRow, chain_rows

__all__ = ["Known", "assert_forward", "later_state"]


class Known(msgspec.Struct, frozen=True, gc=False):
    """What log.db says, as of the last write that is durable."""

    hard_state: HardState
    commit: Index
    sealed_index: Index
    cut: CutPoint
    last_index: Index
    last_crc: int

    @property
    def head(self) -> LogHead:
        """What the meta row of this name holds."""
        return LogHead(self.hard_state, self.commit, self.sealed_index)

    def chain(self, entries: Sequence[Entry]) -> list[LogRow]:
        """Make rows of entries that follow the last one."""
        # Everything before these was synced: one write ends before the next begins.
        return chain_rows(self.last_index, self.last_crc, self.commit, entries)

    def after(self, rows: Sequence[LogRow]) -> Known:
        """Return the same behind some more rows, at least one."""
        return replace(self, last_index=Index(rows[-1].idx), last_crc=rows[-1].crc)


def later_state(ours: HardState, theirs: HardState) -> HardState:
    """Choose so that neither term nor vote goes back."""
    if theirs.term > ours.term:
        return theirs
    return theirs if theirs.term == ours.term and ours.vote is None else ours


def assert_forward(old: HardState, new: HardState) -> None:
    """Neither term nor vote goes back, and a term has one vote."""
    assert new.term >= old.term, "the term went back"
    if new.term == old.term and old.vote is not None:
        assert new.vote == old.vote, "a second vote in one term"
