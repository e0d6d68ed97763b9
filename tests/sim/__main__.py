"""The command line of the simulator: ``python -m tests.sim --seed 1 --steps 20000``.

``--soak --seeds N`` runs fresh seeds of this commit, ``--gate`` what each change has to
pass, ``--pairs N`` seeds twice to see whether they are one run. ``--shrink`` makes a
failing run small, and writes it down; ``--script FILE`` runs what was written down.
``--planted NAME`` plants a bug of ``tests.mutants`` first. A failure prints the last
events, one a line, and the command that repeats it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from tests.proof.arguments import (
    Parser,
    count,
    existing_file,
    natural,
    new_file,
    span,
)
from tests.proof.results import append, new_row
from tests.proof.seeds import commit_id, fresh_seeds
from tests.sim.actions import load_script, save_script
from tests.sim.options import Options
from tests.sim.run import Simulation
from tests.sim.shrink import shrink
from tests.sim.soak import STEPS, Case, gate, pairs, soak, soak_line

__all__ = ["main"]

_WRONG: Final = 2
_CATALOGUE: Final = "tests.mutants.catalogue"
"""Imported when it is asked for: it needs all that bugs are looked for with."""
_OF_A_RUN: Final = frozenset(
    {"seed", "seeds", "steps", "trace", "narrow", "files", "planted"}
)
_MODES: Final[dict[str, frozenset[str]]] = {
    "gate": frozenset({"jobs"}),
    "soak": frozenset(
        {"seeds", "steps", "commit", "first", "minutes", "jobs", "results"}
    ),
    "pairs": frozenset({"steps", "commit"}),
    "hashes": frozenset({"seed", "steps"}),
    "shrink": frozenset({"seed", "steps", "narrow", "files", "planted", "out"}),
    "script": frozenset({"trace"}),
}
"""What can be asked for beside a plain run, and which arguments it looks at."""
_NO_SHRINKING: Final = (
    "runs on files are not made smaller: what their crashes tear hangs on the bytes"
    " that were written, which change with every step that is left out; look whether"
    " the seed fails on modelled disks"
)


def _is_simulated(name: str) -> bool:
    """Tell whether there is such a planted bug, looked for by the simulator."""
    bugs = importlib.import_module(_CATALOGUE).BUGS
    return name in bugs and hasattr(bugs[name].finder, "options")


@contextlib.contextmanager
def _planted(name: str) -> Iterator[None]:
    """Run the body with a planted bug, if one is named."""
    if not name:
        yield
        return
    with importlib.import_module(_CATALOGUE).planted_named(name):
        yield


def _options_for(name: str, case: Case) -> Options:
    """Return what a seed is run with, to find a planted bug if one is named."""
    if not name:
        return case.simulation().options
    options: Options = importlib.import_module(_CATALOGUE).options_for(name, case.seed)
    return options


def _run(simulation: Simulation, steps: int, repeat: str, *, is_traced: bool) -> bool:
    world = simulation.world
    if is_traced:
        world.on_line = print
    begin_s = time.process_time()
    try:
        outcome = simulation.run(steps)
    except Exception as error:  # whatever it is, it is what this program looks for
        if not is_traced:
            print("\n".join(world.recent()))
        print(
            f"FAIL seed={world.seed} step={world.steps} commit={commit_id()[:12]}"
            f" {type(error).__name__}: {error}"
        )
        print(f"repeat: {repeat} --trace")
        if is_traced:
            raise
        return False
    took_s = time.process_time() - begin_s
    print(
        f"ok seed={world.seed} steps={outcome.steps} simulated_ms={outcome.time_ms}"
        f" terms={outcome.terms} entries={outcome.entries}"
        f" answered={outcome.answered} sessions={outcome.sessions}"
        f" jobs={outcome.jobs} elected={outcome.elected}"
        f" installs={outcome.installs} changes={outcome.changes}"
        f" events_per_s={outcome.steps / took_s:.0f} hash={outcome.trace_hash}"
    )
    return True


def _run_seeds(options: argparse.Namespace) -> bool:
    first, *others = options.seed
    seeds = [*range(first, first + (options.seeds or 1)), *others]
    swarm = "narrow" if options.narrow else "wide"
    name = options.planted or ""
    are_good = []
    for seed in seeds:
        case = Case(seed, options.steps, swarm, options.files)
        simulation, command = case.simulation(), case.command
        if name:
            simulation = Simulation(seed, _options_for(name, case))
            command = f"{command} --planted {name}"
        if len(seeds) == 1:
            print(f"seed {seed} commit {commit_id()[:12]}")
            print("\n".join(simulation.options.lines()))
        with _planted(name):
            is_good = _run(simulation, case.steps, command, is_traced=options.trace)
        are_good.append(is_good)
    return all(are_good)


def _print_hashes(options: argparse.Namespace) -> bool:
    for seed in options.seed:
        print(Case(seed, options.steps).simulation().run(options.steps).trace_hash)
    return True


def _soak(options: argparse.Namespace) -> bool:
    commit, began_with = options.commit or commit_id(), new_row("sim_a").commit
    seeds = fresh_seeds("sim_a", options.first + (options.seeds or 1000), commit)
    begin_s = time.monotonic()
    found = soak(
        seeds[options.first :],
        steps=options.steps,
        minutes=options.minutes,
        jobs=options.jobs,
    )
    took_s = time.monotonic() - begin_s
    print(soak_line(found, took_s))
    if options.results is not None:
        command = (
            f"python -m tests.sim --soak --seeds {found.runs} --steps {options.steps}"
            f" --first {options.first} --commit {commit}"
        )
        append(options.results, [found.row(began_with, took_s, command)])
    return not found.failures


def _pairs(options: argparse.Namespace) -> bool:
    seeds = fresh_seeds("sim_a/pairs", options.pairs, options.commit)
    differing = pairs(seeds, options.steps)
    for line in differing:
        print(f"FAIL {line}")
    print(f"simulator A: {len(seeds)} pairs, {len(differing)} are two runs")
    return not differing


def _shrink(options: argparse.Namespace) -> bool:
    """Make a failing run small; tell whether there was one."""
    seed, name = options.seed[0], options.planted or ""
    case = Case(seed, options.steps, "narrow" if options.narrow else "wide")
    with _planted(name):
        found = shrink(seed, _options_for(name, case), options.steps, name)
    if found is None:
        print(f"seed {seed} does not fail in {options.steps} steps")
        return False
    path = options.out or Path(f"sim-{seed}.json")
    save_script(path, found.script)
    print("\n".join(found.lines))
    print(f"repeat: python -m tests.sim --script {path} --trace")
    return True


def _follow(options: argparse.Namespace) -> bool:
    try:
        script = load_script(options.script)
    except msgspec.MsgspecError as error:
        print(f"{options.script} is no script: {error}", file=sys.stderr)
        sys.exit(_WRONG)
    if script.planted and not _is_simulated(script.planted):
        print(
            f"{options.script} names the planted bug {script.planted!r}, which the"
            " simulator does not have",
            file=sys.stderr,
        )
        sys.exit(_WRONG)
    print(f"script of {script.commit or 'no commit'}: {script.failure}")
    with _planted(script.planted):
        simulation = Simulation(script.seed, script.options, script)
        repeat = f"python -m tests.sim --script {options.script}"
        return _run(simulation, 0, repeat, is_traced=options.trace)


def _parser() -> Parser:
    parser = Parser(prog="python -m tests.sim", description=__doc__)
    add = parser.add_argument
    add("--seed", type=natural, nargs="+", default=[1])
    add("--seeds", type=count, help="runs, from --seed on; fresh ones of a soak")
    add("--steps", type=count, default=STEPS, help="events of a run, about")
    add("--trace", action="store_true", help="print every event")
    add("--narrow", action="store_true", help="draw from fewer ranges")
    add("--files", choices=["model", "real"], default="model", help="what disks are")
    add("--planted", help="the bug that a run to be made small was found with")
    add("--soak", action="store_true", help="run fresh seeds of this commit")
    add("--commit", help="of another commit")
    add("--first", type=natural, default=0, help="pass over so many of them")
    add("--minutes", type=span, help="begin nothing after so long")
    add("--jobs", type=count, default=1, help="processes")
    add("--results", type=new_file, help="add a row to this file")
    add("--gate", action="store_true", help="what each change has to pass")
    add("--pairs", type=natural, default=0, help="run so many fresh seeds twice")
    add("--hashes", action="store_true", help="print trace hashes only")
    add("--shrink", action="store_true", help="make a run that fails small")
    add("--out", type=new_file, help="where the small one goes")
    add("--script", type=existing_file, help="run what was written down")
    return parser


def _refuse_idle(parser: Parser, options: argparse.Namespace) -> None:
    modes = [mode for mode in _MODES if getattr(options, mode)]
    if len(modes) > 1:
        parser.error(f"--{modes[0]} and --{modes[1]} cannot be done at once")
    mode = modes[0] if modes else ""
    used = {mode, *_MODES.get(mode, _OF_A_RUN)}
    parser.refuse_idle(options, f"--{mode}" if mode else "a plain run", used)


def main(args: list[str] | None = None) -> int:
    """Do what was asked; return the exit code."""
    parser = _parser()
    options = parser.parse_args(args)
    _refuse_idle(parser, options)
    if options.planted and not _is_simulated(options.planted):
        parser.error(f"no planted bug of the simulator is called {options.planted!r}")
    if options.shrink and options.files == "real":
        parser.error(_NO_SHRINKING)
    if options.gate:
        is_good = gate(max(2, options.jobs))
    elif options.soak:
        is_good = _soak(options)
    elif options.pairs:
        is_good = _pairs(options)
    elif options.hashes:
        is_good = _print_hashes(options)
    elif options.shrink:
        is_good = _shrink(options)
    elif options.script:
        is_good = _follow(options)
    else:
        is_good = _run_seeds(options)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
