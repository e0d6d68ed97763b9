"""Judging histories in a process of its own, beside the next round.

Source: RELIABILITY.md section 4.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.checkers import history
from tests.checkers.judge import judge

if TYPE_CHECKING:
    from tests.checkers.verdict import Verdict

__all__ = ["judge_file", "judges"]

_DIE_WITH_PARENT: Final = 1  # PR_SET_PDEATHSIG of prctl(2)


def judges() -> ProcessPoolExecutor:
    """Make the process; use it as ``with``."""
    return ProcessPoolExecutor(
        max_workers=1,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_serve_only,
        initargs=(os.getpid(),),
    )


def judge_file(path: Path) -> list[Verdict]:
    """Have every checker judge a history."""
    return judge(history.load(path))


def _serve_only(parent: int) -> None:
    """Give way to the nodes, and end with the program, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(10)
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we said so
        os._exit(1)
