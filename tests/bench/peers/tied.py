"""Becomes another program, which ends when its parent ends.

Started as a file, by itself: it imports nothing of ours and little else.

Source: prctl(2), PR_SET_PDEATHSIG; it survives execve(2).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["tied"]

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def tied(command: Sequence[str]) -> list[str]:
    """Return a command that is killed when the calling process ends, however that is.

    The kernel watches the thread that starts it: let that be the main thread.
    """
    interpreter = [sys.executable, "-I", "-S", str(Path(__file__).resolve())]
    return [*interpreter, str(os.getpid()), *command]


def _become(parent: int, command: list[str]) -> None:
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we said so
        sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606  # the very purpose of this file


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
