"""The models of jobs, leases and elections see what is wrong, in whole runs.

Each bug is planted; the same draws without it are among those that pass every day.

Source: RELIABILITY.md section 4, and section 6 item 8.
"""

from __future__ import annotations

import dataclasses

import pytest

from tests.mutants.catalogue import planted_named
from tests.sim.run import Simulation, swarm_options

_STEPS = 10_000
_SEEDS = 15


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("double-reserve", ""),
        ("job-lost-with-its-worker", ""),
        ("job-token-unchecked", "it holds None"),
        ("renewal-shortens", "the log says []"),
        ("reserve-not-kept", "is answered JobsReserved"),
        ("timers-before-renewals", "the log says"),
    ],
)
def test_a_planted_bug_is_seen(name: str, told: str) -> None:
    for seed in range(1, _SEEDS):
        options = dataclasses.replace(swarm_options(seed), workers=3, candidates=2)
        try:
            with planted_named(name):
                Simulation(seed, options).run(_STEPS)
        except (AssertionError, LookupError) as error:
            assert told in str(error)
            return
    pytest.fail(f"{name} was not seen")


def test_jobs_and_elections_get_somewhere() -> None:
    outcomes = [
        Simulation(
            seed, dataclasses.replace(swarm_options(seed), workers=3, candidates=2)
        ).run(_STEPS)
        for seed in range(1, 11)
    ]
    assert sum(outcome.jobs for outcome in outcomes) > 50
    assert sum(outcome.elected for outcome in outcomes) > 20
