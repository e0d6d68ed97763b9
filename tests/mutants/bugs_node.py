"""Planted bugs of the node around the core: batches, clocks, renewals, disks.

Source: RELIABILITY.md rules 14, 22, 35, 36, 49 and 51; section 6.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Final

from raftd.node import write_queue
from raftd.node.batches import Batches, Proposed
from raftd.node.lease_clock import LeaseClock
from raftd.node.replica import Replica
from raftd.storage.errors import DiskFailed, DiskFull
from tests.mutants.bug import Bug
from tests.mutants.finders import Simulated
from tests.sim.focus import BUSY

__all__ = ["NODE"]

_settle = Batches.settle
_start_clock = LeaseClock.start
_write = write_queue.WriteQueue._write  # noqa: SLF001  # put back in its own place


def _settle_by_index(self: Batches, index: int, term: int) -> list[Proposed]:
    return [
        dataclasses.replace(proposed, term=term)
        for proposed in _settle(self, index, term)
    ]


def _keep_waiting(_: Batches, __: int, ___: int) -> None:
    """Go by the index alone: an entry comes there yet."""


def _uncapped_tick(self: LeaseClock, monotonic_ms: int) -> None:
    elapsed_ms = monotonic_ms - self._last_monotonic_ms
    self._last_monotonic_ms = monotonic_ms
    self.now_ms += max(0, elapsed_ms)


def _start_from_monotonic(
    self: LeaseClock, *, now_ms: int, wall_ms: int, monotonic_ms: int
) -> None:
    """Take this machine's monotonic clock for the replicated one."""
    later_ms = max(now_ms, monotonic_ms)
    _start_clock(self, now_ms=later_ms, wall_ms=wall_ms, monotonic_ms=monotonic_ms)


def _renew_early(
    self: Replica, leases: Sequence[int], done: Callable[[Sequence[int] | None], None]
) -> None:
    if not self.may_propose:
        done(None)
        return
    done(())
    self._batches.add_renewals(leases, lambda _: None, self.monotonic_ms)


class _SwallowedError(Exception):
    """A full disk was taken for a stored write."""


async def _swallow_full(self: write_queue.WriteQueue, write: Any) -> None:
    async def ignore(_: DiskFull) -> None:
        raise _SwallowedError

    on_full, self.on_full = self.on_full, ignore
    try:
        await _write(self, write)
    except _SwallowedError:
        pass
    finally:
        self.on_full = on_full


async def _swallow_failure(self: write_queue.WriteQueue, write: Any) -> None:
    try:
        await _write(self, write)
    except DiskFailed:
        self._begin_s = None


NODE: Final = (
    Bug(
        name="another's-answer",
        does="who waits for an entry gets the answer of the one that took its place",
        breaks=("LIN", "XO"),
        repeats="scenario 20, rule 22",
        patches=(
            (Batches, "settle", _settle_by_index),
            (Batches, "take_lost", _keep_waiting),
        ),
        finder=Simulated(BUSY),
    ),
    Bug(
        name="clock-uncapped",
        does="a leader that stood still lets all leases end when it goes on",
        breaks=("LSE",),
        repeats="etcd#15247, scenario 49, rule 35",
        patches=((LeaseClock, "tick", _uncapped_tick),),
        finder=Simulated(),
    ),
    Bug(
        name="clock-of-the-machine",
        does="a new leader stamps entries by its own machine's clock",
        breaks=("LSE",),
        repeats="PySyncObj#108, scenario 52, rule 38",
        patches=((LeaseClock, "start", _start_from_monotonic),),
        finder=Simulated(),
    ),
    Bug(
        name="renewed-early",
        does="a renewal is confirmed before its entry is committed",
        breaks=("LSE", "MEX"),
        repeats="scenario 51, rule 36",
        patches=((Replica, "renew", _renew_early),),
        finder=Simulated(),
    ),
    Bug(
        name="full-disk-swallowed",
        does="a write that found no room is taken for stored",
        breaks=("DUR",),
        repeats="scenario 42, rule 51",
        patches=((write_queue.WriteQueue, "_write", _swallow_full),),
        finder=Simulated(),
    ),
    Bug(
        name="sync-error-swallowed",
        does="a write whose sync failed is taken for stored",
        breaks=("DUR",),
        repeats="PostgreSQL 2018 (fsyncgate), scenario 41, rule 49",
        patches=((write_queue.WriteQueue, "_write", _swallow_failure),),
        finder=Simulated(BUSY, faults=("bad-sync", "crash"), write_us=5000),
    ),
)
