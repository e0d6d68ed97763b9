"""Made-up runs and systems, for the tests of what is computed and printed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.bench.environment import Environment
from tests.bench.peers.base import PeerFailed, PeerMissing, Run
from tests.bench.record import Record
from tests.bench.results import OURS, Turn

__all__ = ["MadeUp", "record_of", "turn", "turns"]


def turn(
    system: str, measure: str, number: int, *, rate: float = 1.0, p50_us: float = 1.0
) -> Turn:
    """Make one run."""
    cpu_us = {"client": 1.0, "leader": 2.0, "follower 1": 3.0, "follower 2": 5.0}
    return Turn(system, measure, number, 10, rate, p50_us, 9 * p50_us, cpu_us)


def turns(system: str, measure: str, rates: Iterable[float]) -> list[Turn]:
    """Make a run for each rate; the latency follows from it."""
    return [
        turn(system, measure, number, rate=rate, p50_us=1e6 / rate)
        for number, rate in enumerate(rates)
    ]


def record_of(made: Iterable[Turn], *left_out: str) -> Record:
    """Make a record of runs."""
    environment = Environment(
        date="2026-01-02 03:04",
        commit="abc1234",
        is_core_compiled=False,
        versions={OURS: "1.2.3", "etcd": "3.4.5"},
        python="CPython 3.11.0",
        kernel="Linux 6.0",
        processors=2,
        processor="one",
        memory_mib=1024,
        file_system="ext4",
    )
    return Record(environment, 3, 1.0, 2.0, tuple(made), left_out)


class MadeUp:
    """A system that measures nothing and notes what is asked of it."""

    def __init__(
        self,
        name: str,
        measures: Iterable[str],
        noted: list[str],
        *,
        is_missing: bool = False,
        fails_at: str = "",
    ) -> None:
        self.name = name
        self.version = f"{name} 1"
        self.measures = frozenset(measures)
        self._noted = noted
        self._is_missing = is_missing
        self._fails_at = fails_at

    async def start(self, folder: Path) -> None:
        assert not folder.exists(), "a folder of its own"
        self._noted.append(f"{self.name} starts")
        if self._is_missing:
            raise PeerMissing("install it")

    async def run(
        self, measure: str, tasks: int, *, warm_up_s: float, measured_s: float
    ) -> Run:
        self._noted.append(f"{self.name} runs {measure} {tasks}")
        if measure == self._fails_at:
            raise PeerFailed("one write was lost")
        return Run(tasks, tasks / measured_s, warm_up_s * 1e6, 1e6, {"server": 1.0})

    def rest(self) -> None:
        self._noted.append(f"{self.name} rests")

    async def stop(self) -> None:
        self._noted.append(f"{self.name} stops")
