"""What the node's own loop writes to a simulated disk: slow, full, failing, cut off.

Source: ``tests.sim.files``; ``raftd.storage.log_here``.
"""

from __future__ import annotations

import dataclasses

import pytest

from raftd.node.roster import first_roster
from raftd.storage.errors import DiskFailed
from tests.sim.clock import NodeClock
from tests.sim.cluster import record_of
from tests.sim.disk import Disk
from tests.sim.files import Files
from tests.sim.loop import SimLoop
from tests.sim.run import Simulation, swarm_options
from tests.sim.world import World

_STEPS = 6_000
_STALLED_US = 70_000


class _Node:
    """A disk and a loop, and what was stored and done."""

    def __init__(self, seed: int = 0) -> None:
        self.world = World(seed)
        self.disk = Disk(first_roster([1], [record_of(1)]))
        rng = self.world.rng("disk")
        self.files = Files(self.world, self.disk, rng, write_us=500, here=1)
        clock = NodeClock(self.world.rng("clock"), 0)
        self.loop = SimLoop(self.world, "n1", clock, self.world.rng("node"), 0)
        self.stored = 0
        self.was_stored = False
        self.done_us: list[int] = []

    def store(self) -> None:
        self.stored += 1

    def write(self) -> None:
        """Write on the loop, and have something to do behind that."""
        self.was_stored = self.files.carry_out_here(self.loop, "write", 10, self.store)
        self.loop.call_soon(lambda: self.done_us.append(self.world.now_us))


def test_the_loop_stands_still_for_as_long_as_the_disk_is_slow() -> None:
    for seed in range(200):
        node = _Node(seed)
        node.files.stall(_STALLED_US)
        node.loop.enter(node.write)
        if node.was_stored:
            assert node.done_us == []
            node.world.step()
            assert node.done_us[0] >= _STALLED_US
            return
        assert (node.stored, node.done_us) == (0, [0]), "the task does it"
    pytest.fail("the loop rests always")


def test_without_room_nothing_has_happened() -> None:
    node = _Node()
    node.disk.fill()
    node.loop.enter(node.write)
    assert (node.was_stored, node.stored, node.done_us) == (False, 0, [0])


def test_a_failed_sync_may_have_stored_it() -> None:
    stored = set()
    for seed in range(20):
        node = _Node(seed)
        node.files.is_bad = True
        with pytest.raises(DiskFailed):
            node.files.carry_out_here(node.loop, "write", 10, node.store)
        stored.add(node.stored)
    assert stored == {0, 1}


def test_what_a_crash_cuts_off_is_there_or_not_and_nothing_follows_it() -> None:
    stored = set()
    for seed in range(20):
        node = _Node(seed)
        node.files.on_point = lambda _: True
        node.loop.enter(node.write)
        assert (node.was_stored, node.stored, node.done_us) == (False, 0, [])
        node.files.crash()
        stored.add(node.stored)
        assert node.disk.under_way == []
    assert stored == {0, 1}


def test_runs_write_on_the_loop_and_every_promise_holds_on_files() -> None:
    options = dataclasses.replace(
        swarm_options(3),
        here=0.9,
        files="real",
        faults=("bad-sync", "crash", "full-disk", "restart", "stall"),
        crash_points=0.01,
        fault_interval_us=500_000,
    )
    simulation = Simulation(3, options)
    outcome = simulation.run(_STEPS)
    assert outcome.entries > 0
    counts = [getattr(node.disk, "here_count", 0) for node in simulation.cluster.all()]
    assert sum(counts) > outcome.entries // 2
