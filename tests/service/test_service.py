"""Fixed seeds of level B hold, equal seeds are equal runs, and planted bugs are found.

Source: RELIABILITY.md section 6 (level B; prove the simulator).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from raftclient._pump import Pump
from raftclient._session import Session
from raftclient._window import Window
from tests.checkers.verdict import Verdict
from tests.service import run
from tests.service.__main__ import main
from tests.service.loop import ServiceLoop
from tests.service.options import draw_service_options
from tests.service.run import Service
from tests.service.soak import Case, failed_cases, pairs, run_case
from tests.sim.world import SimFailure, World

_SECONDS = 4.0
_TRIES_MAX = 4


@pytest.mark.parametrize("seed", range(1, 9))
def test_every_promise_holds_and_everything_is_answered(seed: int) -> None:
    outcome = Service(seed).run(_SECONDS)
    assert outcome.calls > 0


@pytest.mark.parametrize("case", failed_cases(), ids=str)
def test_what_ever_failed_holds(case: Case) -> None:
    assert run_case(case).failure == ""


def test_the_same_seed_is_the_same_run() -> None:
    first, second = (Service(3).run(_SECONDS) for _ in range(2))
    assert first == second
    assert first.trace_hash != Service(4).run(_SECONDS).trace_hash


def test_the_order_of_hashes_changes_nothing() -> None:
    assert pairs([5, 7], 2.0) == []


def test_a_checker_that_cannot_say_fails_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verdict = Verdict(checker="linear", outcome="unknown", sentence="too many unknown")
    monkeypatch.setattr(run, "judge", lambda _: [verdict])
    assert run_case(Case(1, 0.5)).failure == (
        "SimFailure: linear: unknown, too many unknown"
    )


# --- what it has to find ------------------------------------------------------------


def _hurt(seed: int, faults: tuple[str, ...], interval_us: int) -> Service:
    """Make a run with many of some faults, whose old leaders stay for long."""
    drawn = draw_service_options(World(seed).rng("service-options"))
    options = dataclasses.replace(
        drawn,
        size=3,
        clients=3,
        rate=200,
        timeout_ms=5000,
        ttl_ms=1000,
        faults=faults,
        fault_interval_us=interval_us,
        downtime_us=3_000_000,
        node=dataclasses.replace(
            drawn.node, size=3, loss=0, batch_requests_max=2000, check_quorum=False
        ),
    )
    return Service(seed, options)


def _found(*faults: str, first: int = 1, interval_us: int = 200_000) -> str:
    """Run a few seeds until one finds something; return what."""
    for seed in range(first, first + _TRIES_MAX):
        try:
            _hurt(seed, faults, interval_us).run(6.0)
        except SimFailure as failure:
            return str(failure)
    pytest.fail(f"{_TRIES_MAX} seeds found nothing")


def test_a_client_that_repeats_a_write_under_another_number_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def restart(self: Window) -> None:
        for call in self.take_all():
            self.add(call)

    monkeypatch.setattr(Window, "restart", restart)
    found = _found("break", "transfer")
    assert re.match("(evidence|witness): illegal, .*(op |asked for by nobody)", found)


@pytest.mark.parametrize("seed", range(1, 1 + _TRIES_MAX))
def test_the_runs_that_find_it_are_legal_without_it(seed: int) -> None:
    assert _hurt(seed, ("break", "transfer"), 200_000).run(6.0).calls > 0


def test_a_client_that_nobody_wakes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_END_US", 10_000_000)
    monkeypatch.setattr(Session, "_tick", lambda _: None)
    monkeypatch.setattr(Pump, "wake", lambda _: None)
    with pytest.raises(SimFailure, match="end of the callers"):
        Service(1).run(1.0)


def test_a_run_in_which_nothing_is_left_to_happen_is_a_deadlock() -> None:
    service = Service(1)
    with pytest.raises(SimFailure, match="deadlock"):
        service.step()


def test_an_error_that_nobody_takes_ends_the_run() -> None:
    service = Service(1)
    host = service.clients.processes[0].host
    (loop,) = host.boot(0, "")

    async def fail() -> None:
        raise ValueError("planted")

    service.world.after(0, "task", lambda: loop.take(lambda: _forget(loop, fail())))
    try:
        with pytest.raises(SimFailure, match="planted"):
            service.step()
    finally:
        host.kill()


def _forget(loop: ServiceLoop, work: Coroutine[Any, Any, None]) -> None:
    loop.create_task(work)


def test_a_failure_says_how_to_repeat_it(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def fail(_: Service) -> None:
        raise SimFailure("planted")

    monkeypatch.setattr(Service, "_compare_digests", fail)
    kept = tmp_path / "history.jsonl"
    assert main(["--seed", "6", "--seconds", "1", "--history", str(kept)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "repeat: python -m tests.service --seed 6 --seconds 1 --trace"
    assert lines[-3].startswith("FAIL seed=6 ")
    assert sum(" ms  " in line for line in lines) == 200
    assert kept.read_text().startswith('{"kind":"meta"')
