"""Planted bugs of the production stores: looked for with nodes on real files.

Source: RELIABILITY.md rules 25 to 30, scenario 21; section 6 (real SQLite files).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from raftd.storage.log_writer import LogWriter
from raftd.storage.state_store import StateStore
from tests.mutants.bug import Bug
from tests.mutants.finders import Simulated
from tests.sim.focus import QUIET

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftd.storage.log_rows import Change, LogRow
    from raftd.storage.types import CheckpointMeta

__all__ = ["STORAGE"]

_checkpoint = StateStore.checkpoint
_store = LogWriter.store
_store_here = LogWriter.store_here


async def _store_in_two(self: StateStore, meta: CheckpointMeta, chunks: Any) -> None:
    """Store up to where the state is first, and what it is in a second transaction."""
    assert isinstance(chunks, list), "as the simulator hands them over"
    await _checkpoint(self, meta, ())
    await _checkpoint(self, meta, chunks)


def _store_kept(self: LogWriter) -> None:
    rows = self.__dict__.pop("_kept_rows", ())
    if rows:
        _store_here(self, rows)


def _keep_for_the_next(self: LogWriter, rows: Sequence[LogRow]) -> bool:
    """Say that rows are durable, and write them with those that come next."""
    _store_kept(self)
    self.__dict__["_kept_rows"] = rows
    return True


async def _store_behind_those_kept(
    self: LogWriter, changes: Sequence[Change], rows: Sequence[LogRow]
) -> None:
    _store_kept(self)
    await _store(self, changes, rows)


STORAGE: Final = (
    Bug(
        name="append-here-late",
        does="a small append on the node's own loop is taken for durable when it waits",
        breaks=("DUR",),
        repeats="rules 23 and 49",
        patches=(
            (LogWriter, "store_here", _keep_for_the_next),
            (LogWriter, "store", _store_behind_those_kept),
        ),
        finder=Simulated(
            QUIET,
            files="real",
            here=0.9,
            faults=("crash",),
            fault_interval_us=500_000,
            downtime_us=300_000,
        ),
    ),
    Bug(
        name="applied-index-apart",
        does="the applied index is stored in another transaction than its rows",
        breaks=("DET", "DUR"),
        repeats="etcd#13766 (3.5), scenario 21, rule 25",
        patches=((StateStore, "checkpoint", _store_in_two),),
        finder=Simulated(
            QUIET,
            files="real",
            mark_log_bytes=500,
            write_us=50_000,
            faults=("crash",),
            fault_interval_us=100_000,
            downtime_us=50_000,
        ),
    ),
)
