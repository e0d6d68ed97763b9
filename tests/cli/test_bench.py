"""The user's benchmark: measured, proved, and gone, however it ends.

No time is judged: machines differ and are shared.
"""

from __future__ import annotations

import asyncio
import signal

import pytest

from cluster.processes import Processes
from raftctl import bench_workloads
from raftctl.bench_workloads import WORKLOADS
from raftctl.exit_codes import ExitCode
from tests.cli.bench_runs import STOPS, run_short, until_there
from tests.cli.conftest import Ctl, Spawn

_LONG = ("bench", "--seconds", "10m", "--in-flight", "8", "--prefix")


def left_under(ctl: Ctl, prefix: str) -> list[str]:
    """Return what is there: keys, queues and locks."""
    nouns = (["ls"], ["queue", "ls"], ["lock", "ls"])
    return [
        line
        for noun in nouns
        for line in ctl(*noun, prefix, "-o", "value").text.splitlines()
    ]


def test_every_workload_is_measured_and_nothing_is_left(ctl: Ctl) -> None:
    ran = run_short(ctl, "--connections", "2", "-o", "json")
    assert ran.code == ExitCode.OK, ran.err
    told = ran.json
    assert [each["name"] for each in told["workloads"]] == list(WORKLOADS)
    for each in told["workloads"]:
        assert each["operations"] > 0
        assert 0 < each["p50_us"] <= each["p99_us"] <= each["max_us"]
        assert each["rate"] == each["operations"] / told["measured_s"]
        assert each["errors"] == {}
    assert (told["in_flight"], told["connections"], told["value_bytes"]) == (8, 2, 256)
    assert told["prefix"].startswith("raftctl-bench/")
    assert left_under(ctl, told["prefix"]) == []


def test_it_says_before_which_cluster_it_loads(ctl: Ctl, node: Processes) -> None:
    ran = run_short(ctl, "incr", "--prefix", "bench/said/")
    assert ran.code == ExitCode.OK
    assert ran.err.startswith(f"loading cluster local at {node.endpoints} (1 member,")
    assert "with incr: 8 in flight over 1 connection, values of 256B" in ran.err
    assert "under bench/said/ and go at the end" in ran.err
    head, line = ran.text.splitlines()
    assert head.split() == [
        *("WORKLOAD", "OP/S", "P50", "MS", "P99", "MS", "MAX", "MS", "PAUSE", "MS"),
        "ERRORS",
    ]
    assert line.split()[0] == "incr"
    assert len(line.split()) == 7


def test_for_scripts_the_essence_is_the_rate(ctl: Ctl) -> None:
    ran = run_short(ctl, "put", "lock", "-o", "value")
    assert all(float(line) > 0 for line in ran.text.splitlines())
    assert ran.text.count("\n") == 2


@pytest.mark.parametrize(
    "line",
    [
        ("put", "bench/used/{}/put/0/0", "mine"),
        ("put", "bench/used/{}/owner", "another run"),
        ("job", "put", "bench/used/{}/mail", "mine"),
        ("lock", "acquire", "bench/used/{}/mine", "--ttl", "10m"),
    ],
    ids=["key", "another run", "queue", "lock"],
)
def test_a_prefix_in_use_is_left_alone(
    ctl: Ctl, line: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    prefix = f"bench/used/{request.node.callspec.id}"
    name = request.node.callspec.id
    assert ctl(*(word.format(name) for word in line)).code == ExitCode.OK
    before = left_under(ctl, f"{prefix}/")
    assert before, "it is there"
    ran = run_short(ctl, "--prefix", prefix)
    assert ran.code == ExitCode.PRECONDITION
    assert f"{prefix}/" in ran.err.splitlines()[-1]
    assert ran.out == b""
    assert left_under(ctl, f"{prefix}/") == before


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--in-flight", "2049"], "2049 is not in the range 1<=x<=2048"),
        (["--value-size", "1048577"], "not in the range"),
        (["--connections", "65"], "not in the range"),
        (["--connections", "9", "--in-flight", "8"], "ask for more in flight"),
        (["--in-flight", "8", "--value-size", "1000000"], "at most 64M: ask for fewer"),
        (["--seconds", "1h"], "at most 600s"),
        (["--prefix", "//"], "1 to 200 bytes"),
        (["--prefix", "x" * 201], "1 to 200 bytes"),
        (["nonsense"], "'put', 'get', 'incr', 'lock', 'job'"),
    ],
)
def test_dangerous_sizes_are_refused_in_a_sentence(
    offline: Ctl, flags: list[str], said: str
) -> None:
    ran = offline("bench", *flags)
    assert ran.code == ExitCode.USAGE
    assert said in ran.err
    assert (ran.err.count("\n"), ran.out) == (1, b"")


def test_without_a_cluster_it_is_the_usual_sentence(offline: Ctl) -> None:
    ran = offline("--endpoints", "127.0.0.1:1", "--timeout", "200ms", "bench")
    assert ran.code == ExitCode.UNAVAILABLE
    assert "check raftctl status and --endpoints (127.0.0.1:1)" in ran.err
    assert ran.err.count("\n") == 1


def test_the_help_names_every_field_of_the_json(offline: Ctl, ctl: Ctl) -> None:
    documented = offline("bench", "-h").text
    told = run_short(ctl, "get", "-o", "json").json
    for name in (*told, *told["workloads"][0]):
        assert name in documented


@pytest.mark.parametrize(("number", "code"), STOPS)
def test_stopped_by_a_signal_it_leaves_nothing(
    ctl: Ctl, spawn: Spawn, node: Processes, number: signal.Signals, code: ExitCode
) -> None:
    prefix = f"bench/{number.name}"
    run = spawn(*_LONG, prefix, "put", "-o", "json")
    asyncio.run(until_there(node, f"{prefix}/put/0/0"))
    run.send_signal(number)
    out, err = run.communicate()
    assert run.returncode == code
    assert out == b""
    assert f"stopped; removing what was written under {prefix}/\n" in err.decode()
    assert "Traceback" not in err.decode()
    assert left_under(ctl, f"{prefix}/") == []


def test_what_is_not_found_again_is_an_error(
    ctl: Ctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = bench_workloads.Puts.step

    async def twice(self: bench_workloads.Puts, task: int) -> None:
        await step(self, task)
        await step(self, task)

    monkeypatch.setattr(bench_workloads.Puts, "step", twice)
    ran = run_short(ctl, "put", "--prefix", "bench/twice")
    assert ran.code == ExitCode.ERROR
    assert "error: the cluster does not hold what it acknowledged: bench/twice/put" in (
        ran.err
    )
    assert ran.out == b""
    assert left_under(ctl, "bench/twice/") == []
