"""How long no write is acknowledged when the leader is killed, or cut off.

``python -m tests.bench.failover`` runs ours and etcd in turns: the leader is killed
with kill -9, or all packets to and from it are lost, clients' too. Then the member
comes back and all are in sync. Cutting needs root and TUN devices, as ``tests.chaos``
does: each server has a network namespace and one process in between carries packets.

``--append`` adds runs to those of a file, so that many runs can be made in pieces.

Source: PERFORMANCE.md (p50 <= 0.3x etcd's); docs/performance.md.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Protocol

import uvloop

from cluster.processes import Processes
from tests.bench.arguments import Parser, count_up_to, file_to_write
from tests.bench.failover_ours import GroundNodes, Ours
from tests.bench.peers.base import PeerMissing
from tests.bench.peers.etcd import Etcd
from tests.bench.programs import run_program
from tests.bench.record import RecordError, read_records
from tests.bench.sections import Keep, Say, SectionRow, forget, spread
from tests.chaos.ground import Ground, why_no_ground
from tests.chaos.leftovers import end_world, new_world, sweep
from tests.chaos.rules import CLIENTS, Pair, Rule

__all__ = ["Pauses", "Plan", "main", "merge", "pauses_by_fault", "run"]

_SECTION: Final = "failover"
_SIZE: Final = 3
_OURS: Final = "raftd"
_ETCD: Final = "etcd"
_KILLED: Final = "leader killed"
_CUT: Final = "leader cut off"
_PAUSE: Final = "pause s"
_FAULTS: Final = (_KILLED, _CUT)
_SHARE_MAX: Final = 0.3
_RUNS: Final = 50
_RUNS_MAX: Final = 1000


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


Pauses = dict[str, list[float]]
"""Seconds of each run so far, by system."""
_Told = Callable[[Pauses], None]


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


async def run(plan: Plan, say: Say, keep: Keep = forget) -> list[SectionRow]:
    """Measure; returns a row for each fault and system.

    Args:
        plan: What.
        say: Told how far it is.
        keep: Told the rows after each run.

    Raises:
        WorkloadFailed: Ours lost a write, or acknowledged none.
        PeerFailed: etcd did.
    """
    found: dict[str, list[SectionRow]] = {}

    def rows() -> list[SectionRow]:
        return merge([], [row for fault in plan.faults for row in found.get(fault, ())])

    for fault in plan.faults:

        def tell(pauses: Pauses, fault: str = fault) -> None:
            found[fault] = _rows(fault, pauses)
            keep(rows())

        lose_leaders = _killed if fault == _KILLED else _cut
        await lose_leaders(plan, say, tell)
    return rows()


def _rows(fault: str, pauses: Pauses) -> list[SectionRow]:
    if not pauses:
        return [SectionRow(_SECTION, fault, note=why_no_ground())]
    return [
        SectionRow(_SECTION, f"{fault}: {name}", samples={_PAUSE: found})
        for name, found in pauses.items()
    ]


def merge(before: Sequence[SectionRow], rows: Sequence[SectionRow]) -> list[SectionRow]:
    """Put the runs of two measurements together, and compute what is told of them."""
    samples: dict[str, list[float]] = {}
    notes: dict[str, str] = {}
    for row in (*before, *rows):
        samples.setdefault(row.name, []).extend(row.samples.get(_PAUSE, ()))
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
        return SectionRow(_SECTION, name, figures, samples={_PAUSE: pauses})
    share = statistics.median(pauses) / statistics.median(theirs)
    has_goal = name.startswith(_KILLED)
    return SectionRow(
        _SECTION,
        name,
        figures | {"p50 / etcd's": share},
        goal=f"<= {_SHARE_MAX}x" if has_goal else "",
        is_met=share <= _SHARE_MAX if has_goal else None,
        samples={_PAUSE: pauses},
    )


# --- killed --------------------------------------------------------------------------


async def _killed(plan: Plan, say: Say, tell: _Told) -> None:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(_folder()))
        ours = Ours(Processes(folder / _OURS))
        stack.push_async_callback(ours.stop)
        await ours.start()
        entrants = [_Entrant(_OURS, ours, ours.kill_leader)]
        etcd = Etcd()
        if await _has_come(plan, etcd, folder, stack, say):
            entrants.append(_Entrant(_ETCD, etcd, etcd.kill_leader))
        await _take_turns(_KILLED, entrants, plan.runs, say, tell)


# --- cut off -------------------------------------------------------------------------


async def _cut(plan: Plan, say: Say, tell: _Told) -> None:
    if why_no_ground():
        tell({})
        return
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
        await _take_turns(_CUT, entrants, plan.runs, say, tell)


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
    fault: str, entrants: Sequence[_Entrant], runs: int, say: Say, tell: _Told
) -> None:
    pauses: Pauses = {entrant.name: [] for entrant in entrants}
    for number in range(1, runs + 1):
        for entrant in entrants:
            began_s = time.perf_counter()
            pause_s = await entrant.lose_leader()
            entrant.system.rest()
            pauses[entrant.name].append(pause_s)
            tell(pauses)
            whole_s = time.perf_counter() - began_s
            say(
                f"{fault}, run {number} of {runs}: {entrant.name} {pause_s:.3f} s"
                f" (the run took {whole_s:.0f} s)"
            )


def pauses_by_fault(rows: Sequence[SectionRow]) -> dict[str, Pauses]:
    """Return the seconds of each run, by fault and system."""
    found: dict[str, Pauses] = {}
    for row in rows:
        if row.section == _SECTION and row.samples:
            fault, _, system = row.name.partition(": ")
            found.setdefault(fault, {})[system] = row.samples[_PAUSE]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = Parser("failover", "Takes leaders away, and measures the pauses.")
    add = parser.add_argument
    add("--runs", type=count_up_to(_RUNS_MAX), default=_RUNS, help="of each fault")
    add("--only", action="append", choices=_FAULTS, help="not both faults")
    add("--alone", action="store_true", help="without etcd")
    add("--json", type=file_to_write, metavar="FILE", help="write every run there, too")
    add("--append", action="store_true", help="add to the runs in that file")
    options = parser.parse_args(arguments)
    plan = Plan(options.runs, options.only or _FAULTS, not options.alone)
    before: Sequence[SectionRow] = ()
    if options.append and options.json is not None and options.json.exists():
        try:
            before = read_records([options.json]).rows
        except RecordError as wrong:
            parser.error(str(wrong))

    def measure(say: Say, keep: Keep) -> None:
        uvloop.run(run(plan, say, lambda rows: keep(merge(before, rows))))

    return run_program(measure, options.json, before)


if __name__ == "__main__":
    sys.exit(main())
