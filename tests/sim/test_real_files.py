"""Runs on files of the production stores; what those lose or keep wrongly is seen.

Source: RELIABILITY.md section 6 (disk, real SQLite files).
"""

from __future__ import annotations

import dataclasses
from functools import partial
from random import Random

import msgspec
import pytest

from raftd.consensus.ready import Write
from raftd.consensus.types import Entry, EntryKind, HardState, Index, NodeId, Term
from raftd.node.roster import first_roster
from raftd.storage.directory import LOG_NAME
from raftd.storage.errors import StorageError
from raftd.storage.log_store import LogStore
from tests.sim.cluster import record_of
from tests.sim.real_files import RealDisk
from tests.sim.run import Simulation, swarm_options
from tests.sim.shrink import attempt

_STEPS = 6_000


def _simulation(seed: int) -> Simulation:
    options = dataclasses.replace(
        swarm_options(seed),
        files="real",
        faults=("bad-sync", "crash", "damage", "full-disk", "restart"),
        crash_points=0.01,
        fault_interval_us=500_000,
    )
    return Simulation(seed, options)


def _disk(log: list[bytes], seed: int = 0) -> RealDisk:
    disk = RealDisk(1, first_roster([1], [record_of(1)]), Random(seed))
    disk.recover()
    disk.store(_write(1, log))
    return disk


def _write(first: int, payloads: list[bytes]) -> Write:
    entries = tuple(
        Entry(Index(first + n), Term(1), EntryKind.NORMAL, payload)
        for n, payload in enumerate(payloads)
    )
    return Write(
        id=first,
        hard_state=HardState(Term(1), NodeId(1)),
        commit=Index(0),
        truncate_from=None,
        entries=entries,
    )


@pytest.mark.parametrize("seed", range(1, 6))
def test_every_promise_holds_on_files(seed: int) -> None:
    outcome = _simulation(seed).run(_STEPS)
    assert outcome.entries > 0


def test_a_store_that_forgets_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    write = LogStore.write

    async def forget(self: LogStore, what: Write) -> None:
        await write(self, msgspec.structs.replace(what, entries=()))

    monkeypatch.setattr(LogStore, "write", forget)
    failure = attempt(_simulation(2), _STEPS)
    assert failure is not None
    assert "finds on disk the log" in failure.text


def test_of_a_torn_transaction_there_is_all_or_nothing() -> None:
    ends = set()
    for seed in range(12):
        disk = _disk([b"one"])
        write = _write(2, [b"two" * 3000])
        disk.under_way.append(partial(disk.store, write))
        disk.crash(Random(seed))
        disk.recover()
        ends.add(disk.last_index)
        disk.close()
    assert ends == {1, 2}


def test_a_flipped_byte_is_found_or_changes_nothing() -> None:
    found = 0
    for seed in range(20):
        disk = _disk([b"one" * 1000, b"two" * 1000], seed)
        disk.crash(Random(0))
        disk.recover()  # which folds the write-ahead log into the file
        disk.crash(Random(0))
        disk.is_damaged = True
        disk.look()
        try:
            disk.recover()
        except StorageError:
            found += 1
        disk.close()
    assert found


def test_a_file_from_elsewhere_is_seen() -> None:
    disk, other = _disk([b"one"]), _disk([b"two"])
    for each in (disk, other):
        each.crash(Random(0))
        each.recover()
        each.crash(Random(0))
    log = other._path / LOG_NAME  # noqa: SLF001  # to be put where it does not belong
    (disk._path / LOG_NAME).write_bytes(log.read_bytes())  # noqa: SLF001  # as above
    with pytest.raises((AssertionError, StorageError)):
        disk.recover()
    for each in (disk, other):
        each.close()
