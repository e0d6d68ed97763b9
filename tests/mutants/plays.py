"""Scenarios on the simulator's nodes for what random runs do not show.

Random runs end in peace: whatever only fails as long as work goes on is played here.
"""

from __future__ import annotations

from typing import Final

from tests.sim.focus import SHIPPING, narrowed
from tests.sim.options import Options
from tests.sim.run import Simulation
from tests.sim.virtual import virtual

__all__ = ["a_member_that_was_away_comes_back_under_load"]

_SECOND_US: Final = 1_000_000
_NEAR: Final = 5


def _loaded_options() -> Options:
    return narrowed(
        1,
        SHIPPING
        | {
            "faults": (),
            "crash_points": 0,
            "turn_lag_us": 0,
            "latency_us": 10_000,
            "election_ticks": 20,
            "mark_log_bytes": 1000,
            "log_keep_bytes": 10_000,
            "clients": 4,
            "op_interval_us": 20_000,
        },
    )


def _count(simulation: Simulation) -> int:
    return len(simulation.invariants.committed)


def a_member_that_was_away_comes_back_under_load() -> None:
    """One is down until its place in the log is cut, and has to come back in time.

    The snapshot that it needs is long under way, while clients write and the log is cut
    again and again: what follows the snapshot has to be kept for it.
    """
    simulation = Simulation(1, _loaded_options())
    world, cluster = simulation.world, simulation.cluster
    with virtual(simulation.options.chunk_bytes):
        try:
            simulation.begin()
            while world.now_us < 3 * _SECOND_US:
                world.step()
            away = next(node for node in cluster.all() if not node.is_leader)
            away.crash()
            while world.now_us < 8 * _SECOND_US:
                world.step()
            away.start()
            had = _count(simulation)
            while world.now_us < 20 * _SECOND_US:
                world.step()
                replica = away.replica
                assert replica is not None, "it stays"
                applied, all_of_it = replica.core.applied_index, _count(simulation)
                if had < applied >= all_of_it - _NEAR:
                    return
        finally:
            cluster.stop()
    raise AssertionError("a member that was away does not come back under load")
