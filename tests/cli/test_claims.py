"""Locks and elections on the command line, against a real node."""

from __future__ import annotations

import json
import signal
import sys

import pytest

from cluster.processes import Processes
from raftctl.exit_codes import ExitCode
from tests.cli.conftest import Ctl, Spawn
from tests.cli.events import pid_line

WAITS = (
    sys.executable,
    "-c",
    "import os, signal; os.write(1, b'%d\\n' % os.getpid()); signal.pause()",
)
ENVIRONMENT = (
    sys.executable,
    "-c",
    "import json, os; print(json.dumps({k: v for k, v in os.environ.items()"
    " if k.startswith('RAFTCTL_')}))",
)


def test_lock_acquire_outlives_the_command(ctl: Ctl) -> None:
    grant = ctl("lock", "acquire", "l/a", "--ttl", "1m", "-o", "json").json
    info = ctl("lock", "info", "l/a", "-o", "json").json
    (holder,) = info["holders"]
    assert (holder["token"], holder["lease_id"]) == (grant["token"], grant["lease_id"])
    assert holder["since"].endswith("Z")

    held = ctl("lock", "acquire", "l/a", "--ttl", "1m", "--wait", "0")
    assert held.code == ExitCode.PRECONDITION
    assert "wait longer with --wait" in held.err

    wrong = ctl("lock", "release", "l/a", "--token", str(grant["token"] - 1))
    assert wrong.code == ExitCode.LOST
    token = str(grant["token"])
    assert ctl("lock", "release", "l/a", "--token", token).code == ExitCode.OK
    assert ctl("lock", "release", "l/a", "--token", token).code != ExitCode.OK
    lease = str(grant["lease_id"])
    assert ctl("lease", "info", lease).code == ExitCode.NOT_FOUND


def test_a_wait_that_failed_leaves_no_lease_behind(ctl: Ctl) -> None:
    token = ctl("lock", "acquire", "l/w", "--ttl", "1m", "-o", "value").text.strip()
    before = ctl("lease", "ls", "-o", "value").text
    ctl("lock", "acquire", "l/w", "--ttl", "1m", "--wait", "50ms")
    assert ctl("lease", "ls", "-o", "value").text == before
    ctl("lock", "release", "l/w", "--token", token)


def test_shared_locks_are_held_together_and_keep_exclusive_ones_out(ctl: Ctl) -> None:
    line = ("lock", "acquire", "l/shared", "--ttl", "1m", "--wait", "0")
    assert ctl(*line, "--shared").code == ExitCode.OK
    assert ctl(*line, "--shared").code == ExitCode.OK
    assert ctl(*line).code == ExitCode.PRECONDITION


def test_a_semaphore_has_so_many_holders(ctl: Ctl) -> None:
    line = ("lock", "acquire", "l/sem", "--ttl", "1m", "--wait", "0", "--limit", "2")
    assert [ctl(*line).code for _ in range(3)] == [
        ExitCode.OK,
        ExitCode.OK,
        ExitCode.PRECONDITION,
    ]


def test_lock_ls_and_break(ctl: Ctl) -> None:
    ctl("lock", "acquire", "brk/a", "--ttl", "1m")
    assert ctl("lock", "ls", "brk/", "-o", "value").text == "brk/a\n"
    assert "exclusive" in ctl("lock", "ls", "brk/").text
    assert "held by raftctl/" in ctl("lock", "info", "brk/a").text
    assert ctl("lock", "break", "brk/a").text == "1\n"
    assert ctl("lock", "break", "brk/a").code == ExitCode.NOT_FOUND


def test_lock_exec_tells_its_command_and_passes_its_code_on(ctl: Ctl) -> None:
    found = ctl("lock", "exec", "x/a", "--", *ENVIRONMENT).json
    assert found["RAFTCTL_LOCK_NAME"] == "x/a"
    assert int(found["RAFTCTL_LOCK_TOKEN"]) > int(found["RAFTCTL_LEASE_ID"]) > 0
    assert ctl("lock", "exec", "x/a", "--", "sh", "-c", "exit 7").code == 7
    killed = ctl("lock", "exec", "x/a", "--", "sh", "-c", "kill -9 $$")
    assert killed.code == 128 + signal.SIGKILL
    assert ctl("lock", "info", "x/a").code == ExitCode.NOT_FOUND, "given back"


def test_lock_exec_waits_no_longer_than_told(ctl: Ctl) -> None:
    ctl("lock", "acquire", "x/held", "--ttl", "1m")
    ran = ctl("lock", "exec", "x/held", "--wait", "100ms", "--", "true")
    assert ran.code == ExitCode.PRECONDITION


def test_every_flag_is_also_a_variable(
    ctl: Ctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctl("lock", "acquire", "x/env", "--ttl", "1m")
    monkeypatch.setenv("RAFTCTL_LOCK_EXEC_WAIT", "50ms")
    monkeypatch.setenv("RAFTCTL_OUTPUT", "value")
    assert ctl("lock", "exec", "x/env", "--", "true").code == ExitCode.PRECONDITION
    assert ctl("lock", "ls", "x/env").text == "x/env\n"


def test_stopped_raftctl_loses_its_command_before_another_can_acquire(
    ctl: Ctl, spawn: Spawn
) -> None:
    first = spawn("lock", "exec", "x/stop", "--ttl", "3s", "--", *WAITS)
    child = pid_line(first)
    first.send_signal(signal.SIGSTOP)
    second = ctl("lock", "exec", "x/stop", "--wait", "20s", "--", "echo", "mine")
    assert second.text == "mine\n"
    assert child.has_come(), "two commands ran under one lock"
    first.send_signal(signal.SIGCONT)
    _, err = first.communicate()
    assert first.returncode == ExitCode.LOST
    assert err.startswith(b'error: lock "x/stop" was lost')


def test_killed_raftctl_leaves_no_command_behind(spawn: Spawn) -> None:
    first = spawn("lock", "exec", "x/kill", "--ttl", "1m", "--", *WAITS)
    child = pid_line(first)
    first.kill()
    child.wait()


def test_cluster_that_stands_still_stops_the_command_in_time(
    node: Processes, ctl: Ctl, spawn: Spawn
) -> None:
    first = spawn(
        *("lock", "exec", "x/still", "--ttl", "4s", "--on-lost", "term,kill:2s"),
        *("--timeout", "3s", "--", *WAITS),
    )
    child = pid_line(first)
    node.signal(1, signal.SIGSTOP)
    try:
        child.wait(4.0)
    finally:
        node.signal(1, signal.SIGCONT)
    _, err = first.communicate()
    assert first.returncode == ExitCode.LOST
    assert err.startswith(b'error: lock "x/still" was lost')
    again = ctl("lock", "exec", "x/still", "--wait", "20s", "--", "echo", "mine")
    assert again.text == "mine\n"


def test_broken_lock_stops_the_command(ctl: Ctl, spawn: Spawn) -> None:
    first = spawn("lock", "exec", "x/break", "--ttl", "2s", "--", *WAITS)
    child = pid_line(first)
    ctl("lock", "break", "x/break")
    child.wait()
    first.communicate()
    assert first.returncode == ExitCode.LOST


def test_sigterm_reaches_the_command_and_the_lock_is_given_back(
    ctl: Ctl, spawn: Spawn
) -> None:
    first = spawn("lock", "exec", "x/term", "--", *WAITS)
    pid_line(first)
    first.terminate()
    first.communicate()
    assert first.returncode == ExitCode.TERMINATED
    assert ctl("lock", "info", "x/term").code == ExitCode.NOT_FOUND


def test_election_from_campaign_to_resignation(ctl: Ctl, spawn: Spawn) -> None:
    assert ctl("elect", "leader", "e/a").code == ExitCode.NOT_FOUND
    observer = spawn("elect", "observe", "e/a", "-o", "json")
    first = spawn("elect", "campaign", "e/a", "node-1")
    assert first.stdout is not None
    epoch = int(first.stdout.readline())
    assert ctl("elect", "leader", "e/a").text == "node-1\n"
    assert ctl("elect", "leader", "e/a", "-o", "json").json["epoch"] == epoch
    assert ctl("elect", "ls", "e/", "-o", "value").text == "e/a\n"
    lost = ctl("elect", "campaign", "e/a", "node-2", "--wait", "0")
    assert lost.code == ExitCode.PRECONDITION

    assert observer.stdout is not None
    seen = json.loads(observer.stdout.readline())["leader"]
    while seen is None:  # "nobody" comes first, if the observer was quicker
        seen = json.loads(observer.stdout.readline())["leader"]
    assert (seen["value"], seen["epoch"]) == ("node-1", epoch)

    first.terminate()
    first.communicate()
    assert first.returncode == ExitCode.TERMINATED
    assert json.loads(observer.stdout.readline())["leader"] is None
    assert ctl("elect", "leader", "e/a").code == ExitCode.NOT_FOUND


def test_transfer_hands_leadership_over(ctl: Ctl, spawn: Spawn) -> None:
    first = spawn("elect", "campaign", "e/t", "one")
    assert first.stdout is not None
    first.stdout.readline()
    second = spawn("elect", "campaign", "e/t", "two")
    waiting: list[str] = []
    while not waiting:
        (found,) = ctl("elect", "ls", "e/t", "-o", "json").json
        waiting = [each["claimant"] for each in found["candidates"]]
    epoch = int(ctl("elect", "transfer", "e/t", waiting[0]).text)
    assert second.stdout is not None
    assert int(second.stdout.readline()) == epoch
    _, err = first.communicate()
    assert first.returncode == ExitCode.LOST
    assert b"stop the work it protected" in err


def test_elect_exec_runs_while_leading(ctl: Ctl) -> None:
    found = ctl("elect", "exec", "e/x", "--", *ENVIRONMENT).json
    assert found["RAFTCTL_ELECTION_NAME"] == "e/x"
    assert int(found["RAFTCTL_EPOCH"]) > 0
    assert int(found["RAFTCTL_LEASE_ID"]) > 0
    assert ctl("elect", "exec", "e/x", "--", "sh", "-c", "exit 9").code == 9
