"""Keys, leases, transactions and status on the command line, against a real node."""

from __future__ import annotations

import json
import signal

import pytest

from raftctl.exit_codes import ExitCode
from tests.cli.conftest import Ctl, Spawn


def test_status_shows_members_in_one_table(ctl: Ctl) -> None:
    ctl("put", "status/any", "1")  # by then there is a leader
    found = ctl("status", "-o", "json").json
    (member,) = found["members"]
    assert (member["role"], member["health"]) == ("leader", "ok")
    assert found["leader"] == member["name"]
    head, line = ctl("status").text.splitlines()
    assert head.split()[:3] == ["NAME", "ID", "ROLE"]
    assert "leader" in line
    assert ctl("status", "-o", "value").text.strip() == member["name"]


def test_put_prints_the_revision_and_get_the_value(ctl: Ctl) -> None:
    put = ctl("put", "kv/a", "hello")
    assert put.code == ExitCode.OK
    revision = int(put.text)
    assert ctl("get", "kv/a").text == "hello\n"
    assert ctl("get", "kv/a", "-o", "value").out == b"hello"
    record = ctl("-o", "json", "get", "kv/a").json
    assert (record["key"], record["value"]) == ("kv/a", "hello")
    assert record["mod_rev"] == revision
    assert ctl("get", "kv/a", "--stale").text == "hello\n"


def test_old_revisions_are_read(ctl: Ctl) -> None:
    first = int(ctl("put", "kv/old", "1").text)
    ctl("put", "kv/old", "2")
    assert ctl("get", "kv/old", "--rev", str(first)).text == "1\n"


def test_a_missing_key_is_code_three(ctl: Ctl) -> None:
    ran = ctl("get", "kv/missing")
    assert (ran.code, ran.out) == (ExitCode.NOT_FOUND, b"")
    assert ran.err == (
        'error: there is no key "kv/missing"; raftctl ls lists the keys.\n'
    )


def test_a_condition_that_fails_is_code_four(ctl: Ctl) -> None:
    revision = ctl("put", "kv/cas", "1", "--if-rev", "0").text.strip()
    ran = ctl("put", "kv/cas", "2", "--if-rev", "0")
    assert ran.code == ExitCode.PRECONDITION
    assert "read again, then decide" in ran.err
    assert ctl("put", "kv/cas", "2", "--if-rev", revision).code == ExitCode.OK


def test_a_late_fenced_write_is_code_five(ctl: Ctl) -> None:
    grant = ctl("lock", "acquire", "kv/lock", "--ttl", "1m", "-o", "json").json
    fence = f"kv/lock:{grant['token']}"
    assert ctl("put", "kv/fenced", "1", "--fence", fence).code == ExitCode.OK
    ctl("lock", "release", "kv/lock", "--token", str(grant["token"]))
    ran = ctl("put", "kv/fenced", "2", "--fence", fence)
    assert ran.code == ExitCode.LOST
    assert ctl("get", "kv/fenced").text == "1\n"


def test_too_large_a_value_is_code_two(ctl: Ctl) -> None:
    ran = ctl("put", "kv/large", "x" * (2**20 + 1))
    assert ran.code == ExitCode.USAGE
    assert ran.err.count("\n") == 1


def test_ls_lists_a_prefix(ctl: Ctl) -> None:
    for name in ("b", "a", "c"):
        ctl("put", f"ls/{name}", name)
    found = ctl("ls", "ls/", "-o", "json").json
    assert [each["key"] for each in found] == ["ls/a", "ls/b", "ls/c"]
    assert ctl("ls", "ls/", "-o", "value", "--limit", "2").text == "ls/a\nls/b\n"
    assert "VALUE" not in ctl("ls", "ls/", "--keys-only").text
    assert len(ctl("ls", "ls/", "-o", "jsonl").lines) == 3
    assert ctl("ls", "nothing/").err == "no keys\n"


def test_del_deletes_a_key_or_a_prefix(ctl: Ctl) -> None:
    for name in ("a", "b", "c"):
        ctl("put", f"del/{name}", name)
    assert ctl("del", "del/a").text == "1\n"
    assert ctl("del", "del/a").text == "0\n"
    assert ctl("del", "--prefix", "del/", "-o", "json").json["deleted"] == 2


def test_incr_adds_and_subtracts(ctl: Ctl) -> None:
    assert ctl("incr", "kv/n").text == "1\n"
    assert ctl("incr", "kv/n", "41").text == "42\n"
    assert ctl("incr", "kv/n", "-2").text == "40\n"


def test_bytes_that_are_no_text_survive(ctl: Ctl) -> None:
    ctl("put", "kv/bytes", "\udcff")  # as a shell hands over the byte ff
    assert ctl("get", "kv/bytes", "-o", "value").out == b"\xff"
    assert ctl("get", "kv/bytes", "-o", "json").json["value"] == {"b64": "/w=="}


def test_watch_streams_lines_as_they_come(ctl: Ctl, spawn: Spawn) -> None:
    ctl("put", "watch/a", "1")
    watch = spawn("watch", "--prefix", "watch/", "--initial", "-o", "json")
    assert watch.stdout is not None
    first = json.loads(watch.stdout.readline())
    assert (first["kind"], first["key"], first["value"]) == ("initial", "watch/a", "1")
    assert json.loads(watch.stdout.readline())["kind"] == "synced"
    revision = int(ctl("put", "watch/b", "2").text)
    event = json.loads(watch.stdout.readline())
    assert (event["kind"], event["revision"]) == ("put", revision)
    ctl("del", "watch/b")
    event = json.loads(watch.stdout.readline())
    assert (event["kind"], event["key"]) == ("delete", "watch/b")
    watch.terminate()
    _, err = watch.communicate()
    assert (watch.returncode, err) == (ExitCode.TERMINATED, b"")


def test_ctrl_c_is_code_130_and_only_ends_the_line(ctl: Ctl, spawn: Spawn) -> None:
    ctl("put", "int/a", "1")
    watch = spawn("watch", "--prefix", "int/", "--initial")
    assert watch.stdout is not None
    watch.stdout.readline()
    watch.send_signal(2)
    _, err = watch.communicate()
    assert (watch.returncode, err) == (ExitCode.INTERRUPTED, b"\n")


def test_ctrl_c_stays_ignored_where_a_shell_ignored_it(ctl: Ctl, spawn: Spawn) -> None:
    """As in ``raftctl watch ... &``: SIGINT comes first if it counts at all."""
    ctl("put", "ign/a", "1")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        watch = spawn("watch", "--prefix", "ign/", "--initial")
    finally:
        signal.signal(signal.SIGINT, before)
    assert watch.stdout is not None
    watch.stdout.readline()
    watch.send_signal(signal.SIGINT)
    watch.send_signal(signal.SIGTERM)
    watch.communicate()
    assert watch.returncode == ExitCode.TERMINATED


def test_a_reader_that_leaves_is_no_traceback(ctl: Ctl, spawn: Spawn) -> None:
    ctl("put", "pipe/a", "1")
    watch = spawn("watch", "--prefix", "pipe/")
    assert watch.stdout is not None
    watch.stdout.close()
    assert watch.stderr is not None
    while watch.poll() is None:
        ctl("put", "pipe/a", "2")
    assert watch.returncode == ExitCode.BROKEN_PIPE
    assert watch.stderr.read() == b""


def test_a_lease_takes_its_keys_along(ctl: Ctl) -> None:
    lease = ctl("lease", "grant", "--ttl", "1m").text.strip()
    ctl("put", "lease/a", "1", "--lease", lease)
    info = ctl("lease", "info", lease, "-o", "json").json
    assert (info["keys"], info["ttl_ms"], info["is_session"]) == (
        ["lease/a"],
        60_000,
        False,
    )
    assert ctl("lease", "keepalive", lease, "-o", "json").json["ttl_ms"] == 60_000
    assert lease in ctl("lease", "ls", "-o", "value").text.split()
    assert ctl("lease", "revoke", lease).text == "1\n"
    assert ctl("get", "lease/a").code == ExitCode.NOT_FOUND
    assert ctl("lease", "info", lease).code == ExitCode.NOT_FOUND
    assert ctl("lease", "revoke", lease).code == ExitCode.NOT_FOUND


def test_a_transaction_runs_from_standard_input(ctl: Ctl) -> None:
    text = {
        "when": [{"key": "txn/a", "exists": False}],
        "then": [
            {"put": "txn/a", "value": "1"},
            {"incr": "txn/n", "by": 5},
            {"get": "txn/a"},
            {"get": "txn/none"},
            {"enqueue": "txn/q", "payload": "x"},
        ],
    }
    stdin = json.dumps(text).encode()
    found = ctl("txn", "-o", "json", stdin=stdin).json
    assert found["succeeded"] is True
    put, added, got, none, enqueued = found["results"]
    assert put["mod_rev"] == added["mod_rev"]
    assert added["value"] == 5
    assert got["value"] == "1"
    assert none is None
    assert len(enqueued["job_ids"]) == 1

    again = ctl("txn", "-o", "json", stdin=stdin)
    assert again.code == ExitCode.PRECONDITION
    assert again.json["succeeded"] is False

    text["else"] = [{"get": "txn/n"}]
    other = ctl("txn", "-", "-o", "json", stdin=json.dumps(text).encode())
    assert other.code == ExitCode.OK
    assert other.json["results"][0]["value"] == "5"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{", "is no JSON"),
        (b"[]", "is an object"),
        (b'{"whne": []}', '"whne" is not understood'),
        (b'{"then": {}}', '"then" must be a list'),
        (b"\xff", "is not UTF-8"),
    ],
)
def test_a_bad_transaction_is_a_usage_error(ctl: Ctl, text: bytes, said: str) -> None:
    ran = ctl("txn", stdin=text)
    assert ran.code == ExitCode.USAGE
    assert said in ran.err
