"""What was asked for on the command line, checked before anything is started.

Rules: a wrong argument is one sentence and exit code 2, as raftctl's is.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.bench.arguments import Parser, count_up_to, file_to_write, number_within
from tests.bench.parts import PARTS, RATES
from tests.bench.peers.base import Peer
from tests.bench.peers.known import HEAT_S, all_peers
from tests.bench.workloads import WORKLOADS

__all__ = ["Options", "parse"]

_ALONE: Final = "none"
_SECONDS_MAX: Final = 600
_ROUNDS_MAX: Final = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What to run.

    Attributes:
        sections: Which parts, in order.
        measures: Names of workloads.
        rounds: How often each.
        warm_up_s: Before each measurement.
        measured_s: Of each measurement.
        peers: Beside whom.
        json: Where to write every run, or None.
        plot: Where to draw the comparison, or None.
        records: Earlier records to show instead of measuring.
        document: Where to put their tables and pictures, or None.
    """

    sections: tuple[str, ...]
    measures: tuple[str, ...]
    rounds: int
    warm_up_s: float
    measured_s: float
    peers: tuple[Peer, ...]
    json: Path | None
    plot: Path | None
    records: tuple[Path, ...]
    document: Path | None


def parse(arguments: Sequence[str] | None) -> Options:
    """Read the command line; ends the program if it is wrong."""
    parser = _parser()
    told = parser.parse_args(arguments)
    if told.into is not None and not told.show:
        parser.error("--into goes with --show")
    names: list[str] = told.only
    rounds, measured_s, warm_up_s = (1, 1.0, 0.2) if told.smoke else (5, 3.0, 1.0)
    return Options(
        sections=told.sections,
        measures=tuple(s.name for s in WORKLOADS if not names or s.name in names),
        rounds=told.rounds or rounds,
        warm_up_s=warm_up_s,
        measured_s=told.seconds or measured_s,
        peers=_peers(told.against or ([_ALONE] if told.smoke else []), told.heat),
        json=told.json,
        plot=told.plot,
        records=tuple(told.show or ()),
        document=told.into,
    )


def _peers(names: list[str], heat_s: float) -> tuple[Peer, ...]:
    return tuple(
        peer for peer in all_peers(heat_s=heat_s) if not names or peer.name in names
    )


def _parser() -> Parser:
    parser = Parser(
        "", "Measures raftd, and the systems it is compared with, in turns."
    )
    seconds = number_within(0.05, _SECONDS_MAX)
    add = parser.add_argument
    measures = [spec.name for spec in WORKLOADS]
    peers = [peer.name for peer in all_peers()]
    add("--smoke", action="store_true", help="one short round, ours alone")
    add(
        "--rounds",
        type=count_up_to(_ROUNDS_MAX),
        metavar="N",
        help="how often each is run: 5",
    )
    add("--seconds", type=seconds, metavar="S", help="how long each run lasts: 3")
    add("--only", action="append", default=[], choices=measures, help="not all")
    add(
        "--against", action="append", choices=[*peers, _ALONE],
        help="beside whom: all that are on this machine",
    )  # fmt: skip
    add(
        "--sections", type=_sections, default=(RATES,), metavar="A,B",
        help=f"which parts: {','.join(PARTS)}; default {RATES}",
    )  # fmt: skip
    add(
        "--heat", type=number_within(0, _SECONDS_MAX), default=HEAT_S, metavar="S",
        help=f"how long a fresh JVM is loaded first: {HEAT_S:g}",
    )  # fmt: skip
    add("--json", type=file_to_write, metavar="FILE", help="write every run there")
    add(
        "--plot",
        type=file_to_write,
        metavar="FILE",
        help="draw the comparison there (SVG)",
    )
    add(
        "--show", type=Path, nargs="+", metavar="FILE",
        help="measure nothing: show what --json wrote, several as one",
    )  # fmt: skip
    add(
        "--into", type=Path, metavar="FILE",
        help="with --show: put tables and pictures into a document, at its marks",
    )  # fmt: skip
    return parser


def _sections(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in PARTS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(PARTS)}")
    return names
