"""Many seeds of level B: fresh ones from the commit, those that failed, and twice.

Rules: seeds and their number decide what is run, never the time, unless minutes are
asked for. A failure is one line, with the command that repeats it. What is counted are
events per second of CPU time: other work on the machine does not count.

Source: RELIABILITY.md section 6 (budgets); ``tests.sim.soak``.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import Final

from tests.proof.results import Row, new_row
from tests.proof.seeds import ROOT, fresh_seeds
from tests.service.run import Service

__all__ = [
    "GATE_SEEDS",
    "SECONDS",
    "Case",
    "Sum",
    "Told",
    "failed_cases",
    "gate",
    "pairs",
    "run_case",
    "soak",
]

SECONDS: Final = 8.0
"""Of simulated time under faults; healing and the end come on top."""
GATE_SEEDS: Final = 24
"""Fresh seeds of the gate: about 50 seconds of CPU time."""
_GATE_PAIRS: Final = 2
_FAILED: Final = Path(__file__).parent / "failed_seeds.txt"


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """One run."""

    seed: int
    seconds: float = SECONDS

    @property
    def command(self) -> str:
        """What repeats it."""
        return f"python -m tests.service --seed {self.seed} --seconds {self.seconds:g}"


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """How one run went."""

    case: Case
    steps: int
    calls: int
    unknown: int
    faults: int
    cpu_s: float
    failure: str


@dataclasses.dataclass(slots=True)
class Sum:
    """How many runs went."""

    runs: int = 0
    events: int = 0
    calls: int = 0
    unknown: int = 0
    faults: int = 0
    cpu_s: float = 0.0
    failures: list[str] = dataclasses.field(default_factory=list)

    def add(self, told: Told) -> None:
        """Count one more."""
        self.runs += 1
        self.events += told.steps
        self.calls += told.calls
        self.unknown += told.unknown
        self.faults += told.faults
        self.cpu_s += told.cpu_s
        if told.failure:
            self.failures.append(f"{told.case.command}: {told.failure}")

    def row(self, commit: str, seconds: float, command: str) -> Row:
        """Return what is kept of it, of the commit that it began with."""
        return new_row(
            "sim_b",
            commit=commit,
            runs=self.runs,
            failures=len(self.failures),
            seconds=round(seconds, 1),
            cpu_s=round(self.cpu_s, 1),
            events=self.events,
            operations=self.calls,
            unknown=self.unknown,
            faults=self.faults,
            command=command,
        )

    def line(self, seconds: float) -> str:
        """Say what it came to."""
        per_s = int(self.events / self.cpu_s) if self.cpu_s else 0
        return (
            f"simulator B: {self.runs} seeds, {self.events} events at {per_s}/s,"
            f" {self.calls} calls, {self.unknown} of them unknown, {self.faults}"
            f" faults, {len(self.failures)} failures,"
            f" {seconds:.0f} s"
        )


def run_case(case: Case) -> Told:
    """Run one; whatever comes out of it that is no outcome is a failure."""
    service = Service(case.seed)
    begin_s = time.process_time()
    failure = ""
    try:
        service.run(case.seconds)
    except Exception as error:  # whatever it is, it is what this looks for
        text = str(error).replace("\n", " ")
        failure = f"{type(error).__name__}: {text[:300]}"
    count = service.clients.count
    return Told(
        case,
        service.world.steps,
        count(lambda tally: tally.calls),
        count(lambda tally: tally.unknown),
        service.faults.count,
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
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
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
    seconds: float = SECONDS,
    minutes: float | None = None,
    jobs: int = 1,
    say: Callable[[str], None] = print,
) -> Sum:
    """Run seeds, all or as many as there is time for; say what failed."""
    end_s = None if minutes is None else time.monotonic() + 60 * minutes

    def cases() -> Iterator[Case]:
        for seed in seeds:
            if end_s is not None and time.monotonic() >= end_s:
                return
            yield Case(seed, seconds)

    return _count(cases(), jobs, say)


def failed_cases() -> list[Case]:
    """Return every run that ever failed."""
    return [
        Case(int(seed), float(seconds))
        for line in _FAILED.read_text().splitlines()
        if line and not line.startswith("#")
        for seed, seconds in [line.split()[:2]]
    ]


def pairs(seeds: Iterable[int], seconds: float) -> list[str]:
    """Run each seed in two processes that hash otherwise; return what differs."""
    chosen = [str(seed) for seed in seeds]
    command = [sys.executable, "-m", "tests.service", "--hashes"]
    running = [
        subprocess.Popen(
            [*command, "--seconds", str(seconds), "--seed", *chosen],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in ("1", "2")
    ]
    first, second = (process.communicate()[0].splitlines() for process in running)
    if not len(chosen) == len(first) == len(second):
        return [f"a run of {chosen} ended early"]
    return [
        f"seed {seed} is two runs: {one} {other}"
        for seed, one, other in zip(chosen, first, second, strict=True)
        if one != other
    ]


def gate(jobs: int, say: Callable[[str], None] = print) -> bool:
    """Run what each change has to pass; tell whether it does."""
    begin_s = time.monotonic()
    cases = [*failed_cases(), *map(Case, fresh_seeds("sim_b", GATE_SEEDS))]
    found = _count(cases, jobs, say)
    differing = pairs(fresh_seeds("sim_b/pairs", _GATE_PAIRS), SECONDS / 2)
    for line in differing:
        say(f"FAIL {line}")
    say(found.line(time.monotonic() - begin_s))
    return not found.failures and not differing
