"""The longer measurements as programs: wrong words, Ctrl-C, and what is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from raftctl.bench_workloads import WorkloadFailed
from tests.bench import failover, growth, scale, sizes, soak
from tests.bench.parts import run_part
from tests.bench.programs import run_program
from tests.bench.record import read_records
from tests.bench.sections import Keep, Say, SectionRow

_ROWS = [SectionRow("sizes", name, {"B": 612.0}) for name in ("per key", "per job")]


@pytest.mark.parametrize(
    ("main", "wrong"),
    [
        (growth.main, ["--sizes", "1000"]),
        (growth.main, ["--sizes", "2000,1000"]),
        (growth.main, ["--sizes", "10,1000"]),
        (growth.main, ["--sizes", "many,more"]),
        (growth.main, ["--turns", "0"]),
        (growth.main, ["--seconds", "nan"]),
        (growth.main, ["--only", "things"]),
        (failover.main, ["--runs", "-1"]),
        (failover.main, ["--only", "leader asleep"]),
        (sizes.main, ["--least", "0"]),
        (sizes.main, ["--least", "9", "--most", "8"]),
        (sizes.main, ["--clients", "1"]),
        (scale.main, ["--keys", "1e6"]),
        (scale.main, ["--json", "/nowhere/at/all.json"]),
        (soak.main, ["--minutes", "0"]),
        (soak.main, ["--minute-seconds", "0"]),
        (soak.main, ["--minute", "3"]),
        (soak.main, ["3"]),
    ],
)
def test_a_wrong_argument_is_one_sentence(
    main: Callable[[Sequence[str]], int],
    wrong: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(wrong)
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [(None, 0), (WorkloadFailed("lost"), 1), (KeyboardInterrupt(), 130)],
)
def test_what_was_measured_is_told_however_it_ends(
    error: BaseException | None,
    code: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "rows.json"

    def measure(_say: Say, keep: Keep) -> None:
        keep(_ROWS)
        if error is not None:
            raise error

    assert run_program(measure, file) == code
    assert read_records([file]).rows == tuple(_ROWS)
    told = capsys.readouterr()
    assert "per job" in told.out
    assert told.err == ("error: lost\n" if code == 1 else "")


@pytest.mark.parametrize("is_ignored", [False, True])
def test_sigterm_ends_a_measurement_as_ctrl_c_does(
    tmp_path: Path, *, is_ignored: bool
) -> None:
    file = tmp_path / "rows.json"
    of_ctrl_c = signal.SIG_IGN if is_ignored else signal.default_int_handler

    def measure(_say: Say, keep: Keep) -> None:
        keep(_ROWS)
        signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGINT, of_ctrl_c)
    try:
        assert run_program(measure, file) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert read_records([file]).rows == tuple(_ROWS)


def test_runs_are_added_to_those_of_a_file(tmp_path: Path) -> None:
    row = SectionRow("failover", "leader killed: raftd", samples={"pause s": [0.5]})
    file = tmp_path / "rows.json"
    run_program(lambda _, keep: keep(failover.merge([], [row])), file)

    before = read_records([file]).rows
    run_program(lambda _, keep: keep(failover.merge(before, [row])), file)

    (both,) = read_records([file]).rows
    assert both.samples["pause s"] == [0.5, 0.5]
    assert both.figures["runs"] == 2


def test_the_rows_of_a_part_that_failed_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "tests" / "bench"
    program.mkdir(parents=True)
    (program / "__init__.py").touch()
    (program / "soak.py").write_text("import sys\nsys.exit(7)\n")
    monkeypatch.setattr("tests.bench.parts._ROOT", tmp_path)

    assert run_part("soak").code == 7


@pytest.mark.e2e
def test_ctrl_c_leaves_no_process_and_no_folder_behind(tmp_path: Path) -> None:
    """The whole benchmark is told; its part has processes of its own."""
    asked = [sys.executable, "-m", "tests.bench", "--sections", "soak"]
    file = tmp_path / "bench.json"
    with subprocess.Popen(
        [*asked, "--json", str(file)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as running:
        assert running.stderr is not None
        told = running.stderr.readline()
        assert "peak" in told, "the cluster is up and loaded"
        running.send_signal(signal.SIGINT)
        assert running.wait() == 130
    assert file.exists()
    assert list(tmp_path.glob("raftd-bench-*")) == []
    left = [
        command
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if str(tmp_path) in (command := _read(path))
    ]
    assert left == []


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has ended since
        return ""
