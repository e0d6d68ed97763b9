"""What a key, a waiting job, a session and an idle client take of a member's memory.

``python -m tests.bench.sizes`` compares a member that holds much with one that holds
little, by their resident memory (PSS); the difference, divided by how many more there
are, is what one takes, with all that belongs to it: indexes, tables, the allocator's
own. Two ways to come to hold it: loaded at the start of a node, and grown by applying
commands in a process with nothing but a state machine.

Rules: the least size is above the number of revisions that the history always keeps,
so that no history is counted. Of clients, what the member they are connected to takes
on, with their sessions; each has a connection of its own, and all of one process share
that of its keepalives.

Source: PERFORMANCE.md, the goals for resident memory.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import gc
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import uvloop

from raftclient import aio
from tests.bench.arguments import Parser, count_up_to, file_to_write
from tests.bench.fill import Filler, Kind
from tests.bench.fill_clients import idle_clients
from tests.bench.fill_cluster import (
    await_in_sync,
    filled_cluster,
    leader_of,
    resident_bytes,
)
from tests.bench.growth_machine import tuned_gc
from tests.bench.programs import run_program
from tests.bench.sections import Keep, Say, SectionRow, forget

__all__ = ["CLIENTS", "Plan", "grown_bytes", "main", "run"]

_SECTION: Final = "sizes"
CLIENTS: Final = "idle clients"
_GOALS: Final[dict[str, float]] = {
    Kind.KEYS: 700,
    Kind.JOBS: 1000,
    Kind.SESSIONS: 4096,
    CLIENTS: 80 * 1024,
}
_KINDS: Final = (*Kind, CLIENTS)
_LEAST: Final = 20_000
_MOST: Final = 500_000
_FEW_CLIENTS: Final = 20
_CLIENTS: Final = 300
_REST_S: Final = 2.0
_COUNT_MAX: Final = 10_000_000
_GROWN: Final = "--grown"


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Attributes:
        kinds: Of what; lines of waiters are left out, as a lock allows too few.
        least: How many there are in the smaller state.
        most: In the larger.
        few_clients: Connected in the smaller measurement.
        clients: In the larger.
        rest_s: Before memory is read.
    """

    kinds: Sequence[str] = tuple(kind for kind in _KINDS if kind != Kind.LINE)
    least: int = _LEAST
    most: int = _MOST
    few_clients: int = _FEW_CLIENTS
    clients: int = _CLIENTS
    rest_s: float = _REST_S


async def run(plan: Plan, say: Say, keep: Keep = forget) -> list[SectionRow]:
    """Measure; returns a row for each kind."""
    rows = []
    for kind in plan.kinds:
        say(f"sizes: {kind}")
        if kind == CLIENTS:
            rows.append(await _clients(plan))
        else:
            rows.append(await _things(Kind(kind), plan))
        keep(rows)
    return rows


async def _things(kind: Kind, plan: Plan) -> SectionRow:
    few = await _loaded(kind, plan.least, plan)
    many = await _loaded(kind, plan.most, plan)
    more = plan.most - plan.least
    loaded = statistics.mean(
        (big - small) / more for small, big in zip(few, many, strict=True)
    )
    grown = await _grown_elsewhere(kind, plan)
    goal = _GOALS.get(kind, 0)
    return SectionRow(
        _SECTION,
        kind,
        {"from": plan.least, "to": plan.most, "loaded B": loaded, "grown B": grown},
        goal=f"<= {goal:,.0f} B" if goal else "",
        is_met=max(loaded, grown) <= goal if goal else None,
    )


async def _loaded(kind: Kind, count: int, plan: Plan) -> list[int]:
    """Return the memory of each member of a cluster that was started with so many."""
    async with filled_cluster({kind: count}) as cluster:
        async with aio.connect(cluster.nodes.endpoints) as client:
            await await_in_sync(client)
        await asyncio.sleep(plan.rest_s)
        return [resident_bytes(cluster.nodes.pid(n)) for n in cluster.nodes.ids]


async def _grown_elsewhere(kind: Kind, plan: Plan) -> float:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.sizes", _GROWN, kind),
        *("--least", str(plan.least), "--most", str(plan.most)),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[2],
    )
    told, _ = await process.communicate()
    assert process.returncode == 0, "it has said why"
    return float(told)


def grown_bytes(kind: Kind, least: int, most: int) -> float:
    """Grow a state in this process; returns what one thing took."""
    filler = Filler()
    with tuned_gc():
        found = []
        for count in (least, most):
            filler.fill(kind, count)
            filler.settle()
            gc.collect()
            # A node's changed rows are forgotten once their checkpoint is written.
            filler.digest()
            assert filler.found(kind) == count
            found.append(resident_bytes(os.getpid()))
    return (found[1] - found[0]) / (most - least)


async def _clients(plan: Plan) -> SectionRow:
    leaders, totals = [], []
    async with filled_cluster({}) as cluster:
        nodes = cluster.nodes
        # What the first clients of a process ever take is not taken again.
        for count in (plan.few_clients, plan.few_clients, plan.clients):
            async with (
                idle_clients(nodes.endpoints, count),
                aio.connect(nodes.endpoints) as client,
            ):
                leader = (await leader_of(client)).node_id
                await asyncio.sleep(plan.rest_s)
                memory = {n: resident_bytes(nodes.pid(n)) for n in nodes.ids}
                leaders.append(memory[leader])
                totals.append(sum(memory.values()))
    more = plan.clients - plan.few_clients
    each = (leaders[-1] - leaders[-2]) / more
    goal = _GOALS[CLIENTS]
    return SectionRow(
        _SECTION,
        CLIENTS,
        {
            "from": plan.few_clients,
            "to": plan.clients,
            "leader B": each,
            "all members B": (totals[-1] - totals[-2]) / more,
        },
        goal=f"<= {goal:,.0f} B",
        is_met=each <= goal,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    plan = Plan()
    parser = Parser("sizes", "Measures what one thing takes of a member's memory.")
    add, count = parser.add_argument, count_up_to(_COUNT_MAX)
    add("--only", action="append", choices=_KINDS, help="not all kinds")
    add("--least", type=count, default=plan.least, help="things in the smaller state")
    add("--most", type=count, default=plan.most, help="things in the larger")
    add("--clients", type=count, default=plan.clients, help="idle clients")
    add("--json", type=file_to_write, metavar="FILE", help="write every row there, too")
    add(_GROWN, type=Kind, choices=[*Kind], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.least >= options.most:
        parser.error(f"--least {options.least} is not below --most {options.most}")
    if options.clients <= plan.few_clients:
        parser.error(f"--clients: the measurement begins with {plan.few_clients}")
    if options.grown is not None:
        print(grown_bytes(options.grown, options.least, options.most))
        return 0
    plan = Plan(
        options.only or plan.kinds,
        options.least,
        options.most,
        clients=options.clients,
    )
    return run_program(lambda say, keep: uvloop.run(run(plan, say, keep)), options.json)


if __name__ == "__main__":
    sys.exit(main())
