"""What tests of processes wait for: a line of output, the end of a process."""

from __future__ import annotations

import os
import select
import subprocess

__all__ = ["Ending", "pid_line"]

LIMIT_S = 30.0


class Ending:
    """The end of a process that need not be a child of ours; made while it lives."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = os.pidfd_open(pid)

    def wait(self, limit_s: float = LIMIT_S) -> None:
        """Wait for it."""
        ready, _, _ = select.select([self._fd], [], [], limit_s)
        assert ready, f"process {self.pid} goes on and on"
        os.close(self._fd)

    def has_come(self) -> bool:
        """Tell whether it has ended."""
        return bool(select.select([self._fd], [], [], 0)[0])


def pid_line(process: subprocess.Popen[bytes]) -> Ending:
    """Read a line with a process id from a process's output."""
    assert process.stdout is not None, "its output is a pipe"
    return Ending(int(process.stdout.readline()))
