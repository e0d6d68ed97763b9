"""The parts of ``make bench``: the rates beside the peers, and the longer measurements.

Rules: each longer part is a program of its own, ``python -m tests.bench.NAME``, with
arguments of its own; here it is run with its defaults, as a process of its own, so that
what one leaves in memory burdens no other. It prints its table itself, and its rows
come back as JSON.

Source: PERFORMANCE.md, the table of goals.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from tests.bench.sections import SectionRow

__all__ = ["LONGER", "PARTS", "RATES", "PartFailed", "run_part"]

RATES: Final = "rates"
LONGER: Final = ("failover", "sizes", "growth", "scale", "soak")
PARTS: Final = (RATES, *LONGER)
_ROOT: Final = Path(__file__).resolve().parents[2]


class PartFailed(Exception):
    """A longer part did not end well; it has said why."""


def run_part(name: str) -> list[SectionRow]:
    """Run a longer part and return its rows.

    Args:
        name: One of ``LONGER``.

    Raises:
        PartFailed: Something did not work.
    """
    assert name in LONGER, "the rates are run in this process"
    with tempfile.TemporaryDirectory(prefix="raftd-bench-") as folder:
        file = Path(folder) / "rows.json"
        command = [sys.executable, "-m", f"tests.bench.{name}", "--json", str(file)]
        done = subprocess.run(command, cwd=_ROOT, check=False)
        if done.returncode != 0:
            raise PartFailed(f"{name} ended with code {done.returncode}")
        return msgspec.json.decode(file.read_bytes(), type=list[SectionRow])
