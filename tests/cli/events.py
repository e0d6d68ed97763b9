"""What tests of processes wait for: a line of output, the end of a process."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess

__all__ = ["Ending", "pid_line"]

LIMIT_S = 60.0


class Ending:
    """The end of a process that need not be a child of ours."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd: int | None = None  # if it has come already
        with contextlib.suppress(ProcessLookupError):
            self._fd = os.pidfd_open(pid)

    def wait(self, limit_s: float = LIMIT_S) -> None:
        """Wait for it."""
        if self._fd is not None:
            ready, _, _ = select.select([self._fd], [], [], limit_s)
            assert ready, f"process {self.pid} goes on and on"
            os.close(self._fd)

    def has_come(self) -> bool:
        """Tell whether it has ended."""
        return self._fd is None or bool(select.select([self._fd], [], [], 0)[0])


def pid_line(process: subprocess.Popen[bytes]) -> Ending:
    """Read a line with a process id from a process's output."""
    assert process.stdout is not None, "its output is a pipe"
    return Ending(int(process.stdout.readline()))
