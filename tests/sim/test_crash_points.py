"""A crash at any point of a snapshot's way leaves the old state or the new one.

Each transaction of receiver and sender is struck twice: when it has just begun (then it
is there or not) and when it is just durable. What a start makes of it is checked like
everything else, and the run goes on as others do.

Source: RELIABILITY.md rules 25, 29 and 30; DESIGN.md section 6.
"""

from __future__ import annotations

import pytest

from tests.sim.focus import SHIPPING, narrowed
from tests.sim.run import Simulation

_STEPS = 8_000
_DRAWS = SHIPPING | {"chunk_bytes": 500, "faults": ("partition",)}
_TRANSACTIONS = ("checkpoint", "cut", "install", "merge", "reset", "stage")


@pytest.mark.parametrize("moment", ["begins", "ends"])
@pytest.mark.parametrize("name", _TRANSACTIONS)
def test_a_crash_there_loses_nothing(name: str, moment: str) -> None:
    for seed in range(1, 30):
        options = narrowed(seed, _DRAWS | {"crash_at": f"{name} {moment}"})
        simulation = Simulation(seed, options)
        outcome = simulation.run(_STEPS)
        if simulation.faults.has_struck:
            assert outcome.entries > 0
            return
    pytest.fail(f"no run came to where {name} {moment}")
