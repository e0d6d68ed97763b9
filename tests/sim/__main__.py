"""The command line of the simulator: ``python -m tests.sim --seed 1 --steps 20000``.

With ``--planted NAME`` it says how soon it finds a bug that was put in on purpose.
Prints what the seed drew, then one line per run. A failure prints the command that
repeats it and the last events, one a line.
"""

from __future__ import annotations

import argparse
import sys
import time
from statistics import median_low

from tests.sim.focus import narrowed
from tests.sim.planted import PLANTED, planted
from tests.sim.run import Simulation

__all__ = ["main"]


def _run(seed: int, steps: int, *, is_traced: bool, is_quiet: bool) -> bool:
    simulation = Simulation(seed)
    world = simulation.world
    if is_traced:
        world.on_line = print
    if not is_quiet:
        print(f"seed {seed}")
        print("\n".join(simulation.options.lines()))
    begin = time.perf_counter()
    try:
        outcome = simulation.run(steps)
    except Exception as error:  # whatever it is, it is what this program looks for
        print("\n".join(world.recent()))
        print(f"FAIL seed={seed} step={world.steps} {type(error).__name__}: {error}")
        print(f"repeat: python -m tests.sim --seed {seed} --steps {steps} --trace")
        if is_traced:
            raise
        return False
    took_s = time.perf_counter() - begin
    print(
        f"ok seed={seed} steps={outcome.steps} simulated_ms={outcome.time_ms}"
        f" terms={outcome.terms} entries={outcome.entries}"
        f" answered={outcome.answered} sessions={outcome.sessions}"
        f" installs={outcome.installs} changes={outcome.changes}"
        f" events_per_s={outcome.steps / took_s:.0f} hash={outcome.trace_hash}"
    )
    return True


def _seek(name: str, first: int, seeds: int, steps: int) -> bool:
    """Plant a bug, and say how many seeds and how much time it takes to find it."""
    gaps: list[int] = []
    last = first - 1
    begin_s = time.process_time()
    for seed in range(first, first + seeds):
        try:
            with planted(name):
                Simulation(seed, narrowed(name, seed)).run(steps)
        except (AssertionError, LookupError):
            gaps.append(seed - last)
            last = seed
    took_s = time.process_time() - begin_s
    if gaps:
        each_s = took_s / len(gaps)
        print(
            f"{name} median_seeds={median_low(gaps)} found={len(gaps)}/{seeds}"
            f" cpu_s_each={each_s:.1f}"
        )
    else:
        print(f"{name} found=0/{seeds}")
    return bool(gaps)


def main(args: list[str] | None = None) -> int:
    """Run one seed, or several from one on; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20_000, help="events of a run")
    parser.add_argument("--seeds", type=int, default=1, help="runs, from --seed on")
    parser.add_argument("--trace", action="store_true", help="print every event")
    parser.add_argument("--planted", help="look for a planted bug, or for all")
    options = parser.parse_args(args)
    if options.planted:
        names = sorted(PLANTED) if options.planted == "all" else [options.planted]
        found = [
            _seek(name, options.seed, options.seeds, options.steps) for name in names
        ]
        return 0 if any(found) else 1
    failed = 0
    for seed in range(options.seed, options.seed + options.seeds):
        is_good = _run(
            seed, options.steps, is_traced=options.trace, is_quiet=options.seeds > 1
        )
        failed += not is_good
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
