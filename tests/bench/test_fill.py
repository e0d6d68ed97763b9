"""What holds much is filled by processes of their own: how they begin, and fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Final

import pytest
import uvloop

from cluster.processes import Processes
from raftctl.bench_workloads import Workload, WorkloadFailed
from tests.bench.fill import Kind
from tests.bench.fill_clients import idle_clients
from tests.bench.fill_files import fill_directories
from tests.bench.growth_cluster import Pace, measure_growth

_ROOT: Final = Path(__file__).resolve().parents[2]
_TELL_WHEN_GRPC_COMES: Final = """
import os, sys
class Watch:
    def find_spec(self, name, *_):
        if name == "grpc":
            print(os.environ.get("GRPC_ENABLE_FORK_SUPPORT"))
sys.meta_path.insert(0, Watch())
import tests.bench.growth
"""


def test_fork_handlers_are_off_before_grpc_is_there() -> None:
    """They would crash some of the processes that a measurement starts on uvloop."""
    done = subprocess.run(
        [sys.executable, "-c", _TELL_WHEN_GRPC_COMES],
        env={},
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "0\n"


async def _fill(folder: Path) -> None:
    await fill_directories(Processes(folder), {Kind.KEYS: 1})


async def _connect(_folder: Path) -> None:
    async with idle_clients("localhost:1", 1):
        raise AssertionError("they are connected")


@pytest.mark.parametrize("begin", [_fill, _connect])
def test_a_process_that_died_is_told_with_its_exit_code(
    begin: Callable[[Path], Coroutine[None, None, None]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = shutil.which("false")
    assert program is not None, "a machine without it"
    monkeypatch.setattr(sys, "executable", program)
    with pytest.raises(WorkloadFailed, match=r"ended with exit code 1$"):
        uvloop.run(begin(tmp_path))


@pytest.mark.e2e
async def test_logs_are_told_with_whose_they_are_and_why_they_stood_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> Workload:
        raise WorkloadFailed("lost")

    operations = {Kind.LINE: (("lock", fail),)}
    monkeypatch.setattr("tests.bench.growth_cluster._OPERATIONS", operations)
    with pytest.raises(WorkloadFailed, match="lost") as failed:
        await measure_growth(Kind.LINE, [2, 3], Pace(1), lambda _: None)
    notes = [note.partition(":")[0] for note in failed.value.__notes__]
    assert notes == [
        note
        for size in (3, 2)
        for note in (
            f"The nodes with {size} {Kind.LINE} stood still, and elected anew, whenever"
            " they were stopped by a signal",
            *(f"node {n} of those with {size} {Kind.LINE}" for n in (1, 2, 3)),
        )
    ]
