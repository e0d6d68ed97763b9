"""Jobs and queues on the command line, against a real node."""

from __future__ import annotations

import json
import os
import select
import sys

import pytest

from raftctl.exit_codes import ExitCode, Failure
from raftctl.job_put import LINE_BYTES_MAX, batches_of, read_lines
from tests.cli.conftest import Ctl, Spawn


def test_a_job_from_put_to_its_result(ctl: Ctl) -> None:
    job = ctl("job", "put", "j/a", "hello", "--meta", "who=me").text.strip()
    taken = ctl("job", "reserve", "j/a", "-o", "json").json
    assert (str(taken["job_id"]), taken["payload"]) == (job, "hello")
    assert taken["meta"] == {"who": "me"}
    token = str(taken["token"])
    shown = ctl("job", "get", job, "-o", "json").json
    assert (shown["state"], shown["token"]) == ("RESERVED", taken["token"])
    assert shown["due"] is not None

    wrong = ctl("job", "ack", job, "--token", "1")
    assert wrong.code == ExitCode.LOST
    assert "another worker may have it" in wrong.err
    late = ctl("job", "extend", job, "--token", token, "--for", "1m", "-o", "json")
    assert late.json["remaining_ms"] == 60_000
    data = ("--data", "half", "--progress", "0.5")
    assert ctl("job", "savepoint", job, "--token", token, *data).code == ExitCode.OK
    assert ctl("job", "get", job, "-o", "json").json["savepoint"] == "half"

    done = ctl("job", "ack", job, "--token", token, "--result", "world")
    assert done.text == "DONE\n"
    assert ctl("job", "wait", job).text == "world\n"
    assert ctl("job", "cancel", job).code == ExitCode.PRECONDITION
    lease = str(shown["lease_id"])
    assert ctl("lease", "info", lease).code == ExitCode.NOT_FOUND, "revoked with it"


def test_a_reservation_outlives_the_command(ctl: Ctl) -> None:
    ctl("job", "put", "j/out", "x")
    taken = ctl("job", "reserve", "j/out", "-o", "json").json
    assert ctl("job", "reserve", "j/out", "--wait", "0").code == ExitCode.NOT_FOUND
    line = (str(taken["job_id"]), "--token", str(taken["token"]))
    assert ctl("job", "release", *line).text == "READY\n"
    assert ctl("job", "reserve", "j/out", "--wait", "0").code == ExitCode.OK


def test_reserve_prints_id_token_and_payload(ctl: Ctl) -> None:
    job = ctl("job", "put", "j/r", "pay").text.strip()
    lines = ctl("job", "reserve", "j/r").text.splitlines()
    assert lines[0] == f"id {job}"
    assert lines[1].startswith("token ")
    assert lines[2] == "payload pay"


def test_a_failed_job_is_dead_and_redriven(ctl: Ctl) -> None:
    job = ctl("job", "put", "j/f", "x").text.strip()
    token = str(ctl("job", "reserve", "j/f", "-o", "json").json["token"])
    line = ("job", "fail", job, "--token", token, "--error", "no", "--fatal")
    assert ctl(*line).text == "DEAD\n"
    waited = ctl("job", "wait", job)
    assert waited.code == ExitCode.ERROR
    assert waited.err == f"error: job {job} ended DEAD: no.\n"
    assert ctl("job", "redrive", "j/f").text == "1\n"
    assert ctl("job", "get", job, "-o", "value").text == "READY\n"


def test_the_same_id_is_the_same_job(ctl: Ctl) -> None:
    first = ctl("job", "put", "j/id", "x", "--id", "only-once")
    again = ctl("job", "put", "j/id", "x", "--id", "only-once")
    assert first.out == again.out
    assert again.err == "the job was there already\n"
    assert ctl("job", "get", "only-once", "-o", "json").json["queue"] == "j/id"


def test_a_scheduled_job_waits_and_is_cancelled(ctl: Ctl) -> None:
    job = ctl("job", "put", "j/c", "x", "--delay", "1h").text.strip()
    assert ctl("job", "get", job, "-o", "value").text == "SCHEDULED\n"
    late = ctl("job", "wait", job, "--wait", "50ms")
    assert late.code == ExitCode.PRECONDITION
    assert ctl("job", "cancel", job).text == "CANCELLED\n"
    assert ctl("job", "ls", "j/c", "--state", "cancelled", "-o", "value").text == (
        f"{job}\n"
    )


def test_watch_follows_a_job_to_its_end(ctl: Ctl, spawn: Spawn) -> None:
    job = ctl("job", "put", "j/w", "x").text.strip()
    watch = spawn("job", "watch", job, "-o", "jsonl")
    assert watch.stdout is not None
    assert json.loads(watch.stdout.readline())["state"] == "READY"
    ctl("job", "cancel", job)
    out, _ = watch.communicate()
    assert json.loads(out)["state"] == "CANCELLED"
    assert watch.returncode == ExitCode.OK


def test_lines_are_jobs(ctl: Ctl) -> None:
    stdin = "".join(f"line {i}\n" for i in range(250)).encode()
    assert ctl("job", "put", "j/lines", "--lines", stdin=stdin).text == "250 jobs\n"
    found = ctl("job", "ls", "j/lines", "-o", "jsonl").lines
    assert [each["payload"] for each in found] == [f"line {i}" for i in range(250)]
    listed = ctl("job", "put", "j/lines", "--lines", "-o", "json", stdin=b"x\ny")
    assert [each["state"] for each in listed.lines] == ["READY", "READY"]


async def test_lines_are_read_without_their_ends_and_the_last_may_lack_one() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"a\n\nb\r\nc")
    os.close(writer)
    assert [each async for each in read_lines(reader)] == [[b"a", b"", b"b\r"], [b"c"]]
    os.close(reader)


async def test_an_endless_line_is_refused_before_memory_is_full() -> None:
    fd = os.open("/dev/zero", os.O_RDONLY)
    with pytest.raises(Failure, match="a line is longer"):
        assert [each async for each in read_lines(fd)] == []
    os.close(fd)


def test_batches_keep_within_count_and_bytes() -> None:
    assert [len(each) for each in batches_of([b"x"] * 250)] == [100, 100, 50]
    large = b"x" * (LINE_BYTES_MAX // 2)
    assert [len(each) for each in batches_of([large, large, b"y"])] == [2, 1]
    assert list(batches_of([])) == []


def test_exec_completes_with_the_output_and_fails_with_the_errors(ctl: Ctl) -> None:
    good = ctl("job", "put", "x/once", "payload").text.strip()
    once = ("job", "exec", "x/once", "--once", "--")
    assert ctl(*once, "tr", "a-z", "A-Z").code == ExitCode.OK
    assert ctl("job", "wait", good).text == "PAYLOAD\n"

    bad = ctl("job", "put", "x/once", "x", "--max-attempts", "1").text.strip()
    assert ctl(*once, "sh", "-c", "echo broken >&2; exit 3").code == 3
    shown = ctl("job", "get", bad, "-o", "json").json
    assert (shown["state"], shown["error"]) == ("DEAD", "broken")


def test_exec_tells_its_command_which_job_it_is(ctl: Ctl) -> None:
    job = ctl("job", "put", "x/env", "").text.strip()
    script = "echo $RAFTCTL_QUEUE $RAFTCTL_JOB_ID $RAFTCTL_JOB_ATTEMPT"
    ctl("job", "exec", "x/env", "--once", "--", "sh", "-c", script)
    assert ctl("job", "wait", job).text == f"x/env {job} 0\n"


def test_exec_drains_a_queue_with_many_at_once(ctl: Ctl) -> None:
    ctl("job", "put", "x/drain", "--lines", stdin=b"x\n" * 20)
    line = ("job", "exec", "x/drain", "--drain", "-c", "4", "--", "cat")
    assert ctl(*line).code == ExitCode.OK
    stats = ctl("queue", "stats", "x/drain", "-o", "json").json
    assert (stats["done"], stats["ready"], stats["reserved"]) == (20, 0, 0)


def test_sigterm_lets_the_running_job_finish(ctl: Ctl, spawn: Spawn) -> None:
    running = ctl("job", "put", "x/term", "1").text.strip()
    waiting = ctl("job", "put", "x/term", "2").text.strip()
    reader, writer = os.pipe()
    told, teller = os.pipe()
    files = f"/proc/{os.getpid()}/fd"
    script = (
        f"open('{files}/{teller}', 'w').write('begun');"
        f" open('{files}/{reader}').read(); print('finished')"
    )
    worker = spawn("job", "exec", "x/term", "--", sys.executable, "-c", script)
    # RESERVED would be too early: a worker that has not had the answer gives it back.
    while not select.select([told], [], [], 0.1)[0]:
        assert worker.poll() is None
    worker.terminate()
    os.close(writer)
    worker.communicate()
    assert worker.returncode == ExitCode.OK
    assert ctl("job", "wait", running).text == "finished\n"
    assert ctl("job", "get", waiting, "-o", "value").text == "READY\n"
    for each in (reader, told, teller):
        os.close(each)


def test_a_cancelled_job_kills_its_command(ctl: Ctl, spawn: Spawn) -> None:
    line = ("--reservation", "3s")
    job = ctl("job", "put", "x/cancel", "1", *line).text.strip()
    worker = spawn("job", "exec", "x/cancel", "--once", "--", "tail", "-f", "/dev/null")
    while ctl("job", "get", job, "-o", "value").text != "RESERVED\n":
        assert worker.poll() is None
    assert ctl("job", "cancel", job).text == "RESERVED until its worker stops\n"
    worker.communicate()
    assert worker.returncode == ExitCode.LOST
    assert ctl("job", "get", job, "-o", "value").text == "CANCELLED\n"


def test_queue_verbs(ctl: Ctl) -> None:
    ctl("job", "put", "q/a", "x")
    assert "q/a" in ctl("queue", "ls", "q/").text
    assert ctl("queue", "pause", "q/a").text == "q/a paused\n"
    assert ctl("job", "reserve", "q/a", "--wait", "0").code == ExitCode.NOT_FOUND
    assert ctl("queue", "ls", "q/", "-o", "json").json[0]["is_paused"] is True
    ctl("queue", "resume", "q/a")
    ctl("queue", "configure", "q/a", "--max-attempts", "2", "--backoff", "fixed")
    options = ctl("queue", "stats", "q/a", "-o", "json").json["options"]
    assert (options["max_attempts"], options["backoff"]) == (2, "fixed")
    assert ctl("queue", "purge", "q/a").text == "1\n"
    assert ctl("queue", "stats", "q/a", "-o", "value").text == "0\n"
    assert ctl("queue", "stats", "q/none").code == ExitCode.NOT_FOUND


def test_a_full_queue_is_code_ten(ctl: Ctl) -> None:
    ctl("queue", "configure", "q/full", "--depth-max", "1")
    assert ctl("job", "put", "q/full", "1").code == ExitCode.OK
    ran = ctl("job", "put", "q/full", "2")
    assert ran.code == ExitCode.LIMIT
    assert "slow down" in ran.err
