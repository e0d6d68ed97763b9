"""One round: a world, its loads, faults in slices, the ending.

Rules: what goes wrong is a sentence in the report, and the round goes on to its ending,
so that the history is there to be judged. The world is closed whatever happens. How
long something took is reported and never judged, but for what counts as stuck.

Source: RELIABILITY.md section 5.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
import shutil
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.chaos.archive.sitecustomize import ARCHIVE
from tests.chaos.ending import agree, finish, gather, read_logs, seal
from tests.chaos.fault import Broken
from tests.chaos.leftovers import make_folder, new_world
from tests.chaos.loads import LoadProcess, PauseClient, Stuck
from tests.chaos.world import World
from tests.checkers.history import HistoryError
from tests.workload.__main__ import now_us
from tests.workload.evidence import KEEP_LOG
from tests.workload.load import STUCK_S
from tests.workload.setting import Options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.chaos.fault import Fault
    from tests.chaos.matrix import Round, Slice

__all__ = ["RoundReport", "RoundRun", "SliceReport"]

_FAULT_S: Final = 180.0
"""Beyond it, a fault that is not there, or not healed, is one of the machinery."""
_CHECK_S: Final = 0.2
_ARCHIVING: Final = Path(__file__).with_name("archive")
_MAIN: Final = Options()
_BESIDE: Final = Options(
    rate=25.0,
    kv_callers=1,
    lock_callers=2,
    election_callers=1,
    producers=1,
    workers=1,
    watchers=1,
)


@dataclasses.dataclass(slots=True)
class SliceReport:
    """What became of a slice.

    Attributes:
        faults: How many came about.
        trouble: What the cluster did that it must not do; empty = nothing.
        is_stuck: It did not come back after the healing.
    """

    names: tuple[str, ...]
    seconds: float = 0.0
    faults: int = 0
    calls: int = 0
    writes: int = 0
    unknown: int = 0
    pause_us: int = 0
    trouble: str = ""
    is_stuck: bool = False


@dataclasses.dataclass(slots=True)
class RoundReport:
    """What became of a round.

    Attributes:
        folder: Logs of nodes and loads, and histories.
        history: The whole history; None = there is none to judge.
        troubles: What is wrong with the round as a whole.
    """

    round: Round
    folder: Path
    slices: list[SliceReport] = dataclasses.field(default_factory=list)
    history: Path | None = None
    troubles: list[str] = dataclasses.field(default_factory=list)
    is_stuck: bool = False
    seconds: float = 0.0
    calls: int = 0
    unknown: int = 0
    refused_by_guards: int = 0

    @property
    def is_bad(self) -> bool:
        """Whether something went wrong, judgement aside."""
        return bool(self.troubles or any(each.trouble for each in self.slices))


class _Recorded(World):
    """A world whose nodes write down what they cut from their logs."""

    def environment(self, node_id: int) -> dict[str, str]:
        """Have Python find what does it first."""
        variables = super().environment(node_id)
        path = [str(_ARCHIVING), *variables.get("PYTHONPATH", "").split(os.pathsep)]
        return variables | {
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            ARCHIVE: str(self.folder / f"n{node_id}.archive"),
        }

    def archives(self) -> list[Path]:
        """What nodes have cut from their logs, a file for each."""
        return sorted(self.folder.glob("n*.archive"))


class RoundRun:
    """See the module.

    Args:
        wanted: What to do.
        faults: Where to find faults by name.
        seed: Of the run.
        until_s: No slice begins later, by the monotonic clock.
        tell: Told of each slice that is over.
    """

    def __init__(
        self,
        wanted: Round,
        faults: Mapping[str, type[Fault]],
        seed: int,
        until_s: float,
        tell: Callable[[RoundReport, SliceReport], None],
    ) -> None:
        self._round: Final = wanted
        self._faults: Final = faults
        self._seed: Final = f"{seed}/{wanted.number}"
        self._run_seed: Final = seed
        self._until_s: Final = until_s
        self._tell: Final = tell
        self._loads: list[LoadProcess] = []
        self.report: Final = RoundReport(wanted, make_folder(new_world()))

    async def run(self) -> RoundReport:
        """Run it to its end, whatever happens."""
        began_s = time.monotonic()
        report = self.report
        world: _Recorded | None = None
        try:
            world = await asyncio.to_thread(self._make_world)
            await self._in(world)
        except (Stuck, Broken, AssertionError) as error:
            report.is_stuck = report.is_stuck or isinstance(error, Stuck)
            report.troubles.append(str(error) or repr(error))
        except Exception:
            report.troubles.append(f"the machinery failed: {traceback.format_exc()}")
        except asyncio.CancelledError:
            shutil.rmtree(report.folder, ignore_errors=True)
            raise
        finally:
            for load in self._loads:
                await load.close()
            if world is not None:
                self._save_logs(world)
                await asyncio.to_thread(world.close)
            report.seconds = time.monotonic() - began_s
        return report

    def _make_world(self) -> _Recorded:
        world = _Recorded(
            None,
            self._round.size,
            KEEP_LOG if self._round.keeps_log else (),
            seed=self._seed,
            wants=self._round.wants,
        )
        try:
            world.start()
            if not world.wait_for_leader():
                raise Stuck("nobody came to lead after the start")
        except BaseException:
            self._save_logs(world)
            world.close()
            raise
        return world

    async def _in(self, world: _Recorded) -> None:
        await self._start_loads(world)
        rng = random.Random(f"{self._seed}/slices")
        for wanted in self._round.slices:
            if self.report.slices and time.monotonic() > self._until_s:
                break
            slice_ = await self._slice(world, wanted, rng)
            self.report.slices.append(slice_)
            self._tell(self.report, slice_)
            if slice_.is_stuck:
                break
        await self._end(world)

    async def _start_loads(self, world: World) -> None:
        for name, options in (("a", _MAIN), ("b", _BESIDE)):
            load = await LoadProcess.start(
                world.endpoints,
                self.report.folder / f"load-{name}.jsonl",
                seed=self._seed.replace("/", ""),
                name=name,
                options=options,
                world=world.name,
            )
            self._loads.append(load)
        for load in self._loads:
            await load.wait_for_writes(0, STUCK_S, "after the start")
            load.lap_us()

    async def _tell_loads(self, world: World) -> None:
        """Say where the members are: those that a load began with may all be gone."""
        for load in self._loads:
            await load.reach(world.endpoints)

    # --- a slice -----------------------------------------------------------------

    async def _slice(
        self, world: World, wanted: Slice, rng: random.Random
    ) -> SliceReport:
        report = SliceReport(wanted.names)
        load = self._loads[0]
        before, began_s = load.line, time.monotonic()
        load.lap_us()
        faults = [self._make(name) for name in wanted.names]
        try:
            try:
                await self._inject(world, faults, wanted, rng)
            finally:
                await self._heal(world, faults, report)
                report.faults = sum(fault.has_happened for fault in faults)
        except (Broken, AssertionError) as error:
            report.trouble = str(error) or repr(error)
        except Exception:
            report.trouble = f"the machinery failed: {traceback.format_exc()}"
        try:
            if report.trouble:
                await asyncio.to_thread(world.heal)
            await self._tell_loads(world)
            await load.wait_for_writes(now_us(), STUCK_S, f"after {wanted.name}")
        except Stuck as error:
            report.is_stuck = True
            report.trouble = report.trouble or str(error)
        report.seconds = time.monotonic() - began_s
        report.pause_us = load.lap_us()
        report.writes = load.line.writes - before.writes
        report.calls = load.line.calls - before.calls
        report.unknown = load.line.unknown - before.unknown
        return report

    def _make(self, name: str) -> Fault:
        fault = self._faults[name]()
        if isinstance(fault, PauseClient):
            fault.load = self._loads[1]
        return fault

    async def _inject(
        self,
        world: World,
        faults: list[Fault],
        wanted: Slice,
        rng: random.Random,
    ) -> None:
        end_s = time.monotonic() + wanted.lasts_s
        for place, fault in enumerate(faults):
            if place:
                await asyncio.sleep(rng.uniform(0.0, wanted.lasts_s / 3))
            async with asyncio.timeout(_FAULT_S):
                await fault.inject(world, random.Random(rng.random()))
        while (left_s := end_s - time.monotonic()) > 0:
            await asyncio.sleep(min(left_s, _CHECK_S))
            world.check()

    async def _heal(
        self, world: World, faults: list[Fault], report: SliceReport
    ) -> None:
        """Heal all at once: one may have to wait for what another has taken away.

        The first trouble is the report's.
        """
        async with asyncio.timeout(_FAULT_S):
            found = await asyncio.gather(
                *(fault.heal(world) for fault in faults), return_exceptions=True
            )
        for error in found:
            if isinstance(error, Broken | AssertionError):
                report.trouble = report.trouble or str(error)
            elif error is not None:
                raise error

    # --- the ending --------------------------------------------------------------

    async def _end(self, world: _Recorded) -> None:
        report = self.report
        await asyncio.to_thread(world.heal)
        await self._tell_loads(world)
        try:
            report.troubles += await finish(self._loads)
        finally:
            report.calls = sum(load.line.calls for load in self._loads)
            report.unknown = sum(load.line.unknown for load in self._loads)
            report.refused_by_guards = sum(
                load.line.refused_by_guards for load in self._loads
            )
        await seal(world)
        entries, differing = await asyncio.to_thread(read_logs, world)
        report.troubles += differing
        history = report.folder / "history.jsonl"
        try:
            await asyncio.to_thread(
                gather,
                [load.history for load in self._loads],
                entries,
                history,
                seed=self._run_seed,
                options={"round": str(self._round.number)},
            )
            report.history = history
        except HistoryError as error:
            report.troubles.append(f"there is no history to judge: {error}")
        await asyncio.to_thread(world.check)
        await agree(world, keeps_log=self._round.keeps_log)

    def _save_logs(self, world: World) -> None:
        if self.report.folder.exists():
            for path in world.folder.glob("n*.log"):
                shutil.copy(path, self.report.folder / path.name)
