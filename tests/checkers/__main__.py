"""The command line: judge histories, corrupt them, prove that the judges say no.

    python -m tests.checkers judge FILE...
    python -m tests.checkers corrupt FILE --how NAME -o OUT
    python -m tests.checkers prove FILE

0 = all legal (prove: and every corrupted copy illegal), 1 = one is illegal, 2 = none
is, but one is unknown or unreadable. With ``--results`` a proof adds a row for each
checker to a file: how many histories it judged, the corrupted copies among them, and
how often it was wrong.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.checkers.corrupt import CORRUPTIONS, Unable, corrupt
from tests.checkers.history import HistoryError, load, save
from tests.checkers.judge import CHECKERS, judge
from tests.checkers.prove import prove
from tests.proof.arguments import Parser, new_file
from tests.proof.results import append, new_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.checkers.prove import Proof
    from tests.checkers.verdict import Verdict
    from tests.proof.results import Row

__all__ = ["main"]

_LEGAL, _ILLEGAL, _UNKNOWN = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code."""
    parser = Parser(
        prog="python -m tests.checkers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    judging = commands.add_parser("judge", help="say whether histories are legal")
    judging.add_argument("files", nargs="+", type=Path)
    corrupting = commands.add_parser("corrupt", help="write a corrupted copy")
    corrupting.add_argument("file", type=Path)
    corrupting.add_argument("--how", required=True, choices=sorted(CORRUPTIONS))
    corrupting.add_argument("-o", "--out", required=True, type=new_file)
    proving = commands.add_parser("prove", help="judge it, and every corrupted copy")
    proving.add_argument("file", type=Path)
    proving.add_argument("--results", type=new_file, help="a file to add rows to")
    for each in (corrupting, proving):
        each.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(arguments)
    try:
        match asked.command:
            case "judge":
                return _worst(_judge_file(path) for path in asked.files)
            case "corrupt":
                return _corrupt(asked.file, asked.how, asked.out, asked.seed)
            case _:
                return _prove(asked.file, asked.seed, asked.results)
    except (HistoryError, Unable) as error:
        print(error, file=sys.stderr)
        return _UNKNOWN


def _worst(outcomes: Iterable[int]) -> int:
    """Return what several come to; illegal counts more than unknown."""
    found = set(outcomes)
    return _ILLEGAL if _ILLEGAL in found else max(found)


def _judge_file(path: Path) -> int:
    """Judge one of several: what cannot be read does not hide the others."""
    try:
        return _judge(path)
    except HistoryError as error:
        print(error, file=sys.stderr)
        return _UNKNOWN


def _judge(path: Path) -> int:
    """Print what each checker says; illegal counts more than unknown."""
    history = load(path)
    if not history.ops:
        raise HistoryError(f"{path} has no operation: there is nothing to judge")
    verdicts = judge(history)
    for verdict in verdicts:
        print(f"{path}: {verdict.checker:<10} {verdict.outcome:<8} {verdict.sentence}")
    codes = {"legal": _LEGAL, "illegal": _ILLEGAL, "unknown": _UNKNOWN}
    return _worst(codes[verdict.outcome] for verdict in verdicts)


def _corrupt(path: Path, how: str, out: Path, seed: int) -> int:
    save(corrupt(load(path), how, random.Random(seed)), out)
    print(f"{out}: {CORRUPTIONS[how].what}; {CORRUPTIONS[how].checker} must refuse it")
    return _LEGAL


def _prove(path: Path, seed: int, results: Path | None) -> int:
    history = load(path)
    verdicts = judge(history)
    for verdict in verdicts:
        print(f"{verdict.checker:<10} {verdict.outcome:<8} {verdict.sentence}")
    if any(verdict.outcome != "legal" for verdict in verdicts):
        return _ILLEGAL
    print()
    proofs = []
    for proof in prove(history, seed):
        proofs.append(proof)
        name = f"{proof.checker:<10} {proof.how:<26}"
        print(f"{name} {proof.outcome:<8} {proof.sentence}")
    missing = set(CHECKERS) - {proof.checker for proof in proofs if proof.is_done}
    if missing:
        names = ", ".join(sorted(missing))
        print(f"nothing in this history can be corrupted for: {names}")
    if results is not None:
        append(results, [_row(each, proofs) for each in verdicts])
    is_proved = not missing and all(proof.is_good for proof in proofs)
    return _LEGAL if is_proved else _ILLEGAL


def _row(verdict: Verdict, proofs: Sequence[Proof]) -> Row:
    """Return what a proof came to for one checker."""
    mine = [
        proof for proof in proofs if proof.checker == verdict.checker and proof.is_done
    ]
    return new_row(
        "checkers",
        name=verdict.checker,
        runs=1 + len(mine),
        failures=sum(not proof.is_good for proof in mine),
        operations=verdict.count,
    )


if __name__ == "__main__":
    sys.exit(main())
