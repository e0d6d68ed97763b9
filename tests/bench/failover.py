"""How long no write is acknowledged when the leader is killed, or cut off.

``python -m tests.bench.failover`` runs ours and etcd in turns: the leader is killed
with kill -9, or all packets to and from it are lost, clients' too. Then the member
comes back and all are in sync. Cutting needs root and TUN devices, as ``tests.chaos``
does: each server has a network namespace and one process in between carries packets.

``--append`` adds runs to those of a file, so that many runs can be made in pieces.

Source: PERFORMANCE.md (p50 <= 0.3x etcd's); docs/performance.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Protocol

import msgspec
import uvloop

from cluster.processes import Processes
from tests.bench.failover_ours import GroundNodes, Ours
from tests.bench.peers.base import PeerFailed, PeerMissing
from tests.bench.peers.etcd import Etcd
from tests.bench.sections import (
    Say,
    SectionRow,
    say_to_person,
    spread,
    table_of,
    write_rows,
)
from tests.bench.workloads import WorkloadFailed
from tests.chaos.ground import Ground, why_no_ground
from tests.chaos.leftovers import end_world, new_world, sweep
from tests.chaos.rules import CLIENTS, Pair, Rule

__all__ = ["Plan", "main", "merge", "run"]

_SECTION: Final = "failover"
_SIZE: Final = 3
_OURS: Final = "raftd"
_ETCD: Final = "etcd"
_KILLED: Final = "leader killed"
_CUT: Final = "leader cut off"
_FAULTS: Final = (_KILLED, _CUT)
_SHARE_MAX: Final = 0.3
_RUNS: Final = 50


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Attributes:
        runs: Of each fault on each system.
        faults: "leader killed", "leader cut off".
        has_etcd: Whether etcd takes turns with ours.
    """

    runs: int = _RUNS
    faults: Sequence[str] = _FAULTS
    has_etcd: bool = True


_Keep = Callable[[list[SectionRow]], None]


class _System(Protocol):
    """Loses its leader on demand, and has it back afterwards."""

    def rest(self) -> None: ...

    async def stop(self) -> None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class _Entrant:
    """A system under a fault."""

    name: str
    system: _System
    lose_leader: Callable[[], Awaitable[float]]


async def run(
    plan: Plan, say: Say, keep: Callable[[list[SectionRow]], None] = lambda _: None
) -> list[SectionRow]:
    """Measure; returns a row for each fault and system.

    Args:
        plan: What.
        say: Told how far it is.
        keep: Given each run by itself, so that what breaks off later is not lost.

    Raises:
        WorkloadFailed: Ours lost a write, or acknowledged none.
        PeerFailed: etcd did.
    """
    rows: list[SectionRow] = []
    for fault in plan.faults:
        sides = _killed if fault == _KILLED else _cut
        rows += _rows(fault, await sides(plan, say, keep))
    return merge([], rows)


def _rows(fault: str, pauses: dict[str, list[float]]) -> list[SectionRow]:
    if not pauses:
        return [SectionRow(_SECTION, fault, note=why_no_ground())]
    return [
        SectionRow(_SECTION, f"{fault}: {name}", samples={"pause s": found})
        for name, found in pauses.items()
    ]


def merge(before: Sequence[SectionRow], rows: Sequence[SectionRow]) -> list[SectionRow]:
    """Put the runs of two measurements together, and compute what is told of them."""
    samples: dict[str, list[float]] = {}
    notes: dict[str, str] = {}
    for row in (*before, *rows):
        samples.setdefault(row.name, []).extend(row.samples.get("pause s", ()))
        notes[row.name] = row.note
    return [
        _told(name, pauses, samples.get(name.replace(_OURS, _ETCD), []))
        if pauses
        else SectionRow(_SECTION, name, note=notes[name])
        for name, pauses in samples.items()
    ]


def _told(name: str, pauses: list[float], theirs: list[float]) -> SectionRow:
    figures = {"runs": float(len(pauses))} | spread(pauses, "s")
    is_ours = name.endswith(_OURS)
    if not is_ours or not theirs:
        return SectionRow(_SECTION, name, figures, samples={"pause s": pauses})
    share = statistics.median(pauses) / statistics.median(theirs)
    has_goal = name.startswith(_KILLED)
    return SectionRow(
        _SECTION,
        name,
        figures | {"p50 / etcd's": share},
        goal=f"<= {_SHARE_MAX}x" if has_goal else "",
        is_met=share <= _SHARE_MAX if has_goal else None,
        samples={"pause s": pauses},
    )


# --- killed --------------------------------------------------------------------------


async def _killed(plan: Plan, say: Say, keep: _Keep) -> dict[str, list[float]]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(_folder()))
        ours = Ours(Processes(folder / _OURS))
        stack.push_async_callback(ours.stop)
        await ours.start()
        entrants = [_Entrant(_OURS, ours, ours.kill_leader)]
        etcd = Etcd()
        if await _has_come(plan, etcd, folder, stack, say):
            entrants.append(_Entrant(_ETCD, etcd, etcd.kill_leader))
        return await _take_turns(_KILLED, entrants, plan.runs, say, keep)


# --- cut off -------------------------------------------------------------------------


async def _cut(plan: Plan, say: Say, keep: _Keep) -> dict[str, list[float]]:
    if why_no_ground():
        say(f"{_CUT}: {why_no_ground()}")
        return {}
    sweep()
    world = new_world()
    ground = Ground(world, "failover")
    async with AsyncExitStack() as stack:
        stack.callback(end_world, world)
        stack.callback(ground.close)
        for number in range(1, 2 * _SIZE + 1):
            ground.add_leg(number)
        folder = Path(stack.enter_context(_folder()))
        ours = Ours(GroundNodes(folder / _OURS, ground, world, _SIZE))
        stack.push_async_callback(ours.stop)
        await ours.start()
        entrants = [_Entrant(_OURS, ours, _our_cut(ours, ground))]
        hosts = [ground.host(_SIZE + n) for n in range(1, _SIZE + 1)]
        etcd = Etcd(hosts, lambda at: ground.enter(_SIZE + 1 + at))
        if await _has_come(plan, etcd, folder, stack, say):
            entrants.append(_Entrant(_ETCD, etcd, _their_cut(etcd, ground)))
        return await _take_turns(_CUT, entrants, plan.runs, say, keep)


def _our_cut(ours: Ours, ground: Ground) -> Callable[[], Awaitable[float]]:
    async def strike(node_id: int) -> None:
        ground.shape(_CUT, _alone(node_id, range(1, _SIZE + 1)))

    return lambda: ours.lose_leader(strike, lambda _: ground.clear(_CUT))


def _their_cut(etcd: Etcd, ground: Ground) -> Callable[[], Awaitable[float]]:
    legs = range(_SIZE + 1, 2 * _SIZE + 1)

    def strike(at: int) -> None:
        ground.shape(_CUT, _alone(legs[at], legs))

    return lambda: etcd.lose_leader(strike, lambda _: ground.clear(_CUT))


def _alone(node_id: int, legs: range) -> dict[Pair, Rule]:
    """Cut a node off from clients and the others, both ways."""
    others = [CLIENTS, *(leg for leg in legs if leg != node_id)]
    pairs = [pair for other in others for pair in ((node_id, other), (other, node_id))]
    return dict.fromkeys(pairs, Rule(block=True))


# --- both ----------------------------------------------------------------------------


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(
        prefix="raftd-bench-", ignore_cleanup_errors=True
    )


async def _has_come(
    plan: Plan, etcd: Etcd, folder: Path, stack: AsyncExitStack, say: Say
) -> bool:
    """Start etcd if it takes part and is there."""
    if not plan.has_etcd:
        return False
    stack.push_async_callback(etcd.stop)
    try:
        await etcd.start(folder / _ETCD)
    except PeerMissing as missing:
        say(str(missing))
        return False
    etcd.rest()
    return True


async def _take_turns(
    fault: str, entrants: Sequence[_Entrant], runs: int, say: Say, keep: _Keep
) -> dict[str, list[float]]:
    pauses: dict[str, list[float]] = {entrant.name: [] for entrant in entrants}
    for number in range(1, runs + 1):
        for entrant in entrants:
            began_s = time.perf_counter()
            pause_s = await entrant.lose_leader()
            entrant.system.rest()
            pauses[entrant.name].append(pause_s)
            keep(_rows(fault, {entrant.name: [pause_s]}))
            whole_s = time.perf_counter() - began_s
            say(
                f"{fault}, run {number} of {runs}: {entrant.name} {pause_s:.3f} s"
                f" (the run took {whole_s:.0f} s)"
            )
    return pauses


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.failover")
    add = parser.add_argument
    add("--runs", type=int, default=_RUNS, help="of each fault on each system")
    add("--only", action="append", choices=_FAULTS, help="not both faults")
    add("--alone", action="store_true", help="without etcd")
    add("--json", type=Path, metavar="FILE", help="write every run there, too")
    add("--append", action="store_true", help="add to the runs in that file")
    options = parser.parse_args(arguments)
    plan = Plan(options.runs, options.only or _FAULTS, not options.alone)
    before: list[SectionRow] = []
    if options.append and options.json is not None and options.json.exists():
        before = msgspec.json.decode(options.json.read_bytes(), type=list[SectionRow])
    rows = before

    def keep(found: list[SectionRow]) -> None:
        nonlocal rows
        rows = merge(rows, found)
        write_rows(options.json, rows)

    try:
        found = uvloop.run(run(plan, say_to_person, keep))
    except (WorkloadFailed, PeerFailed) as failed:
        print(f"error: {failed}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(table_of(rows))
        return 130
    keep([row for row in found if row.note])
    print(table_of(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
