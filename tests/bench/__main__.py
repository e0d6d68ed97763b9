"""Measures raftd on this machine: ``make bench-smoke`` in seconds, ``make bench``.

Nothing about timing is asserted: machines differ and are shared. It fails only if
something does not work, be it one write that the cluster does not hold at the end.

Source: PERFORMANCE.md; docs/performance.md says how to read it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from tests.bench.report import json_of, table_of
from tests.bench.rounds import Plan, run_plan
from tests.bench.workloads import WORKLOADS, WorkloadFailed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = _parser().parse_args(arguments)
    plan = _plan(options)
    try:
        rows = uvloop.run(run_plan(plan, _say))
    except WorkloadFailed as failed:
        print(f"error: {failed}", file=sys.stderr)
        print("\n".join(getattr(failed, "__notes__", ())), file=sys.stderr)
        return 1
    print(table_of(rows))
    print(
        f"\nmedian of {plan.rounds} x {plan.measured_s:g} s each; us/op: processor time"
        " per operation; every write was found again at the end"
    )
    if options.json is not None:
        options.json.write_bytes(json_of(rows))
    return 0


def _plan(options: argparse.Namespace) -> Plan:
    rounds, measured_s, warm_up_s = (1, 1.0, 0.3) if options.smoke else (5, 3.0, 1.0)
    names: list[str] = options.only
    return Plan(
        [spec for spec in WORKLOADS if not names or spec.name in names],
        rounds if options.rounds is None else options.rounds,
        warm_up_s,
        measured_s if options.seconds is None else options.seconds,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    add = parser.add_argument
    names = [spec.name for spec in WORKLOADS]
    add("--smoke", action="store_true", help="one short round")
    add("--rounds", type=_positive_int, metavar="N", help="how often each is run")
    add("--seconds", type=_positive, metavar="S", help="how long each run lasts")
    add("--only", action="append", default=[], choices=names, help="not all of them")
    add("--json", type=Path, metavar="FILE", help="write every run there, too")
    return parser


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 3600")
    return number


def _positive_int(text: str) -> int:
    number = int(text)
    if not 0 < number <= 1000:
        raise argparse.ArgumentTypeError(f"{text} is not between 1 and 1000")
    return number


def _say(what: str) -> None:
    """Tell a person who waits, but no file."""
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
