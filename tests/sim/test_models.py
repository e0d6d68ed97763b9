"""The models of jobs, leases and elections see what is wrong, in whole runs.

Each bug is planted; the same draws without it are among those that pass every day.
So is what is never forgotten, and a recovery that is not what a replay is.

Source: RELIABILITY.md section 4, and section 6 item 8.
"""

from __future__ import annotations

import dataclasses

import pytest

from raftd.node.batches import Batches, Proposed
from raftd.statemachine.machine import Machine
from tests.mutants.catalogue import planted_named
from tests.sim.invariants import Invariants
from tests.sim.run import Simulation, swarm_options
from tests.sim.shrink import attempt

_STEPS = 10_000
_SEEDS = 15


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("double-reserve", ""),
        ("job-lost-with-its-worker", ""),
        ("job-token-unchecked", "it holds None"),
        ("renewal-shortens", "the log says []"),
        ("reserve-not-kept", " JobsReserved(jobs="),
        ("timers-before-renewals", ""),
    ],
)
def test_a_planted_bug_is_seen(name: str, told: str) -> None:
    failure = None
    for seed in range(1, _SEEDS):
        options = dataclasses.replace(swarm_options(seed), workers=3, candidates=2)
        with planted_named(name):
            failure = attempt(Simulation(seed, options), _STEPS)
        if failure is not None:
            break
    assert failure is not None, f"{name} was not seen"
    assert told in failure.text


def test_who_is_answered_and_kept_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A settled entry that is not taken out stays for ever."""

    def keep(self: Batches, index: int, term: int) -> list[Proposed]:
        hits = list(self._proposed.get(index, []))
        if hits and hits[-1].term == term and self._in_flight:
            self._in_flight -= 1
        return hits

    monkeypatch.setattr(Batches, "settle", keep)
    failure = attempt(Simulation(2), _STEPS)
    assert failure is not None
    assert "still keeps entries" in failure.text


def test_a_replay_that_differs_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nodes agree on may still not be what the log says."""

    def replayed(self: Invariants) -> Machine:
        machine = straight(self)
        machine.apply(machine.applied_index + 1, b"")
        return machine

    straight = Invariants.replayed
    monkeypatch.setattr(Invariants, "replayed", replayed)
    failure = attempt(Simulation(2), _STEPS)
    assert failure is not None
    assert "a replay differs" in failure.text


def test_jobs_and_elections_get_somewhere() -> None:
    outcomes = [
        Simulation(
            seed, dataclasses.replace(swarm_options(seed), workers=3, candidates=2)
        ).run(_STEPS)
        for seed in range(1, 11)
    ]
    assert sum(outcome.jobs for outcome in outcomes) > 50
    assert sum(outcome.elected for outcome in outcomes) > 20
