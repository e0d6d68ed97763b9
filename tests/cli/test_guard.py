"""The guard stops its child in time, whatever happens to the process that claimed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import click
import pytest

from raftctl import guard as guard_module
from raftctl.guarded import ON_LOST, OnLost
from tests.cli.events import pid_line
from tests.cli.guarded_driver import GUARD_DIED, STOPPED, guard_of
from tests.structure import ROOT

_SCRIPT = """
import os, signal
def heard(*_):
    os.write(1, b"term\\n")
    {reaction}
signal.signal(signal.SIGTERM, heard)
os.write(1, b"%d\\n" % os.getpid())
while True:
    signal.pause()
"""
POLITE = (sys.executable, "-c", _SCRIPT.format(reaction="os._exit(0)"))
STUBBORN = (sys.executable, "-c", _SCRIPT.format(reaction="pass"))
# Leaves a process of its group behind, that never ends by itself.
PARENT = ("sh", "-c", "tail -f /dev/null & echo $!; exit 3")

Drive = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def drive() -> Iterator[Drive]:
    """Run commands behind guards, each in a process of its own."""
    started: list[subprocess.Popen[bytes]] = []

    def run(
        *command: str, ttl_s: float = 2.0, remaining_s: float = 60.0
    ) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.cli.guarded_driver"),
                *(str(ttl_s), str(remaining_s), *command),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


def test_the_command_runs_and_its_code_is_passed_on(drive: Drive) -> None:
    process = drive("sh", "-c", "echo hello; exit 7")
    out, err = process.communicate()
    assert (process.returncode, out, err) == (7, b"hello\n", b"")


def test_a_signal_that_ends_the_command_is_passed_on_as_its_code(drive: Drive) -> None:
    process = drive("sh", "-c", "kill -USR1 $$")
    process.communicate()
    assert process.returncode == 128 + signal.SIGUSR1


def test_the_command_finds_signals_as_a_shell_leaves_them(drive: Drive) -> None:
    process = drive("grep", "SigIgn", "/proc/self/status")
    out, _ = process.communicate()
    assert int(out.split()[1], 16) & (1 << (signal.SIGPIPE - 1)) == 0


def test_no_command_no_run(drive: Drive) -> None:
    process = drive("/nowhere/command")
    _, err = process.communicate()
    assert process.returncode == guard_module.NO_COMMAND
    assert err == b'error: there is no command "/nowhere/command"; check PATH.\n'


def test_what_the_command_leaves_running_is_killed_when_it_ends(drive: Drive) -> None:
    process = drive(*PARENT)
    left_behind = pid_line(process)
    left_behind.wait()
    assert process.wait() == 3


def test_killed_parent_leaves_no_child_behind(drive: Drive) -> None:
    process = drive(*POLITE)
    child = pid_line(process)
    process.kill()
    assert said(process) == b"term\n"
    child.wait()


def test_killed_parent_leaves_no_stubborn_child_behind(drive: Drive) -> None:
    process = drive(*STUBBORN)
    child = pid_line(process)
    process.kill()
    assert said(process) == b"term\n"
    child.wait()


def test_stopped_parent_loses_its_child_before_the_lease_can_end(drive: Drive) -> None:
    # Renewed again and again: only a parent that stands still ever comes near to it.
    # The guard begins five seconds before the end: time enough on any machine.
    process = drive(*POLITE, ttl_s=20.0, remaining_s=6.0)
    child = pid_line(process)
    process.send_signal(signal.SIGSTOP)
    begun_s = guard_module.boottime_s()
    assert said(process) == b"term\n"
    child.wait()
    assert guard_module.boottime_s() - begun_s < 6.0, "later than the deadline"
    process.send_signal(signal.SIGCONT)
    assert process.wait() == STOPPED


def test_stopped_child_dies_too(drive: Drive) -> None:
    process = drive(*STUBBORN)
    child = pid_line(process)
    os.kill(child.pid, signal.SIGSTOP)
    process.kill()
    child.wait()


def test_claim_that_is_not_renewed_stops_the_command(drive: Drive) -> None:
    process = drive(*STUBBORN, ttl_s=0.4, remaining_s=0.0)
    assert process.wait() == STOPPED


def test_signals_are_passed_on_to_the_command(drive: Drive) -> None:
    process = drive(*POLITE)
    pid_line(process)
    process.send_signal(signal.SIGTERM)
    assert said(process) == b"term\n"
    assert process.wait() == 0


_GIVES_BACK = """
import asyncio, signal, sys
from raftctl.guarded import Claim, OnLost, run_guarded
from raftctl.stopper import Stopper

async def work():
    stopper = Stopper()
    await run_guarded(["true"], {}, Claim(60, lambda: 60, asyncio.Event()), OnLost())
    signal.raise_signal(signal.Signals(int(sys.argv[1])))
    try:
        await asyncio.Event().wait()
    finally:
        print("given back", stopper.told.name)

asyncio.run(work())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_behind_the_command_lets_it_be_given_back(
    number: signal.Signals,
) -> None:
    """The guard's way to treat signals ends with the command, and so does its own."""
    ran = subprocess.run(
        [sys.executable, "-c", _GIVES_BACK, str(number.value)],
        capture_output=True,
        check=False,
    )
    assert ran.stdout.decode() == f"given back {number.name}\n"
    assert b"CancelledError" in ran.stderr


def test_killed_guard_takes_the_command_with_it(drive: Drive) -> None:
    process = drive(*STUBBORN)
    child = pid_line(process)
    os.kill(guard_of(process.pid), signal.SIGKILL)
    child.wait()
    assert process.wait() == GUARD_DIED


def test_the_guard_is_out_of_reach_of_the_terminal(drive: Drive) -> None:
    process = drive(*POLITE)
    child = pid_line(process)
    guard = guard_of(process.pid)
    assert os.getsid(guard) == guard
    assert os.getsid(child.pid) == os.getsid(process.pid)
    assert os.getpgid(child.pid) == child.pid


def test_nothing_runs_behind_a_gate_whose_guard_has_died() -> None:
    reader, writer = os.pipe()
    gate = subprocess.Popen(
        [sys.executable, "-I", guard_module.__file__, "gate", str(reader), "echo", "x"],
        pass_fds=[reader],
        stdout=subprocess.PIPE,
    )
    os.close(reader)
    os.close(writer)
    out, _ = gate.communicate()
    assert (gate.returncode, out) == (guard_module.GATE_BROKEN, b"")


def test_guard_without_a_child_ends_with_its_parent() -> None:
    reader, writer = os.pipe()
    guard = subprocess.Popen(
        [sys.executable, "-I", guard_module.__file__, "guard", str(writer), "15", "1"],
        pass_fds=[writer],
        stdin=subprocess.PIPE,
    )
    os.close(writer)
    guard.communicate(b"deadline 1.0\n")
    assert guard.returncode == 0
    assert os.read(reader, 2) == b"", "the gate was never opened"
    os.close(reader)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("term,kill", OnLost(signal.SIGTERM)),
        ("term,kill:2s", OnLost(signal.SIGTERM, 2.0)),
        ("INT,kill:500ms", OnLost(signal.SIGINT, 0.5)),
        ("kill", OnLost(signal.SIGKILL)),
    ],
)
def test_how_to_stop_is_read(text: str, wanted: OnLost) -> None:
    assert ON_LOST.convert(text, None, None) == wanted


@pytest.mark.parametrize("text", ["", "term", "kill,term", "usr1,kill", "term,kill:x"])
def test_how_to_stop_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"write (kill|it)"):
        ON_LOST.convert(text, None, None)


def test_the_grace_is_a_quarter_of_the_ttl_and_at_most_five_seconds() -> None:
    assert OnLost().grace_for(8.0) == 2.0
    assert OnLost().grace_for(600.0) == 5.0
    assert OnLost(grace_s=3.0).grace_for(10.0) == 3.0
    with pytest.raises(click.UsageError, match="at most half"):
        OnLost(grace_s=6.0).grace_for(10.0)
