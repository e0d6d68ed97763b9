"""The guard: a process of its own session that stops a child before a lease can end.

It is told deadlines over its standard input, one text line each, on the clock that
goes on while the machine sleeps:

    deadline SECONDS    the child must be gone by then; a later line replaces it
    child PID           the child, leader of its own process group, has been started
    stop                stop it now: what it works under is lost

Rules:
    * The input's end (whoever spoke has died), ``stop``, or a deadline nearer than the
      grace: the group gets the soft signal, and SIGKILL when the grace is over, at the
      latest at the deadline. A later deadline changes nothing then.
    * When the child has ended by itself, what is left of its group is killed.
    * The guard holds the far end of the gate that the child waits at before it becomes
      its command, so no command ever runs without a guard.
    * It imports next to nothing, and depends on no other module, to be there at once:
      it is run as a file.

Exit code: 0 the child ended by itself; 5 it was stopped.

Source: CLI.md (lock exec); SEMANTICS.md section 4.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

__all__ = ["Guard", "boottime_s", "gate", "main"]

SLICE_S = 1.0
"""Longest wait at a stretch: select's clock stands still while the machine sleeps."""

LOST = 5
GATE_BROKEN = 125
NOT_EXECUTABLE = 126
NO_COMMAND = 127

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boottime_s() -> float:
    """Return seconds since the machine started, sleep included."""
    return time.clock_gettime(_CLOCK)


class Guard:
    """Watches one child.

    Args:
        inlet: Where the lines come from.
        gate_fd: Written to when the child may begin.
        soft: The first signal; SIGKILL for none.
        grace_s: From the first signal to SIGKILL.
    """

    def __init__(
        self, inlet: int, gate_fd: int, soft: signal.Signals, grace_s: float
    ) -> None:
        self._inlet = inlet
        self._gate_fd = gate_fd
        self._soft = soft
        self._grace_s = grace_s
        self._deadline_s = 0.0
        self._group = 0
        self._child_fd = -1
        self._kill_s: float | None = None
        self._rest = b""

    def run(self) -> int:
        """Watch until the child is gone; returns the exit code."""
        while True:
            now_s = boottime_s()
            if now_s >= self._deadline_s - self._grace_s:
                self._begin_to_stop(now_s)
            if self._kill_s is not None and now_s >= self._kill_s:
                self._signal(signal.SIGKILL)
                return LOST
            fds = [fd for fd in (self._inlet, self._child_fd) if fd >= 0]
            ready = select.select(fds, [], [], self._wait_s(now_s))[0]
            if self._child_fd in ready:
                self._signal(signal.SIGKILL)
                return 0 if self._kill_s is None else LOST
            if self._inlet in ready and not self._read():
                return 0  # told to go before there was a child

    def _wait_s(self, now_s: float) -> float:
        if self._kill_s is not None:
            due_s = self._kill_s
        elif self._group:
            due_s = self._deadline_s - self._grace_s
        else:
            return SLICE_S
        return max(0.0, min(SLICE_S, due_s - now_s))

    def _read(self) -> bool:
        data = os.read(self._inlet, 4096)
        if not data:
            os.close(self._inlet)
            self._inlet = -1
            self._begin_to_stop(boottime_s())
            return self._group > 0
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._hear(line.decode("ascii"))
        return True

    def _hear(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word == "deadline":
            self._deadline_s = float(rest)
        elif word == "child":
            self._group = int(rest)
            self._child_fd = os.pidfd_open(self._group)
            os.write(self._gate_fd, b"go")
            os.close(self._gate_fd)
        else:
            assert word == "stop", f"unknown line {line!r}"
            self._begin_to_stop(boottime_s())

    def _begin_to_stop(self, now_s: float) -> None:
        if self._kill_s is not None or not self._group:
            return
        hard_s = now_s if self._soft is signal.SIGKILL else now_s + self._grace_s
        self._kill_s = min(hard_s, max(now_s, self._deadline_s))
        self._signal(self._soft)
        self._signal(signal.SIGCONT)  # a stopped child must hear it, too

    def _signal(self, number: signal.Signals) -> None:
        # The group's number cannot have gone to another: the child, dead or alive, is
        # not waited for before this process has ended, or has just been seen alive.
        try:
            os.killpg(self._group, number)
        except ProcessLookupError:
            return
        except PermissionError:  # the whole group has changed its user
            return


def gate(gate_fd: int, command: list[str]) -> int:
    """Wait for the guard, then become the command."""
    if os.read(gate_fd, 2) != b"go":
        return GATE_BROKEN
    os.close(gate_fd)
    # Python ignores these; a command must find them as any shell leaves them.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - to become it is the purpose
    except FileNotFoundError:
        sys.stderr.write(f'error: there is no command "{command[0]}"; check PATH.\n')
        return NO_COMMAND
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        sys.stderr.write(f'error: "{command[0]}" cannot be run: {why}.\n')
        return NOT_EXECUTABLE


def main(args: list[str]) -> int:
    """Run ``guard GATE_FD SIGNAL GRACE_S`` or ``gate GATE_FD COMMAND ...``."""
    if args[0] == "gate":
        return gate(int(args[1]), args[2:])
    soft = signal.Signals(int(args[2]))
    return Guard(0, int(args[1]), soft, float(args[3])).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
