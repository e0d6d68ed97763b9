"""From which seed on the gate looks for each planted bug.

Written by ``python -m tests.mutants --freeze``; to be written anew when the draws of a
finder have changed and the gate says that it misses a bug.
"""

from __future__ import annotations

from typing import Final

__all__ = ["FIRST_SEEDS"]

FIRST_SEEDS: Final[dict[str, int]] = {}
