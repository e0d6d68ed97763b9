"""Many runs of a simulator, one after the other or some at a time, and what they told.

Rules: the cases decide what is run. A failure is one line, with the command that
repeats it. What is counted are events per second of CPU time: other work on the machine
does not count.

Source: RELIABILITY.md section 6 (budgets).
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice
from typing import TYPE_CHECKING, Protocol, TypeVar

from tests.proof.results import Kind, Row, new_row
from tests.proof.seeds import ROOT

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "Case",
    "Sum",
    "Told",
    "count",
    "differences",
    "failure_of",
    "listed",
    "run_in_pairs",
]


class Case(Protocol):
    """One run, and all that decides it."""

    @property
    def command(self) -> str:
        """What repeats it."""


C = TypeVar("C", bound=Case)


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """How one run went.

    Attributes:
        unknown: Operations whose outcome nobody was told, where that is counted.
    """

    case: Case
    steps: int
    operations: int
    faults: int
    cpu_s: float
    failure: str
    unknown: int | None = None


@dataclasses.dataclass(slots=True)
class Sum:
    """How many runs went."""

    proof: Kind
    runs: int = 0
    events: int = 0
    operations: int = 0
    unknown: int | None = None
    faults: int = 0
    cpu_s: float = 0.0
    failures: list[str] = dataclasses.field(default_factory=list)

    def add(self, told: Told) -> None:
        """Count one more."""
        self.runs += 1
        self.events += told.steps
        self.operations += told.operations
        if told.unknown is not None:
            self.unknown = (self.unknown or 0) + told.unknown
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
        unknown = {} if self.unknown is None else {"unknown": self.unknown}
        return new_row(
            self.proof,
            commit=commit,
            runs=self.runs,
            failures=len(self.failures),
            seconds=round(seconds, 1),
            cpu_s=round(self.cpu_s, 1),
            events=self.events,
            operations=self.operations,
            **unknown,
            faults=self.faults,
            command=command,
        )


def failure_of(run: Callable[[], object]) -> str:
    """Run; whatever comes out of it that is no outcome is a failure."""
    try:
        run()
    except Exception as error:  # whatever it is, it is what this looks for
        text = str(error).replace("\n", " ")
        return f"{type(error).__name__}: {text[:300]}"
    return ""


def _all_told(
    cases: Iterable[C], run: Callable[[C], Told], jobs: int
) -> Iterator[Told]:
    """Run some at a time, and tell of each as it ends."""
    if jobs == 1:
        yield from map(run, cases)
        return
    left = iter(cases)
    with ProcessPoolExecutor(jobs) as pool:
        under_way: set[Future[Told]] = {
            pool.submit(run, case) for case in islice(left, 2 * jobs)
        }
        while under_way:
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
            under_way |= {pool.submit(run, case) for case in islice(left, len(done))}


def count(
    proof: Kind,
    cases: Iterable[C],
    run: Callable[[C], Told],
    jobs: int,
    say: Callable[[str], None],
) -> Sum:
    """Run all cases; say what failed, and return the sum of it."""
    found = Sum(proof)
    for told in _all_told(cases, run, jobs):
        found.add(told)
        if told.failure:
            say(f"FAIL {told.case.command}: {told.failure}")
    return found


def listed(path: Path) -> list[list[str]]:
    """Read a list of runs: words, a line each; ``#`` begins a remark."""
    return [
        line.split()
        for line in path.read_text().splitlines()
        if line and not line.startswith("#")
    ]


def run_in_pairs(words: Sequence[str], seeds: Iterable[int]) -> list[str]:
    """Run each seed in two processes that hash otherwise; return what differs.

    Args:
        words: Behind ``python -m``: prints one trace hash a line for ``--seed``.
        seeds: Which.
    """
    chosen = list(seeds)
    running = [
        subprocess.Popen(
            [sys.executable, "-m", *words, "--seed", *map(str, chosen)],
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
        return [f"a run of {list(seeds)} ended early"]
    return [
        f"seed {seed} is two runs: {one} {other}"
        for seed, one, other in zip(seeds, first, second, strict=True)
        if one != other
    ]
