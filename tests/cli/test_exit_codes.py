"""Errors end a command with one sentence and the code of the table."""

from __future__ import annotations

import subprocess
import sys

import pytest

from raftclient import errors
from raftctl.exit_codes import ExitCode, failure_of, sentence
from tests.cli.conftest import Ctl


@pytest.mark.parametrize(
    ("reason", "applied", "code"),
    [
        ("INVALID_NAME", "no", 2),
        ("TOO_LARGE", "no", 2),
        ("NOT_FOUND", "no", 3),
        ("PRECONDITION", "no", 4),
        ("LOCK_HELD", "no", 4),
        ("JOB_FINAL", "no", 4),
        ("FENCED", "no", 5),
        ("LEASE_EXPIRED", "no", 5),
        ("SESSION_EXPIRED", "no", 5),
        ("RESERVATION_LOST", "no", 5),
        ("NO_LEADER", "no", 6),
        ("CORRUPT", "no", 6),
        ("SESSION_UNKNOWN", "unknown", 7),
        ("LEADERSHIP_LOST", "unknown", 7),
        ("DENIED", "no", 8),
        ("COMPACTED", "no", 9),
        ("QUEUE_FULL", "no", 10),
        ("INTERNAL", "unknown", 1),
    ],
)
def test_every_row_of_the_table_has_its_code(
    reason: str, applied: str, code: int
) -> None:
    kind = errors.error_class(reason, applied)
    failure = failure_of(kind("it went wrong", reason=reason, applied=applied), "h:1")
    assert failure.exit_code == code
    assert failure.message.startswith("it went wrong")
    assert "\n" not in failure.message


def test_an_error_is_one_sentence_on_one_line() -> None:
    assert sentence("so\nit  is") == "so it is."
    assert sentence("is it so?") == "is it so?"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["nonsense"], 'there is no command "nonsense"; see raftctl -h.'),
        (["lock", "nonsense"], "see raftctl lock -h."),
        (["put", "k"], "missing argument"),
        (["get", "k", "--nonsense"], "see raftctl get -h."),
        (["get", "k", "--timeout", "5x"], "write it like 5, 5s, 500ms"),
        (["get", "k", "-o", "xml"], "'human', 'json', 'jsonl', 'value'"),
        (["del"], "give a KEY or --prefix"),
        (["watch", "a", "--prefix", "b"], "give a KEY or --prefix"),
        (["put", "k", "v", "--fence", "x"], "write LOCK:TOKEN"),
        (["lock", "acquire", "l"], "--ttl"),
        (["lock", "acquire", "l", "--ttl", "1ms"], "at least 1s"),
        (["lock", "exec", "l", "--shared", "--limit", "2", "--", "true"], "not both"),
        (["lock", "exec", "l"], "missing argument"),
        (["lock", "exec", "l", "--on-lost", "x", "--", "true"], "term,kill:2s"),
        (["lock", "exec", "l", "--on-lost", "term,kill:9s", "--", "true"], "half"),
        (["job", "put", "q", "--run-at", "soon"], "2030-01-31T08:00:00Z"),
        (["job", "put", "q", "--meta", "x"], "NAME=VALUE"),
        (["job", "put", "q", "x", "--lines"], "standard input"),
        (["job", "exec", "q", "--once", "--drain", "--", "true"], "not both"),
        (["job", "ls", "q", "--state", "asleep"], "'ready'"),
        (["queue", "configure", "q"], "say what to change"),
    ],
)
def test_usage_errors_say_what_to_do(offline: Ctl, line: list[str], said: str) -> None:
    ran = offline(*line)
    assert ran.code == ExitCode.USAGE
    assert ran.err.startswith("error: ")
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert ran.out == b""


@pytest.mark.parametrize(
    "line", [["status"], ["get", "k"], ["put", "k", "v"], ["lock", "ls"]]
)
def test_unreachable_cluster_is_code_six(offline: Ctl, line: list[str]) -> None:
    ran = offline("--endpoints", "127.0.0.1:1", "--timeout", "200ms", *line)
    assert ran.code == ExitCode.UNAVAILABLE
    assert "check raftctl status and --endpoints (127.0.0.1:1)" in ran.err


def test_endpoints_that_cannot_be_read_are_a_usage_error(offline: Ctl) -> None:
    ran = offline("--endpoints", "h:x", "status")
    assert ran.code == ExitCode.USAGE


def test_missing_file_is_one_sentence(offline: Ctl) -> None:
    ran = offline("job", "put", "q", "@/nowhere/file")
    assert ran.code == ExitCode.ERROR
    assert ran.err == "error: /nowhere/file: no such file or directory.\n"


def test_missing_command_is_said_before_anything_is_claimed(offline: Ctl) -> None:
    ran = offline("--endpoints", "127.0.0.1:1", "lock", "exec", "l", "--", "no-such")
    assert ran.code == ExitCode.NO_COMMAND
    assert ran.err == 'error: there is no command "no-such"; check PATH.\n'


@pytest.mark.parametrize(
    "line",
    [
        [],
        *([noun] for noun in ("status", "put", "get", "ls", "del", "incr", "watch")),
        *(
            [noun]
            for noun in ("txn", "lease", "lock", "elect", "job", "queue", "bench")
        ),
        ["lock", "exec"],
        ["job", "put"],
        ["queue", "configure"],
    ],
)
def test_every_level_has_help(offline: Ctl, line: list[str]) -> None:
    ran = offline(*line, "-h")
    assert ran.code == ExitCode.OK
    assert ran.text.startswith("Usage: raftctl")
    assert "--endpoints" in ran.text


def test_help_of_a_transaction_documents_its_json(offline: Ctl) -> None:
    text = offline("txn", "-h").text
    for word in ('"when"', '"then"', '"else"', '"lock"', '"enqueue"', '"b64"'):
        assert word in text


def test_the_list_of_commands_does_not_load_the_client() -> None:
    code = (
        "import sys, raftctl.main as m\n"
        "try: m.main(['-h'])\n"
        "except SystemExit: pass\n"
        "assert not {'grpc', 'raftclient', 'rich'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
