"""Real faults on real processes: python -m tests.chaos --minutes 30.

Rounds are run until the time is over; each is judged, in a process of its own, while
the next one runs. One line for each slice, a table at the end; 0 = nothing was lost,
doubled, stale, overlapping or stuck, and no checker found anything else.

Source: RELIABILITY.md sections 5 and 7.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.chaos.faults import FAULTS, why_not_here
from tests.chaos.judging import judge_file, judges
from tests.chaos.leftovers import sweep
from tests.chaos.loads import PauseClient
from tests.chaos.matrix import Pace, rounds_of
from tests.chaos.run import RoundReport, RoundRun, SliceReport
from tests.chaos.table import Totals
from tests.proof.arguments import Parser, natural, new_file, span
from tests.proof.results import append, tested_commit
from tests.proof.seeds import fresh_seeds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Future, ProcessPoolExecutor

    from tests.chaos.fault import Fault
    from tests.checkers.verdict import Verdict

__all__ = ["main", "told_of"]

_SHORT_MIN: Final = 8.0
_SHORT: Final = Pace(fault_s=2.5, round_s=30.0)
_LONG: Final = Pace(fault_s=12.0, round_s=75.0)
_INTERRUPTED: Final = 130
_ENDING_S: Final = 25.0
"""What a round needs after its last slice, about."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it.

    Returns:
        0 = nothing is wrong, 1 = something is, 2 = a wrong argument, 130 = interrupted.
    """
    given = _arguments(arguments)
    possible, missing = _possible(given.faults)
    if given.list:
        _list(possible, missing)
        return 0
    for why, names in missing.items():
        print(f"skipped, {why}: {', '.join(names)}")
    if not possible:
        print("no fault is possible here; nothing was run")
        return 0
    sweep()
    try:
        return asyncio.run(_Chaos(given, possible).run())
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted; nothing is left behind, and no row was added")
        return _INTERRUPTED


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=span, default=4.0)
    parser.add_argument("--faults", default="", help="names, with commas; default all")
    parser.add_argument("--seed", type=int, help="default: drawn from the commit")
    parser.add_argument("--round", type=natural, help="only this round of the seed")
    parser.add_argument("--nodes", type=int, choices=(3, 5), help="default: both")
    parser.add_argument("--results", type=new_file, help="file that rows are added to")
    parser.add_argument("--keep", type=Path, help="where what failed is kept")
    parser.add_argument("--histories", type=Path, help="keep the history of each round")
    parser.add_argument(
        "--list", action="store_true", help="say which faults there are"
    )
    given = parser.parse_args(arguments)
    unknown = [n for n in _names(given.faults) if n not in _all_faults()]
    if unknown:
        parser.error(f"no such fault: {unknown[0]} (see --list)")
    if given.seed is None:
        (given.seed,) = fresh_seeds("chaos", 1)
    return given


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _all_faults() -> Mapping[str, type[Fault]]:
    return {**FAULTS, PauseClient.name: PauseClient}


def _possible(
    wanted: str,
) -> tuple[dict[str, type[Fault]], dict[str, list[str]]]:
    """Return the faults that can be made here, and why the others cannot."""
    possible: dict[str, type[Fault]] = {}
    missing: dict[str, list[str]] = {}
    faults = _all_faults()
    for name in _names(wanted) or faults:
        why = why_not_here(name) if name in FAULTS else PauseClient().needs()
        if why:
            missing.setdefault(why, []).append(name)
        else:
            possible[name] = faults[name]
    return possible, missing


def _list(
    possible: Mapping[str, type[Fault]], missing: Mapping[str, list[str]]
) -> None:
    for name, kind in possible.items():
        print(f"{name:28} {kind.row}")
    for why, names in missing.items():
        for name in names:
            print(f"{name:28} not here: {why}")


class _Chaos:
    """One run of the program."""

    def __init__(
        self, given: argparse.Namespace, faults: Mapping[str, type[Fault]]
    ) -> None:
        self._given: Final = given
        self._faults: Final = faults
        self._totals: Final = Totals()
        self._judging: list[tuple[RoundReport, Future[list[Verdict]]]] = []
        self._began_s: Final = time.monotonic()
        self._commit: Final = tested_commit()

    async def run(self) -> int:
        """Run rounds until the time is over; returns the exit code."""
        given = self._given
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGTERM, _interrupt, asyncio.current_task()
        )
        end_s = self._began_s + 60.0 * given.minutes
        sizes = (given.nodes,) if given.nodes else (3, 3, 5)
        pace = _SHORT if given.minutes < _SHORT_MIN else _LONG
        print(f"seed {given.seed}, {len(self._faults)} faults, {given.minutes:g} min")
        with judges() as pool:
            for wanted in rounds_of(given.seed, self._faults, sizes, pace):
                if given.round is not None and wanted.number != given.round:
                    continue
                run = RoundRun(
                    wanted, self._faults, given.seed, end_s - _ENDING_S, self._tell
                )
                report = await run.run()
                self._ended(report, pool)
                await self._judge_done()
                if given.round is not None or time.monotonic() > end_s - 2 * _ENDING_S:
                    break
            await self._judge_done(is_last=True)
        return self._sum_up()

    def _tell(self, report: RoundReport, slice_: SliceReport) -> None:
        at_s = time.monotonic() - self._began_s
        state = "ok" if slice_.faults else "ok, but nothing came about"
        state = slice_.trouble.splitlines()[-1] if slice_.trouble else state
        print(
            f"{at_s:7.1f} s  round {report.round.number:<3} "
            f"{'+'.join(slice_.names):<40} {slice_.seconds:5.1f} s"
            f"  pause {slice_.pause_us / 1e6:5.2f} s  {slice_.writes:5} writes"
            f"  {slice_.unknown:2} unknown  {state}",
            flush=True,
        )

    def _ended(self, report: RoundReport, pool: ProcessPoolExecutor) -> None:
        for trouble in report.troubles:
            print(f"round {report.round.number}: {trouble}", flush=True)
        if report.history is None:
            self._judged(report, [])
            return
        verdicts = pool.submit(judge_file, report.history)
        self._judging.append((report, verdicts))

    async def _judge_done(self, *, is_last: bool = False) -> None:
        """Take up the judgements that are there, or wait for all."""
        waiting, self._judging[:] = list(self._judging), []
        for report, verdicts in waiting:
            if is_last or verdicts.done():
                self._judged(report, await asyncio.wrap_future(verdicts))
            else:
                self._judging.append((report, verdicts))

    def _judged(self, report: RoundReport, verdicts: list[Verdict]) -> None:
        number = report.round.number
        bad = [each for each in verdicts if each.outcome != "legal"]
        idle = [each.checker for each in verdicts if each not in bad and not each.count]
        if report.slices and idle:
            report.troubles.append(f"nothing to look at for {', '.join(idle)}")
            print(f"round {number}: {report.troubles[-1]}", flush=True)
        for verdict in bad:
            print(
                f"round {number}: {verdict.outcome}, {verdict.checker}:"
                f" {verdict.sentence}",
                flush=True,
            )
        self._totals.add(report, verdicts)
        if not (bad or report.is_bad):
            print(
                f"round {number}: {report.calls} operations, {report.unknown} unknown,"
                f" {len(verdicts)} checkers find nothing wrong",
                flush=True,
            )
            if self._given.histories and report.history:
                self._given.histories.mkdir(parents=True, exist_ok=True)
                name = f"chaos-{self._given.seed}-{number}.jsonl"
                shutil.copy(report.history, self._given.histories / name)
            shutil.rmtree(report.folder, ignore_errors=True)
            return
        kept = self._keep(report)
        print(
            f"round {number} failed: {told_of(kept)}; again: {self._again(number)}",
            flush=True,
        )

    def _keep(self, report: RoundReport) -> Path:
        folder = self._given.keep or report.folder.parent
        name = f"chaos-failed-{self._given.seed}-{report.round.number}"
        kept = Path(folder) / name
        shutil.rmtree(kept, ignore_errors=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(report.folder, kept)
        return kept

    def _again(self, number: int) -> str:
        given = self._given
        parts = ["python -m tests.chaos", f"--minutes {given.minutes:g}"]
        parts.append(f"--seed {given.seed} --round {number}")
        if given.faults:
            parts.append(f"--faults {given.faults}")
        if given.nodes:
            parts.append(f"--nodes {given.nodes}")
        return " ".join(parts)

    def _sum_up(self) -> int:
        command = f"python -m tests.chaos --minutes {self._given.minutes:g}"
        command = f"{command} --seed {self._given.seed}"
        rows = self._totals.rows(command, self._commit)
        print(self._totals.table(), flush=True)
        if self._given.results is not None:
            append(self._given.results, rows)
        return 1 if self._totals.failures else 0


def told_of(kept: Path) -> str:
    """Say where what a failed round has left is: what there is of it."""
    history, logs = kept / "history.jsonl", any(kept.glob("n*.log"))
    found = [f"history {history}"] if history.exists() else ["no history"]
    found.append(f"logs of nodes {kept}/n*.log" if logs else "no logs of nodes")
    return ", ".join(found)


def _interrupt(task: asyncio.Task[object] | None) -> None:
    if task is not None:
        task.cancel()


if __name__ == "__main__":
    sys.exit(main())
