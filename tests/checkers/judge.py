"""All checkers, in the order in which they are to be read: the first no explains most.

Source: RELIABILITY.md section 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.checkers.elections import check_elections
from tests.checkers.evidence import check_evidence
from tests.checkers.jobs import check_jobs
from tests.checkers.linear import check_linear
from tests.checkers.locks import check_locks
from tests.checkers.outside import check_outside
from tests.checkers.watches import check_watches
from tests.checkers.witness import check_witness

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.checkers.history import History
    from tests.checkers.verdict import Verdict

__all__ = ["CHECKERS", "judge"]

CHECKERS: Final[dict[str, Callable[[History], Verdict]]] = {
    "evidence": check_evidence,
    "witness": check_witness,
    "linear": check_linear,
    "locks": check_locks,
    "elections": check_elections,
    "outside": check_outside,
    "jobs": check_jobs,
    "watches": check_watches,
}


def judge(history: History) -> list[Verdict]:
    """Return what every checker says of a history."""
    return [check(history) for check in CHECKERS.values()]
