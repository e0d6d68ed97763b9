"""The command line of level B: ``python -m tests.service --seed 1 --seconds 8``.

With ``--seeds K`` it runs that many from ``--seed`` on, with ``--commit`` fresh ones
that the commit decides. A failure prints what the seed drew, the last events, one a
line, and the command that repeats it, and keeps the history.

Source: RELIABILITY.md section 6.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.proof.arguments import Parser, count, natural, new_file, span
from tests.proof.results import append, tested_commit
from tests.proof.seeds import commit_id, fresh_seeds
from tests.service.run import Service
from tests.service.soak import SECONDS, Case, gate, soak, soak_line

__all__ = ["main"]


def _run(case: Case, history: Path | None, *, is_traced: bool) -> bool:
    """Run one seed, in detail."""
    service = Service(case.seed)
    world = service.world
    if is_traced:
        world.on_line = print
    print(f"seed {case.seed}")
    print("\n".join(service.options.lines()))
    begin_s = time.process_time()
    try:
        outcome = service.run(case.seconds)
    except Exception as error:  # whatever it is, it is what this program looks for
        folder = Path(tempfile.gettempdir())
        kept = history or folder / f"raftd-service-{case.seed}.jsonl"
        service.recorder.save(kept)
        print("\n".join(world.recent()))
        print(
            f"FAIL seed={case.seed} step={world.steps} {type(error).__name__}: {error}"
        )
        print(f"history: {kept}")
        print(f"repeat: {case.command} --trace")
        if is_traced:
            raise
        return False
    took_s = time.process_time() - begin_s
    if history is not None:
        service.recorder.save(history)
    print(
        f"ok seed={case.seed} steps={outcome.steps} simulated_ms={outcome.time_ms}"
        f" terms={outcome.terms} entries={outcome.entries} calls={outcome.calls}"
        f" unknown={outcome.unknown} faults={outcome.faults}"
        f" events_per_s={outcome.steps / took_s:.0f} hash={outcome.trace_hash}"
    )
    return True


def _hash(case: Case) -> str:
    """Return the trace hash of a run, or of its failure."""
    service = Service(case.seed)
    try:
        service.run(case.seconds)
    except AssertionError as error:
        return f"{service.world.trace_hash} {type(error).__name__}"
    return service.world.trace_hash


def _soak(given: argparse.Namespace) -> bool:
    begin_s, commit = time.monotonic(), tested_commit()
    many = given.seeds
    seeds = (
        fresh_seeds("sim_b", many, given.of)
        if given.commit
        else range(given.seed[0], given.seed[0] + many)
    )
    found = soak(seeds, seconds=given.seconds, minutes=given.minutes, jobs=given.jobs)
    took_s = time.monotonic() - begin_s
    print(soak_line(found, took_s))
    if given.results is not None:
        which = f"--seed {given.seed[0]}"
        if given.commit:
            which = f"--commit --of {given.of or commit_id()}"
        command = f"python -m tests.service {which} --seeds {found.runs}"
        append(given.results, [found.row(commit, took_s, command)])
    return not found.failures


def _parser() -> Parser:
    parser = Parser(prog="python -m tests.service")
    parser.add_argument("--seed", type=natural, nargs="+", default=[1])
    parser.add_argument(
        "--seconds", type=span, default=SECONDS, help="simulated time under faults"
    )
    parser.add_argument("--seeds", type=count, default=1, help="how many runs")
    parser.add_argument("--commit", action="store_true", help="seeds of the commit")
    parser.add_argument("--of", help="of another commit than the one checked out")
    parser.add_argument("--minutes", type=span, help="stop after so long")
    parser.add_argument("--jobs", type=count, default=1, help="runs at a time")
    parser.add_argument("--trace", action="store_true", help="print every event")
    parser.add_argument("--history", type=new_file, help="write the history of one run")
    parser.add_argument("--results", type=new_file, help="append a row to this file")
    parser.add_argument("--gate", action="store_true", help="what a change must pass")
    parser.add_argument("--hashes", action="store_true", help="print trace hashes only")
    return parser


def _refuse_idle(parser: Parser, given: argparse.Namespace, *, is_soak: bool) -> None:
    """Refuse what would be passed over in silence."""
    if given.gate:
        parser.refuse_idle(given, "--gate", {"gate"})
    elif given.hashes:
        parser.refuse_idle(given, "--hashes", {"hashes", "seed", "seconds"})
    elif is_soak:
        used = {"seed", "seconds", "seeds", "commit", "of", "minutes", "jobs"}
        parser.refuse_idle(given, "many seeds", used | {"results"})
        if len(given.seed) > 1:
            parser.error("many seeds begin at one --seed, not at several")
        if given.of and not given.commit:
            parser.error("--of means nothing without --commit")
    else:
        used = {"seed", "seconds", "trace", "history"}
        parser.refuse_idle(given, "a plain run", used)
        if given.history is not None and len(given.seed) > 1:
            parser.error("--history takes the history of one --seed")


def main(args: list[str] | None = None) -> int:
    """Run what is asked for; return the exit code."""
    parser = _parser()
    given = parser.parse_args(args)
    is_soak = given.commit or given.seeds > 1 or given.minutes is not None
    _refuse_idle(parser, given, is_soak=is_soak)
    if given.gate:
        return 0 if gate(os.cpu_count() or 1) else 1
    if given.hashes:
        for seed in given.seed:
            print(_hash(Case(seed, given.seconds)))
        return 0
    if is_soak:
        return 0 if _soak(given) else 1
    cases = [Case(seed, given.seconds) for seed in given.seed]
    told = [_run(case, given.history, is_traced=given.trace) for case in cases]
    return 0 if all(told) else 1


if __name__ == "__main__":
    sys.exit(main())
