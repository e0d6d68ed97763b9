"""Half the peak rate for long: do memory, latency and files stay as they are?

``python -m tests.bench.soak`` finds the peak of a mixed load within seconds, then runs
half of it for 30 minutes against three nodes with their defaults, and tells each
minute. At the end a line is fitted through the minutes, without the first third: the
history of events takes five minutes to be as long as it gets, and the log some to be
full.

Rules: "flat" is a line that rises by no more than a tenth of its mean over the run, for
tails by a half; "bounded" is a file no larger in the last third than it was in the
middle one, give or take a quarter. Of fewer than nine minutes nothing is said.

Source: PERFORMANCE.md; docs/performance.md.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import uvloop

from cluster.processes import Processes
from raftclient import aio
from tests.bench.arguments import (
    Parser,
    count_up_to,
    file_to_write,
    number_within,
)
from tests.bench.fill_cluster import leader_of, resident_bytes
from tests.bench.measure import quantile
from tests.bench.ours import cluster
from tests.bench.programs import run_program
from tests.bench.sections import Keep, Say, SectionRow, forget
from tests.bench.soak_load import Load

__all__ = ["Plan", "by_minute", "line_of", "main", "run", "verdicts"]

_SECTION: Final = "soak"
_MINUTE: Final = "minute "
_VERDICT: Final = "soak, verdict"
_MIB: Final = 1 << 20
_TASKS: Final = (64, 256)
_TIMEOUT_S: Final = 30.0
_MINUTES_MIN: Final = 9
_MINUTES_MAX: Final = 100_000
_FLAT: Final = 0.10
_FLAT_TAIL: Final = 0.50
_BOUNDED: Final = 1.25
_LOG: Final = "log.db MiB"
_STATE: Final = "state.db MiB"
_LEADER: Final = "leader MiB"
_CLIENT: Final = "client MiB"
_MOST: Final = "largest follower MiB"


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How long.

    Attributes:
        minutes: How many rows.
        minute_s: How long a row is.
        search_s: For each attempt at the peak.
        share: Of the peak.
    """

    minutes: int = 30
    minute_s: float = 60.0
    search_s: float = 5.0
    share: float = 0.5


async def run(plan: Plan, say: Say, keep: Keep = forget) -> list[SectionRow]:
    """Measure; returns a row for each minute, then the verdicts.

    Raises:
        WorkloadFailed: The cluster did not keep up, or not hold what it acknowledged.
    """
    async with (
        cluster() as nodes,
        aio.connect(nodes.endpoints, timeout_s=_TIMEOUT_S) as client,
    ):
        load = Load(client)
        await load.prepare()
        peak = max([await load.run_closed(tasks, plan.search_s) for tasks in _TASKS])
        rate = peak * plan.share
        say(f"soak: peak {peak:,.0f} operations/s, runs at {rate:,.0f}")
        rows = [SectionRow(_VERDICT, "rate", {"peak op/s": peak, "op/s": rate})]
        for number in range(1, plan.minutes + 1):
            load.latencies_s.clear()
            await load.run_paced(rate, plan.minute_s)
            rows.append(await _minute(number, load, nodes, client, plan.minute_s))
            say(f"soak: minute {number}: {_short(rows[-1])}")
            keep([*rows[1:], rows[0]])
        await load.verify()
        found = [*rows[1:], rows[0], *verdicts(rows[1:])]
        keep(found)
        return found


def _short(row: SectionRow) -> str:
    return ", ".join(f"{name} {value:,.2f}" for name, value in row.figures.items())


async def _minute(
    number: int, load: Load, nodes: Processes, client: aio.Client, minute_s: float
) -> SectionRow:
    leader = (await leader_of(client)).node_id
    ordered = sorted(load.latencies_s)
    memory = {n: resident_bytes(nodes.pid(n)) / _MIB for n in nodes.ids}
    return SectionRow(
        _SECTION,
        f"{_MINUTE}{number}",
        {
            "op/s": len(ordered) / minute_s,
            "p50 ms": quantile(ordered, 0.5) * 1000,
            "p99 ms": quantile(ordered, 0.99) * 1000,
            "max ms": quantile(ordered, 1.0) * 1000,
            _LEADER: memory.pop(leader),
            _MOST: max(memory.values()),
            _CLIENT: resident_bytes(os.getpid()) / _MIB,
            _LOG: max(_size_mib(nodes.data_dir(n), "log.db") for n in nodes.ids),
            _STATE: max(_size_mib(nodes.data_dir(n), "state.db") for n in nodes.ids),
        },
    )


def _size_mib(folder: Path, name: str) -> float:
    """Return the size of a database with its write-ahead log."""
    return sum(path.stat().st_size for path in folder.glob(f"{name}*")) / _MIB


def verdicts(minutes: Sequence[SectionRow]) -> list[SectionRow]:
    """Judge what was told each minute."""
    if len(minutes) < _MINUTES_MIN:
        note = f"nothing is said of fewer than {_MINUTES_MIN} minutes"
        return [SectionRow(_VERDICT, "all", note=note)]
    tolerances = {
        **dict.fromkeys((_LEADER, _MOST, _CLIENT, "p50 ms"), _FLAT),
        "p99 ms": _FLAT_TAIL,
    }
    found = []
    for name, share in tolerances.items():
        values = [row.figures[name] for row in minutes[len(minutes) // 3 :]]
        found.append(_flat(name, values, share))
    files = [
        _bounded(name, [row.figures[name] for row in minutes])
        for name in (_LOG, _STATE)
    ]
    return found + files


def _flat(name: str, values: Sequence[float], share: float) -> SectionRow:
    slope = line_of(values)
    rise = slope * (len(values) - 1) / statistics.mean(values)
    return SectionRow(
        _VERDICT,
        name,
        {
            "mean": statistics.mean(values),
            "per minute": slope,
            "over the run": rise,
        },
        goal=f"flat: <= {share:+.0%}",
        is_met=rise <= share,
    )


def _bounded(name: str, values: Sequence[float]) -> SectionRow:
    third = len(values) // 3
    middle, last = max(values[third:-third]), max(values[-third:])
    return SectionRow(
        _VERDICT,
        name,
        {"middle third max": middle, "last third max": last, "ratio": last / middle},
        goal=f"bounded: <= {_BOUNDED}x",
        is_met=last <= middle * _BOUNDED,
    )


def by_minute(rows: Sequence[SectionRow]) -> dict[int, dict[str, float]]:
    """Return the figures of each minute."""
    return {
        int(row.name.removeprefix(_MINUTE)): row.figures
        for row in rows
        if row.section == _SECTION and row.name.startswith(_MINUTE)
    }


def line_of(values: Sequence[float]) -> float:
    """Return by how much the best line rises from each value to the next."""
    return statistics.linear_regression(range(len(values)), values).slope


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = Parser("soak", "Runs half the peak rate for long.")
    add = parser.add_argument
    add("--minutes", type=count_up_to(_MINUTES_MAX), default=Plan().minutes)
    add(
        "--minute-seconds", type=number_within(0.1, 600), default=Plan().minute_s,
        metavar="S", help="how long a row is",
    )  # fmt: skip
    add("--json", type=file_to_write, metavar="FILE", help="write every row there, too")
    options = parser.parse_args(arguments)
    plan = Plan(options.minutes, options.minute_seconds)
    return run_program(lambda say, keep: uvloop.run(run(plan, say, keep)), options.json)


if __name__ == "__main__":
    sys.exit(main())
