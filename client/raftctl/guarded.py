"""Runs a command under a claim: started behind a guard, gone before the claim can end.

Rules:
    * The guard is there before the command, in a session of its own, and is told the
      claim's local deadline over a pipe. This process may be stopped or killed at any
      time: the guard then stops the command's process group by itself.
    * The command has a process group of its own; signals sent to raftctl are passed on
      to it, and the terminal, if raftctl had it, is handed to it.
    * The child is reaped only after the guard has ended, so that the guard never
      signals a number that has gone to another process.

Source: CLI.md (lock exec); SEMANTICS.md section 4.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from raftctl import guard as guard_module
from raftctl.durations import parse_duration_s
from raftctl.exit_codes import ExitCode, Failure
from raftctl.guard import boottime_s
from raftctl.params import TextType
from raftctl.stopper import listen_again

__all__ = [
    "ON_LOST",
    "Claim",
    "GuardDied",
    "OnLost",
    "Stopped",
    "check_command",
    "run_guarded",
]

GRACE_S_MAX: Final = 5.0
UPDATES_PER_TTL: Final = 20
_PASSED_ON: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_SOFT: Final = {
    "term": signal.SIGTERM,
    "int": signal.SIGINT,
    "hup": signal.SIGHUP,
    "quit": signal.SIGQUIT,
}


@dataclass(frozen=True, slots=True)
class OnLost:
    """How a command is stopped: the first signal, and how long until SIGKILL."""

    soft: signal.Signals = signal.SIGTERM
    grace_s: float | None = None
    """None = min(5 s, a quarter of the ttl)."""

    def grace_for(self, ttl_s: float) -> float:
        """Return the grace under a ttl; at most half of it.

        Raises:
            UsageError: It does not fit.
        """
        if self.grace_s is None:
            return min(GRACE_S_MAX, ttl_s / 4)
        if self.grace_s > ttl_s / 2:
            raise click.UsageError(
                f"a grace of {self.grace_s:g}s is too long for a ttl of {ttl_s:g}s;"
                " give it at most half of the ttl"
            )
        return self.grace_s


class _OnLostType(TextType):
    """``term,kill:GRACE``, ``int,kill``, ``kill`` ..."""

    name = "signals"

    def parse(self, text: str) -> OnLost:
        first, _, then = text.lower().partition(",")
        word, _, grace = then.partition(":")
        if first == "kill" and not then:
            return OnLost(signal.SIGKILL)
        if first not in _SOFT or word != "kill":
            raise ValueError(
                f'"{text}" is not understood; write kill, term,kill or term,kill:2s'
                f" (the first signal may be {', '.join(_SOFT)})"
            )
        return OnLost(_SOFT[first], parse_duration_s(grace) if grace else None)


ON_LOST: Final = _OnLostType()
"""The type of ``--on-lost``."""


class Stopped(Exception):
    """The command was stopped, because its claim was lost or about to be."""


class GuardDied(Exception):
    """The guard was killed; the command has been killed, too."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a command runs under.

    Attributes:
        ttl_s: Of its lease.
        remaining_s: How long it is safe from now on.
        lost: Set when it is known to be lost.
    """

    ttl_s: float
    remaining_s: Callable[[], float]
    lost: asyncio.Event


def check_command(command: Sequence[str]) -> None:
    """See that there is such a command, before anything is claimed for it.

    Raises:
        Failure: There is none.
    """
    if shutil.which(command[0]) is None:
        if os.path.sep in command[0] and Path(command[0]).exists():
            raise Failure(
                f'"{command[0]}" cannot be run; check its permissions',
                ExitCode.NOT_EXECUTABLE,
            )
        raise Failure(
            f'there is no command "{command[0]}"; check PATH', ExitCode.NO_COMMAND
        )


async def run_guarded(
    command: Sequence[str],
    environment: Mapping[str, str],
    claim: Claim,
    on_lost: OnLost,
) -> int:
    """Run a command while a claim lasts; returns its code, 128+n for a signal.

    Raises:
        Stopped: The claim was lost, or could not be renewed in time.
        GuardDied: The guard was killed.
    """
    guard, gate_fd = await _start_guard(on_lost.soft, on_lost.grace_for(claim.ttl_s))
    try:
        _tell_deadline(guard, claim)
        child = _start_child(command, environment, gate_fd)
    finally:
        os.close(gate_fd)
    with _terminal_of(child.pid), _signals_to(child.pid):
        _tell(guard, f"child {child.pid}")
        telling = asyncio.create_task(_keep_telling(guard, claim))
        try:
            guard_code = await guard.wait()
        except asyncio.CancelledError:
            # Nobody waits for the end any more; the guard sees to it alone.
            assert guard.stdin is not None
            guard.stdin.close()
            raise
        finally:
            telling.cancel()
    if guard_code not in {0, guard_module.LOST}:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    code = await asyncio.to_thread(child.wait)
    if guard_code == guard_module.LOST:
        raise Stopped
    if guard_code:
        raise GuardDied
    return code if code >= 0 else 128 - code


async def _start_guard(
    soft: signal.Signals, grace_s: float
) -> tuple[asyncio.subprocess.Process, int]:
    """Start the guard; returns it, and where its child has to wait."""
    gate_fd, guard_fd = os.pipe()
    try:
        guard = await asyncio.create_subprocess_exec(
            *_python("guard", guard_fd, soft.value, grace_s),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            pass_fds=[guard_fd],
            start_new_session=True,
        )
    except BaseException:
        os.close(gate_fd)
        raise
    finally:
        os.close(guard_fd)
    return guard, gate_fd


def _start_child(
    command: Sequence[str], environment: Mapping[str, str], gate_fd: int
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - running the caller's command is its purpose
        [*_python("gate", gate_fd), *command],
        env={**os.environ, **environment},
        pass_fds=[gate_fd],
        process_group=0,
    )


def _python(role: str, *args: object) -> list[str]:
    # Isolated and without site: quick, and nothing of the caller's can get in.
    file = str(guard_module.__file__)
    return [sys.executable, "-I", "-S", file, role, *(str(each) for each in args)]


async def _keep_telling(guard: asyncio.subprocess.Process, claim: Claim) -> None:
    pause_s = min(1.0, claim.ttl_s / UPDATES_PER_TTL)
    while not claim.lost.is_set():
        _tell_deadline(guard, claim)
        with suppress(TimeoutError):
            await asyncio.wait_for(claim.lost.wait(), pause_s)
    _tell(guard, "stop")


def _tell_deadline(guard: asyncio.subprocess.Process, claim: Claim) -> None:
    now_s = boottime_s()  # before the look at what remains: never too late a deadline
    _tell(guard, f"deadline {now_s + claim.remaining_s():.6f}")


def _tell(guard: asyncio.subprocess.Process, line: str) -> None:
    assert guard.stdin is not None
    with suppress(BrokenPipeError, ConnectionResetError):
        guard.stdin.write(f"{line}\n".encode())


@contextmanager
def _signals_to(group: int) -> Iterator[None]:
    """Pass signals on to a process group meanwhile."""
    loop = asyncio.get_running_loop()

    def pass_on(number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(group, number)

    for number in _PASSED_ON:
        loop.add_signal_handler(number, pass_on, number)
    try:
        yield
    finally:
        for number in _PASSED_ON:
            loop.remove_signal_handler(number)
        listen_again()  # what is left to do, as giving back, ends in good order


@contextmanager
def _terminal_of(group: int) -> Iterator[None]:
    """Hand the terminal, if it is ours, to a process group meanwhile."""
    own = os.getpgrp()
    try:
        has_it = os.isatty(0) and os.tcgetpgrp(0) == own
    except OSError:
        has_it = False
    if not has_it:
        yield
        return
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(0, group)
    try:
        yield
    finally:
        os.tcsetpgrp(0, own)
        signal.signal(signal.SIGTTOU, before)
