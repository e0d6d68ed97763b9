"""Many seeds: fresh ones from the commit, those that ever failed, and runs twice.

Rules: seeds and their number decide what is run, never the time, unless minutes are
asked for, or it is told to end.

Source: RELIABILITY.md section 6 (budgets); ``tests.proof.runs``.
"""

from __future__ import annotations

import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from tests.proof.runs import Sum, Told, count, failure_of, listed, run_in_pairs
from tests.proof.seeds import fresh_seeds
from tests.sim.options import draw_options
from tests.sim.run import Simulation, swarm_options
from tests.sim.world import World

__all__ = [
    "GATE_SEEDS",
    "STEPS",
    "Case",
    "failed_cases",
    "gate",
    "pairs",
    "run_case",
    "soak",
    "soak_line",
]

STEPS: Final = 10_000
GATE_SEEDS: Final = 400
"""Fresh seeds of the gate: about 100 seconds of CPU time."""
GATE_PAIRS: Final = 5
_REAL_EVERY: Final = 20
_SAY_EVERY: Final = 500
_FAILED: Final = Path(__file__).parent / "failed_seeds.txt"


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """One run: a seed, and the draws it stands for."""

    seed: int
    steps: int = STEPS
    swarm: str = "wide"
    """``narrow``: the draws of ``draw_options`` alone."""
    files: str = "model"

    def simulation(self) -> Simulation:
        """Make the run."""
        if self.swarm == "narrow":
            options = draw_options(World(self.seed).rng("options"))
        else:
            options = swarm_options(self.seed)
        return Simulation(self.seed, dataclasses.replace(options, files=self.files))

    @property
    def command(self) -> str:
        """What repeats it."""
        more = " --narrow" if self.swarm == "narrow" else ""
        more += " --files real" if self.files == "real" else ""
        return f"python -m tests.sim --seed {self.seed} --steps {self.steps}{more}"


def run_case(case: Case) -> Told:
    """Run one."""
    simulation = case.simulation()
    begin_s = time.process_time()
    failure = failure_of(lambda: simulation.run(case.steps))
    return Told(
        case,
        simulation.world.steps,
        simulation.tally.begun,
        len(simulation.actions),
        time.process_time() - begin_s,
        failure,
    )


def soak(
    seeds: Iterable[int],
    *,
    steps: int = STEPS,
    minutes: float | None = None,
    jobs: int = 1,
    say: Callable[[str], None] = print,
) -> Sum:
    """Run fresh seeds, one in twenty of them on files; say what failed."""
    end_s = math.inf if minutes is None else time.monotonic() + 60 * minutes
    told = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())

    def cases() -> Iterator[Case]:
        for number, seed in enumerate(seeds):
            if told.is_set() or time.monotonic() >= end_s:
                return
            if number and not number % _SAY_EVERY:
                say(f"begun: {number}")
            is_real = number % _REAL_EVERY == _REAL_EVERY - 1
            yield Case(seed, steps, files="real" if is_real else "model")

    try:
        return count("sim_a", cases(), run_case, jobs, say)
    finally:
        signal.signal(signal.SIGTERM, before)


def failed_cases() -> list[Case]:
    """Return every run that ever failed."""
    return [
        Case(int(seed), int(steps), swarm, files)
        for seed, steps, swarm, files, *_ in listed(_FAILED)
    ]


def pairs(seeds: Iterable[int], steps: int = STEPS) -> list[str]:
    """Run each seed in two processes that hash otherwise; return what differs."""
    words = ["tests.sim", "--hashes", "--steps", str(steps)]
    return run_in_pairs(words, seeds)


def gate(jobs: int, say: Callable[[str], None] = print) -> bool:
    """Run what each change has to pass; tell whether it does."""
    begin_s = time.monotonic()
    old = failed_cases()
    fresh = [Case(seed) for seed in fresh_seeds("sim_a", GATE_SEEDS)]
    found = count("sim_a", [*old, *fresh], run_case, jobs, say)
    differing = pairs(fresh_seeds("sim_a/pairs", GATE_PAIRS), STEPS // 2)
    for line in differing:
        say(f"FAIL {line}")
    took_s = time.monotonic() - begin_s
    say(
        f"simulator A: {len(fresh)} fresh seeds, {len(old)} that failed once,"
        f" {GATE_PAIRS} pairs, {found.events} events at {found.events_per_s}/s,"
        f" {len(found.failures) + len(differing)} failures, {took_s:.0f} s"
    )
    return not found.failures and not differing


def soak_line(found: Sum, seconds: float) -> str:
    """Say what a soak came to."""
    return (
        f"simulator A: {found.runs} seeds, {found.events} events at"
        f" {found.events_per_s}/s, {found.operations} operations,"
        f" {found.faults} faults, {len(found.failures)} failures, {seconds:.0f} s"
    )
