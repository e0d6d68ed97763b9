"""The parts of ``make bench``: the rates beside the peers, and the longer measurements.

Rules: each longer part is a program of its own, ``python -m tests.bench.NAME``, with
arguments of its own; here it is run with its defaults, as a process of its own, so that
what one leaves in memory burdens no other.

Source: PERFORMANCE.md, the table of goals.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

__all__ = ["PARTS", "RATES", "run_part"]

RATES: Final = "rates"
_LONGER: Final = ("failover", "sizes", "growth", "soak")
PARTS: Final = (RATES, *_LONGER)
_ROOT: Final = Path(__file__).resolve().parents[2]


def run_part(name: str) -> int:
    """Run a longer part; returns its exit code.

    Args:
        name: One of ``PARTS``, except the rates.
    """
    assert name in _LONGER, "the rates are run in this process"
    command = [sys.executable, "-m", f"tests.bench.{name}"]
    return subprocess.run(command, cwd=_ROOT, check=False).returncode
