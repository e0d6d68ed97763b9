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
from tests.bench.peers.base import PeerFailed, PeerMissing
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
_Notes = dict[str, str]
_Tell = Callable[[Pauses, _Notes], None]
"""Is told all runs so far, and why there are none or no more of a system."""


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
    """
    found: dict[str, list[SectionRow]] = {}

    def rows() -> list[SectionRow]:
        return merge([], [row for fault in plan.faults for row in found.get(fault, ())])

    for fault in plan.faults:

        def tell(pauses: Pauses, notes: _Notes, fault: str = fault) -> None:
            found[fault] = _rows(fault, pauses, notes)
            keep(rows())

        lose_leaders = _killed if fault == _KILLED else _cut
        await lose_leaders(plan, say, tell)
    return rows()


def _rows(fault: str, pauses: Pauses, notes: _Notes) -> list[SectionRow]:
    return [
        SectionRow(
            _SECTION,
            f"{fault}: {name}",
            note=notes.get(name, ""),
            samples={_PAUSE: pauses.get(name, [])},
        )
        for name in dict.fromkeys([*pauses, *notes])
    ]


def merge(before: Sequence[SectionRow], rows: Sequence[SectionRow]) -> list[SectionRow]:
    """Put the runs of two measurements together, and compute what is told of them."""
    samples: dict[str, list[float]] = {}
    notes: dict[str, str] = {}
    for row in (*before, *rows):
        samples.setdefault(row.name, []).extend(row.samples.get(_PAUSE, ()))
        notes[row.name] = row.note
    return [
        _told(name, pauses, samples.get(name.replace(_OURS, _ETCD), []), notes[name])
        if pauses
        else SectionRow(_SECTION, name, note=notes[name])
        for name, pauses in samples.items()
    ]


def _told(name: str, pauses: list[float], theirs: list[float], note: str) -> SectionRow:
    figures = {"runs": float(len(pauses))} | spread(pauses, "s")
    samples = {_PAUSE: pauses}
    is_ours = name.endswith(_OURS)
    if not is_ours or not theirs:
        return SectionRow(_SECTION, name, figures, note=note, samples=samples)
    share = statistics.median(pauses) / statistics.median(theirs)
    has_goal = name.startswith(_KILLED)
    return SectionRow(
        _SECTION,
        name,
        figures | {"p50 / etcd's": share},
        goal=f"<= {_SHARE_MAX}x" if has_goal else "",
        is_met=share <= _SHARE_MAX if has_goal else None,
        note=note,
        samples=samples,
    )


# --- killed --------------------------------------------------------------------------


async def _killed(plan: Plan, say: Say, tell: _Tell) -> None:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(_folder()))
        ours = Ours(Processes(folder / _OURS))
        stack.push_async_callback(ours.stop)
        await ours.start()
        race = _Race(_KILLED, [_Entrant(_OURS, ours, ours.kill_leader)], say, tell)
        if plan.has_etcd:
            etcd = Etcd()
            stack.push_async_callback(etcd.stop)
            await race.admit(etcd, etcd.kill_leader, folder)
        await race.run(plan.runs)


# --- cut off -------------------------------------------------------------------------


async def _cut(plan: Plan, say: Say, tell: _Tell) -> None:
    if why_no_ground():
        tell({}, {_OURS: why_no_ground()})
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
        race = _Race(_CUT, entrants, say, tell)
        if plan.has_etcd:
            hosts = [ground.host(_SIZE + n) for n in range(1, _SIZE + 1)]
            etcd = Etcd(hosts, lambda at: ground.enter(_SIZE + 1 + at))
            stack.push_async_callback(etcd.stop)
            await race.admit(etcd, _their_cut(etcd, ground), folder)
        await race.run(plan.runs)


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


class _Race:
    """One fault, and those that meet it in turns; who is missing or fails is told."""

    def __init__(
        self, fault: str, entrants: list[_Entrant], say: Say, tell: _Tell
    ) -> None:
        self._fault: Final = fault
        self._entrants: Final = entrants
        self._say: Final = say
        self._tell: Final = tell
        self._notes: Final[_Notes] = {}

    async def admit(
        self, etcd: Etcd, lose_leader: Callable[[], Awaitable[float]], folder: Path
    ) -> None:
        """Start etcd, if it is there."""
        try:
            await etcd.start(folder / _ETCD)
        except (PeerMissing, PeerFailed) as error:
            self._note(_ETCD, error)
            return
        etcd.rest()
        self._entrants.append(_Entrant(_ETCD, etcd, lose_leader))

    def _note(self, name: str, error: Exception) -> None:
        self._notes[name] = str(error).partition("\n")[0]
        self._say(f"{name}: {error}")

    async def run(self, runs: int) -> None:
        """Take turns."""
        pauses: Pauses = {entrant.name: [] for entrant in self._entrants}
        for number in range(1, runs + 1):
            for entrant in tuple(self._entrants):
                what = f"{self._fault}, run {number} of {runs}: {entrant.name}"
                try:
                    await self._run_one(entrant, what, pauses[entrant.name])
                except PeerFailed as error:
                    self._entrants.remove(entrant)
                    self._note(entrant.name, error)
                self._tell(pauses, self._notes)

    async def _run_one(self, entrant: _Entrant, what: str, pauses: list[float]) -> None:
        began_s = time.perf_counter()
        pause_s = await entrant.lose_leader()
        entrant.system.rest()
        pauses.append(pause_s)
        whole_s = time.perf_counter() - began_s
        self._say(f"{what} {pause_s:.3f} s (the run took {whole_s:.0f} s)")


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
