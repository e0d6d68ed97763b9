"""The long form of the fuzz tests: ``python -m tests.fuzz --minutes M``.

Runs them all again and again, each round from another random seed, until the time is
over; a round that has begun is finished. Prints how many examples each topic had, and
for each failure what pytest said and the command that repeats its round.

    --minutes M         how long; 10 if left out
    --seed N            the first round's seed; random if left out
    --results FILE      add a row for each topic to this file
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence

from tests.fuzz.rounds import Total, command_of, run_round
from tests.proof.arguments import natural, new_file, span
from tests.proof.results import append, new_row, tested_commit

__all__ = ["main"]


def _options(args: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=span, default=10.0)
    parser.add_argument("--seed", type=natural, default=random.randrange(1 << 31))
    parser.add_argument("--results", type=new_file)
    return parser.parse_args(args)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(args: Sequence[str] | None = None) -> int:
    """Run rounds until the time is over; the exit code says whether one failed."""
    options = _options(args)
    began_s, commit = time.monotonic(), tested_commit()
    total, seed = Total(), options.seed
    while True:
        found = run_round(seed)
        total.add(found)
        spent_s = time.monotonic() - began_s
        _say(f"seed {seed}: {sum(found.examples.values())} examples, {spent_s:.0f} s")
        if found.failed:
            _say(found.output)
            _say(f"repeat it with: {command_of(seed)}")
        if spent_s >= options.minutes * 60:
            break
        seed += 1
    _say("\n".join(total.lines()))
    if options.results is not None:
        command = f"python -m tests.fuzz --seed {options.seed}"
        append(
            options.results,
            [
                new_row(
                    "fuzz",
                    name=name,
                    commit=commit,
                    runs=runs,
                    failures=total.failures[name],
                    seconds=round(spent_s, 1),
                    command=command,
                )
                for name, runs in sorted(total.examples.items())
            ],
        )
    return 1 if total.failures else 0


if __name__ == "__main__":
    sys.exit(main())
