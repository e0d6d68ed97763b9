"""Many seeds of level B: fresh ones from the commit, those that failed, and twice.

Rules: seeds and their number decide what is run, never the time, unless minutes are
asked for.

Source: RELIABILITY.md section 6 (budgets); ``tests.proof.runs``.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from tests.proof.runs import Sum, Told, count, failure_of, listed, run_in_pairs
from tests.proof.seeds import fresh_seeds
from tests.service.run import Service

__all__ = [
    "GATE_SEEDS",
    "SECONDS",
    "Case",
    "failed_cases",
    "gate",
    "pairs",
    "run_case",
    "soak",
    "soak_line",
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


def run_case(case: Case) -> Told:
    """Run one."""
    service = Service(case.seed)
    begin_s = time.process_time()
    failure = failure_of(lambda: service.run(case.seconds))
    tally = service.clients.count
    return Told(
        case,
        service.world.steps,
        tally(lambda told: told.calls),
        service.faults.count,
        time.process_time() - begin_s,
        failure,
        unknown=tally(lambda told: told.unknown),
    )


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

    return count("sim_b", cases(), run_case, jobs, say)


def failed_cases() -> list[Case]:
    """Return every run that ever failed."""
    return [Case(int(seed), float(seconds)) for seed, seconds, *_ in listed(_FAILED)]


def pairs(seeds: Iterable[int], seconds: float) -> list[str]:
    """Run each seed in two processes that hash otherwise; return what differs."""
    words = ["tests.service", "--hashes", "--seconds", str(seconds)]
    return run_in_pairs(words, seeds)


def gate(jobs: int, say: Callable[[str], None] = print) -> bool:
    """Run what each change has to pass; tell whether it does."""
    begin_s = time.monotonic()
    cases = [*failed_cases(), *map(Case, fresh_seeds("sim_b", GATE_SEEDS))]
    found = count("sim_b", cases, run_case, jobs, say)
    differing = pairs(fresh_seeds("sim_b/pairs", _GATE_PAIRS), SECONDS / 2)
    for line in differing:
        say(f"FAIL {line}")
    say(soak_line(found, time.monotonic() - begin_s))
    return not found.failures and not differing


def soak_line(found: Sum, seconds: float) -> str:
    """Say what a soak came to."""
    return (
        f"simulator B: {found.runs} seeds, {found.events} events at"
        f" {found.events_per_s}/s, {found.operations} calls, {found.unknown or 0} of"
        f" them unknown, {found.faults} faults, {len(found.failures)} failures,"
        f" {seconds:.0f} s"
    )
