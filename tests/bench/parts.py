"""The parts of ``make bench``: the rates beside the peers, and the longer measurements.

Rules: each longer part is a program of its own, ``python -m tests.bench.NAME``, with
arguments of its own; here it is run with its defaults, as a process of its own, so that
what one leaves in memory burdens no other. It prints its table itself, and its rows
come back in a file, also those of a part that did not end well. Ctrl-C is passed on,
once, and the part's end awaited: it has processes of its own to end.

Source: PERFORMANCE.md, the table of goals.
"""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.bench.peers.tied import tied
from tests.bench.record import read_records
from tests.bench.sections import SectionRow

__all__ = ["LONGER", "PARTS", "RATES", "Part", "run_part"]

RATES: Final = "rates"
LONGER: Final = ("failover", "sizes", "growth", "scale", "soak")
PARTS: Final = (RATES, *LONGER)
_ROOT: Final = Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """What a longer part came to.

    Attributes:
        rows: That it told.
        code: Of its exit; 0 is well.
    """

    rows: tuple[SectionRow, ...]
    code: int


def run_part(name: str) -> Part:
    """Run a longer part.

    Args:
        name: One of ``LONGER``.
    """
    assert name in LONGER, "the rates are run in this process"
    with tempfile.TemporaryDirectory(prefix="raftd-bench-") as folder:
        file = Path(folder) / "rows.json"
        command = [sys.executable, "-m", f"tests.bench.{name}", "--json", str(file)]
        process = subprocess.Popen(tied(command), cwd=_ROOT, start_new_session=True)
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            code = process.wait()
        rows = read_records([file]).rows if file.exists() else ()
        return Part(rows, code)
