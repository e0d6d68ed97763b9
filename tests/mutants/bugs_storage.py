"""Planted bugs of the production stores: looked for with nodes on real files.

Source: RELIABILITY.md rules 25 to 30, scenario 21; section 6 (real SQLite files).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from raftd.storage.state_store import StateStore
from tests.mutants.bug import Bug
from tests.mutants.finders import Simulated
from tests.sim.focus import QUIET

if TYPE_CHECKING:
    from raftd.storage.types import CheckpointMeta

__all__ = ["STORAGE"]

_checkpoint = StateStore.checkpoint


async def _store_in_two(self: StateStore, meta: CheckpointMeta, chunks: Any) -> None:
    """Store up to where the state is first, and what it is in a second transaction."""
    assert isinstance(chunks, list), "as the simulator hands them over"
    await _checkpoint(self, meta, ())
    await _checkpoint(self, meta, chunks)


STORAGE: Final = (
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
