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
from typing import Final

import uvloop

from tests.bench.arguments import (
    Parser,
    count_up_to,
    file_to_write,
    number_within,
)
from tests.bench.fill import Kind
from tests.bench.growth_cluster import IN_CLUSTER, WATCHES, Pace, measure_growth
from tests.bench.growth_machine import (
    ALONE,
    measure_kind,
    measure_watches,
    size_of_name,
)
from tests.bench.programs import run_program
from tests.bench.sections import Keep, Say, SectionRow

__all__ = ["Curves", "Plan", "curves_by_kind", "main", "run", "sizes_of"]

_SIZES: Final = (1000, 10_000, 100_000, 1_000_000)
_MOST: Final = {Kind.SESSIONS: 990_000, Kind.LINE: 9000, WATCHES: 10_000}
_WATCHES_ALONE_MAX: Final = 100_000
_KINDS: Final = (*Kind, WATCHES)
_PACE: Final = Pace()
_TURNS_MAX: Final = 1000
_APPLY: Final = "apply"
_CLUSTER: Final = "cluster"


_US: Final = " us"
_LEADER: Final = "cluster, processor time of the leader"
_P50: Final = "cluster, p50"

Curves = dict[str, list[tuple[float, float]]]
"""Points of size and ratio, by name."""


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


def run(plan: Plan, say: Say, keep: Keep) -> None:
    """Measure the state machine first, then clusters; rows are told as they come.

    Raises:
        WorkloadFailed: Something did not work, or was not there at the end.
    """
    rows: list[SectionRow] = []

    def told(found: Sequence[SectionRow]) -> None:
        rows.extend(found)
        keep(rows)

    # Not on a loop: Ctrl-C ends it where it is.
    for kind in plan.kinds if _APPLY in plan.levels else ():
        if kind == WATCHES:
            sizes = [n for n in plan.sizes if n <= _WATCHES_ALONE_MAX]
            told([measure_watches(sizes, say)])
        else:
            told(measure_kind(Kind(kind), sizes_of(kind, plan.sizes), say))
    for kind in plan.kinds if _CLUSTER in plan.levels else ():
        sizes = sizes_of(kind, plan.sizes)
        told(uvloop.run(measure_growth(kind, sizes, plan.pace, say)))


def sizes_of(kind: str, sizes: Sequence[int]) -> list[int]:
    """Return the sizes up to the most of a kind, and that itself if it is passed."""
    most = _MOST.get(kind, sizes[-1])
    return list(dict.fromkeys(min(size, most) for size in sizes))


def curves_by_kind(rows: Sequence[SectionRow]) -> dict[str, Curves]:
    """Return the cost at each size against the least, by kind, operation and level."""
    found: dict[str, Curves] = {}
    for row in rows:
        kind, _, operation = row.name.partition(": ")
        if row.section == ALONE:
            name = f"{operation}: state machine alone, processor time"
            found.setdefault(kind, {})[name] = _curve_alone(row)
        elif row.section == IN_CLUSTER:
            size_name, _, kind = kind.partition(" ")
            size, least = float(size_of_name(size_name)), min(_costs_us(row))
            curves = found.setdefault(kind, {})
            for figure, what in (("ratio", _LEADER), ("p50 ratio", _P50)):
                curve = curves.setdefault(f"{operation}: {what}", [(least, 1.0)])
                curve.append((size, row.figures[figure]))
    return found


def _curve_alone(row: SectionRow) -> list[tuple[float, float]]:
    costs_us = _costs_us(row)
    least = costs_us[min(costs_us)]
    return [(size, cost_us / least) for size, cost_us in costs_us.items()]


def _costs_us(row: SectionRow) -> dict[float, float]:
    """Return what an operation costs, by size, where the column names the size."""
    return {
        float(size_of_name(name.removesuffix(_US))): cost_us
        for name, cost_us in row.figures.items()
        if name.endswith(_US)
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = Parser("growth", "Measures how costs grow with what there is.")
    add = parser.add_argument
    add("--only", action="append", choices=_KINDS, help="not all kinds")
    add("--level", action="append", choices=(_APPLY, _CLUSTER), help="not both")
    add("--sizes", type=_sizes, default=_SIZES, metavar="N,N,...")
    add(
        "--turns", type=count_up_to(_TURNS_MAX), default=_PACE.turns,
        help="of each pair of clusters",
    )  # fmt: skip
    add(
        "--seconds", type=number_within(0.05, 600), default=_PACE.measured_s,
        help="of each run",
    )  # fmt: skip
    add("--json", type=file_to_write, metavar="FILE", help="write every row there, too")
    options = parser.parse_args(arguments)
    plan = Plan(
        options.only or _KINDS,
        options.sizes,
        options.level or (_APPLY, _CLUSTER),
        Pace(options.turns, measured_s=options.seconds),
    )
    return run_program(lambda say, keep: run(plan, say, keep), options.json)


def _sizes(text: str) -> tuple[int, ...]:
    """Read two sizes or more, rising from the least on."""
    one = count_up_to(_SIZES[-1], _SIZES[0])
    sizes = tuple(map(one, text.split(",")))
    if len(sizes) < 2 or sorted(set(sizes)) != [*sizes]:
        raise argparse.ArgumentTypeError(f"{text} is not two sizes or more that rise")
    return sizes


if __name__ == "__main__":
    sys.exit(main())
