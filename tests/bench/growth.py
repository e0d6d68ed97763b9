"""How costs grow from a thousand keys, jobs, sessions, waiters or watches to a million.

``python -m tests.bench.growth`` measures the state machine alone, and a cluster as its
clients see it. Sessions end at 990 k, as a cluster allows a million with those of its
clients; waiters of one lock at 9 k, as a lock allows ten thousand; watches of a cluster
at 10 k, since each has a task on its member, and an answer every second.

Source: PERFORMANCE.md; docs/performance.md says how to read it.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import uvloop

from tests.bench.fill import Kind
from tests.bench.growth_cluster import WATCHES, Pace, measure_growth
from tests.bench.growth_machine import measure_kind, measure_watches
from tests.bench.sections import (
    Say,
    SectionRow,
    say_to_person,
    table_of,
    write_rows,
)
from tests.bench.workloads import WorkloadFailed

__all__ = ["Plan", "main", "run", "sizes_of"]

_SIZES: Final = (1000, 10_000, 100_000, 1_000_000)
_MOST: Final = {Kind.SESSIONS: 990_000, Kind.LINE: 9000, WATCHES: 10_000}
_WATCHES_ALONE_MAX: Final = 100_000
_KINDS: Final = (*Kind, WATCHES)
_PACE: Final = Pace()
_APPLY: Final = "apply"
_CLUSTER: Final = "cluster"


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Attributes:
        kinds: Of what there is much.
        sizes: How much, rising; each kind ends where it has to.
        levels: The state machine alone ("apply"), a cluster ("cluster").
        pace: Of the cluster's measurements.
    """

    kinds: Sequence[str] = _KINDS
    sizes: Sequence[int] = _SIZES
    levels: Sequence[str] = (_APPLY, _CLUSTER)
    pace: Pace = dataclasses.field(default_factory=Pace)


async def run(plan: Plan, say: Say) -> list[SectionRow]:
    """Measure; returns a row for each curve of the state machine, then the clusters'.

    Raises:
        WorkloadFailed: Something did not work, or was not there at the end.
    """
    rows: list[SectionRow] = []
    for kind in plan.kinds if _APPLY in plan.levels else ():
        if kind == WATCHES:
            sizes = [n for n in plan.sizes if n <= _WATCHES_ALONE_MAX]
            rows.append(measure_watches(sizes, say))
        else:
            rows += measure_kind(Kind(kind), sizes_of(kind, plan.sizes), say)
    for kind in plan.kinds if _CLUSTER in plan.levels else ():
        sizes = sizes_of(kind, plan.sizes)
        rows += await measure_growth(kind, sizes, plan.pace, say)
    return rows


def sizes_of(kind: str, sizes: Sequence[int]) -> list[int]:
    """Return the sizes up to the most of a kind, and that itself if it is passed."""
    most = _MOST.get(kind, sizes[-1])
    return list(dict.fromkeys(min(size, most) for size in sizes))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.growth")
    add = parser.add_argument
    add("--only", action="append", choices=_KINDS, help="not all kinds")
    add("--level", action="append", choices=(_APPLY, _CLUSTER), help="not both")
    add("--sizes", type=_sizes, default=_SIZES, metavar="N,N,...")
    add("--turns", type=int, default=_PACE.turns, help="of each pair of clusters")
    add("--seconds", type=float, default=_PACE.measured_s, help="of each run")
    add("--json", type=Path, metavar="FILE", help="write every row there, too")
    options = parser.parse_args(arguments)
    plan = Plan(
        options.only or _KINDS,
        options.sizes,
        options.level or (_APPLY, _CLUSTER),
        Pace(options.turns, measured_s=options.seconds),
    )
    try:
        rows = uvloop.run(run(plan, say_to_person))
    except WorkloadFailed as failed:
        print(f"error: {failed}", file=sys.stderr)
        print("\n".join(getattr(failed, "__notes__", ())), file=sys.stderr)
        return 1
    print(table_of(rows))
    write_rows(options.json, rows)
    return 0


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(int(number) for number in text.split(","))
    if len(sizes) < 2 or sorted(set(sizes)) != [*sizes] or sizes[0] < 1000:
        raise argparse.ArgumentTypeError(f"{text} is not two or more, rising from 1000")
    return sizes


if __name__ == "__main__":
    sys.exit(main())
