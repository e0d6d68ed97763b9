"""The command line of the planted bugs: ``python -m tests.mutants [--gate]``.

Puts every bug into the production code, one at a time and in memory only, and looks for
it. Prints, for each, what it breaks, what finds it, and how soon. Fails if one of them
is not found, or if what finds it complains without it too.

    --list              what there is
    --name NAME         one bug only (may be repeated)
    --seeds N           try so many seeds of a random finder at the most
    --gate              once each, from fixed seeds: the part of `make check`
    --results FILE      add a row for each to this file
    --freeze            look for the seeds from which the gate begins; prints them
    --jobs N            processes
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from tests.mutants.bug import Bug
from tests.mutants.catalogue import BUGS
from tests.mutants.seek import Sought, freeze, seek, seek_first
from tests.proof.arguments import count, new_file
from tests.proof.results import append, new_row, tested_commit

__all__ = ["main"]

_SEEDS_MAX = 60

_T = TypeVar("_T")


def _with_bug(do: Callable[[Bug], _T], name: str) -> _T:
    """Do it in a worker process: a name travels, a bug does not."""
    return do(BUGS[name])


def _each(
    do: Callable[[Bug], _T], bugs: Sequence[Bug], jobs: int
) -> Iterator[tuple[Bug, _T]]:
    names = [bug.name for bug in bugs]
    if jobs == 1:
        yield from ((bug, do(bug)) for bug in bugs)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from zip(bugs, pool.map(partial(_with_bug, do), names), strict=True)


def _seek_up_to(seeds_max: int, bug: Bug) -> Sought:
    return seek(bug, seeds_max)


def _freeze_up_to(seeds_max: int, bug: Bug) -> int:
    return freeze(bug, seeds_max)


def _what(bug: Bug) -> str:
    return f"{bug.does} ({', '.join(bug.breaks)}; {bug.repeats})"


def _show_all(bugs: Iterable[Bug]) -> None:
    for bug in bugs:
        kinds = [each.kind for each in (bug.finder, bug.script) if each is not None]
        print(f"{bug.name}\n  {_what(bug)}\n  found by: {'; '.join(kinds)}")


def _show(bug: Bug, sought: Sought) -> None:
    each_s = sought.cpu_s / max(1, sought.found)
    mark = "found " if sought.is_good else "MISSED"
    seeds = f"seeds={sought.median_seeds}" if sought.is_random else "script"
    print(
        f"{mark} {bug.name:<28} {seeds:<10} cpu_s={each_s:<6.1f}"
        f" {sought.found}/{sought.seeds} by {sought.kind}",
        flush=True,
    )
    print(f"       {sought.wrong or sought.what[:150]}", flush=True)


def _add_rows(path: Path, commit: str, done: Sequence[tuple[Bug, Sought]]) -> None:
    append(
        path,
        [
            new_row(
                "mutant",
                name=bug.name,
                commit=commit,
                runs=sought.seeds,
                failures=0 if sought.is_good else 1,
                cpu_s=round(sought.cpu_s / max(1, sought.found), 2),
                median_seeds=sought.median_seeds if sought.is_random else 0,
                found_by=sought.kind,
                breaks=_what(bug),
                command=f"python -m tests.mutants --name {bug.name}",
            )
            for bug, sought in done
        ],
    )


def _parse(args: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--name", action="append", choices=sorted(BUGS), metavar="NAME")
    parser.add_argument("--seeds", type=count, default=_SEEDS_MAX)
    parser.add_argument("--gate", action="store_true")
    parser.add_argument("--results", type=new_file)
    parser.add_argument("--freeze", action="store_true")
    parser.add_argument("--jobs", type=count, default=2)
    return parser.parse_args(args)


def main(args: list[str] | None = None) -> int:
    """Look for the bugs; return the exit code."""
    options = _parse(args)
    bugs = [BUGS[name] for name in options.name or BUGS]
    if options.list:
        _show_all(bugs)
        return 0
    if options.freeze:
        do = partial(_freeze_up_to, options.seeds)
        random = [bug for bug in bugs if bug.gate_finder.is_random]
        for bug, seed in _each(do, random, options.jobs):
            print(f'    "{bug.name}": {seed},', flush=True)
        return 0
    begin_s, commit = time.monotonic(), tested_commit()
    look = seek_first if options.gate else partial(_seek_up_to, options.seeds)
    done = []
    for bug, sought in _each(look, bugs, options.jobs):
        _show(bug, sought)
        done.append((bug, sought))
    missed = [bug.name for bug, sought in done if not sought.is_good]
    took_s = time.monotonic() - begin_s
    print(f"{len(done) - len(missed)} of {len(done)} found in {took_s:.0f} s")
    if options.results is not None:
        _add_rows(options.results, commit, done)
    if missed:
        print(f"not found: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
