"""Many seeds: fresh ones from the commit, those that ever failed, and runs twice.

Rules: seeds and their number decide what is run, never the time, unless minutes are
asked for, or it is told to end. A failure is one line, with the command that repeats
it. What is counted are events per second of CPU time: other work on the machine does
not count.

Source: RELIABILITY.md section 6 (budgets).
"""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED as FIRST
from concurrent.futures import Future, ProcessPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import Final

from tests.proof.results import Row, new_row
from tests.proof.seeds import ROOT, fresh_seeds
from tests.sim.options import draw_options
from tests.sim.run import Simulation, swarm_options
from tests.sim.world import World

__all__ = [
    "GATE_SEEDS",
    "STEPS",
    "Case",
    "Sum",
    "Told",
    "differences",
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


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """How one run went."""

    case: Case
    steps: int
    operations: int
    faults: int
    cpu_s: float
    failure: str


@dataclasses.dataclass(slots=True)
class Sum:
    """How many runs went."""

    runs: int = 0
    events: int = 0
    operations: int = 0
    faults: int = 0
    cpu_s: float = 0.0
    failures: list[str] = dataclasses.field(default_factory=list)

    def add(self, told: Told) -> None:
        """Count one more."""
        self.runs += 1
        self.events += told.steps
        self.operations += told.operations
        self.faults += told.faults
        self.cpu_s += told.cpu_s
        if told.failure:
            self.failures.append(f"{told.case.command}: {told.failure}")

    @property
    def events_per_s(self) -> int:
        """Events in a second of one process."""
        return int(self.events / self.cpu_s) if self.cpu_s else 0

    def row(self, commit: str, seconds: float, command: str) -> Row:
        """Return what is kept of it, of the commit that it began with."""
        return new_row(
            "sim_a",
            commit=commit,
            runs=self.runs,
            failures=len(self.failures),
            seconds=round(seconds, 1),
            cpu_s=round(self.cpu_s, 1),
            events=self.events,
            operations=self.operations,
            faults=self.faults,
            command=command,
        )


def run_case(case: Case) -> Told:
    """Run one; whatever comes out of it that is no outcome is a failure."""
    simulation = case.simulation()
    begin_s = time.process_time()
    failure = ""
    try:
        simulation.run(case.steps)
    except Exception as error:  # whatever it is, it is what this looks for
        text = str(error).replace("\n", " ")
        failure = f"{type(error).__name__}: {text[:300]}"
    return Told(
        case,
        simulation.world.steps,
        simulation.tally.begun,
        len(simulation.actions),
        time.process_time() - begin_s,
        failure,
    )


def _all_told(cases: Iterable[Case], jobs: int) -> Iterator[Told]:
    """Run some at a time, and tell of each as it ends."""
    if jobs == 1:
        yield from map(run_case, cases)
        return
    left = iter(cases)
    with ProcessPoolExecutor(jobs) as pool:
        under_way: set[Future[Told]] = {
            pool.submit(run_case, case) for case in islice(left, 2 * jobs)
        }
        while under_way:
            done, under_way = wait(under_way, return_when=FIRST)
            for future in done:
                yield future.result()
            under_way |= {
                pool.submit(run_case, case) for case in islice(left, len(done))
            }


def _count(cases: Iterable[Case], jobs: int, say: Callable[[str], None]) -> Sum:
    found = Sum()
    for told in _all_told(cases, jobs):
        found.add(told)
        if told.failure:
            say(f"FAIL {told.case.command}: {told.failure}")
    return found


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
        return _count(cases(), jobs, say)
    finally:
        signal.signal(signal.SIGTERM, before)


def failed_cases() -> list[Case]:
    """Return every run that ever failed."""
    return [
        Case(int(seed), int(steps), swarm, files)
        for line in _FAILED.read_text().splitlines()
        if line and not line.startswith("#")
        for seed, steps, swarm, files in [line.split()[:4]]
    ]


def pairs(seeds: Iterable[int], steps: int = STEPS) -> list[str]:
    """Run each seed in two processes that hash otherwise; return what differs."""
    chosen = list(seeds)
    command = [sys.executable, "-m", "tests.sim", "--hashes", "--steps", str(steps)]
    running = [
        subprocess.Popen(
            [*command, "--seed", *map(str, chosen)],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in ("1", "2")
    ]
    first, second = (process.communicate()[0].splitlines() for process in running)
    return differences(chosen, first, second)


def differences(
    seeds: Sequence[int], first: Sequence[str], second: Sequence[str]
) -> list[str]:
    """Compare the trace hashes of two runs of each seed."""
    if not len(seeds) == len(first) == len(second):
        return [f"a run of {seeds} ended early"]
    return [
        f"seed {seed} is two runs: {one} {other}"
        for seed, one, other in zip(seeds, first, second, strict=True)
        if one != other
    ]


def gate(jobs: int, say: Callable[[str], None] = print) -> bool:
    """Run what each change has to pass; tell whether it does."""
    begin_s = time.monotonic()
    old = failed_cases()
    fresh = [Case(seed) for seed in fresh_seeds("sim_a", GATE_SEEDS)]
    found = _count([*old, *fresh], jobs, say)
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
