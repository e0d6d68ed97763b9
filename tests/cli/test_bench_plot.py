"""The benchmark's picture: what is on it, where it goes, and what it needs.

What is drawn is looked up on the axes; bytes differ with the version of what draws.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle, StepPatch

from cluster.processes import Processes
from raftclient import Unavailable, aio
from raftctl import bench_figure, bench_workloads
from raftctl.bench_figure import figure_of, rendered
from raftctl.bench_loop import Latencies, Load
from raftctl.bench_plot import Picture
from raftctl.bench_run import Plan, Row
from raftctl.bench_timeline import Timeline
from raftctl.exit_codes import ExitCode, Failure
from tests.cli.bench_runs import STOPS, run_short, until_there
from tests.cli.conftest import Ctl, Spawn
from tests.cli.statuses import cluster_of, member

_PLAN = Plan(("put", "get"), "bench/drawn", 1, 1, 256, 0.5, 10.0)
_WHEN = datetime(2026, 7, 1, 12, 30, 15, tzinfo=UTC)
_STATUS = cluster_of(member(1), member(2), member(3))
_MAGIC = {".png": b"\x89PNG\r\n", ".svg": b"<?xml ", ".PDF": b"%PDF-1"}


def row_of(name: str, *at_s: float, span_s: float = 0.01, end_s: float = 10.0) -> Row:
    """Return what was measured and not proved yet."""
    row = Row(name, Latencies(), Timeline(10.0))
    for each in at_s:
        row.timeline.acknowledge(each)
        row.latencies.add(span_s)
    row.timeline.end(end_s)
    return row


def busy_row() -> Row:
    """Return 100 a second, with nothing from 4 s to 6 s; one in twenty takes 0.5 s."""
    times = [n / 100 for n in range(1, 401)] + [6 + n / 100 for n in range(400)]
    row = row_of("put")
    row.timeline = Timeline(10.0)
    for number, at_s in enumerate(times):
        row.timeline.acknowledge(at_s)
        row.latencies.add(0.5 if number % 20 == 0 else 0.004)
    row.timeline.end(10.0)
    row.load = Load(800, 2.0, row.timeline.errors)
    return row


def drawn(*rows: Row) -> tuple[Figure, list[tuple[Axes, Axes]]]:
    """Draw rows; returns the axes of each, left and right."""
    figure = figure_of(_PLAN, _STATUS, rows, _WHEN)
    return figure, list(zip(figure.axes[::2], figure.axes[1::2], strict=True))


def steps_of(axes: Axes, label: str) -> StepPatch:
    (found,) = (each for each in axes.patches if each.get_label() == label)
    assert isinstance(found, StepPatch)
    return found


def place_of(line: Line2D) -> float:
    """Return where an upright line is."""
    left, right = np.asarray(line.get_xdata())
    assert left == right
    return float(left)


def bands_of(axes: Axes) -> list[tuple[float, float]]:
    """Return from when to when a pause is drawn; each is hatched."""
    found = [each for each in axes.patches if each.get_label() == "pause"]
    bands = []
    for each in found:
        assert isinstance(each, Rectangle)
        assert each.get_hatch(), "seen without colour"
        bands.append((each.get_x(), each.get_x() + each.get_width()))
    return bands


def texts_of(axes: Axes) -> list[str]:
    return [each.get_text().strip() for each in axes.texts]


def test_the_rate_over_time_is_drawn_with_its_pause() -> None:
    _, ((rates, _),) = drawn(busy_row())
    values, edges, _ = steps_of(rates, "rate").get_data()
    during = [v for v, at_s in zip(values, edges, strict=False) if 4.3 < at_s < 5.7]
    before = [v for v, at_s in zip(values, edges, strict=False) if 0.3 < at_s < 3.3]
    assert before == pytest.approx([100] * len(before), rel=0.1)
    assert during == [0.0] * len(during)
    assert len(before) > len(during) > 0
    assert (edges[0], edges[-1]) == (0.0, 10.0)
    assert bands_of(rates) == [pytest.approx((4.0, 6.0))]
    assert texts_of(rates) == ["pause 2.00 s"]
    assert rates.get_ylim()[0] == 0.0, "a rate that begins elsewhere misleads"
    assert rates.get_xlim() == (0.0, 10.0)


def test_latencies_are_drawn_on_a_logarithmic_axis_with_quantiles_marked() -> None:
    row = busy_row()
    _, ((_, axes),) = drawn(row)
    assert axes.get_xscale() == "log"
    values, edges, _ = steps_of(axes, "share").get_data()
    assert (values[0], values[-1], sum(values)) == pytest.approx((95.0, 5.0, 100.0))
    assert edges[0] <= 4.0 < edges[1]
    assert edges[-2] <= 500.0 < edges[-1]
    marks = {str(line.get_label()): line for line in axes.lines}
    places = {name: place_of(line) for name, line in marks.items()}
    assert places == pytest.approx({"p50": 4.0, "p99": 500.0, "max": 500.0}, rel=0.02)
    assert len({line.get_linestyle() for line in marks.values()}) == 3
    assert texts_of(axes)[0].startswith("p50 4.0")
    assert texts_of(axes)[1:] == ["p99 500 ms", "max 500 ms"]
    low_ms, high_ms = axes.get_xlim()
    assert 0.0 < low_ms < 4.0
    assert high_ms > 500.0


def test_the_title_says_which_cluster_was_loaded_with_what() -> None:
    figure, panels = drawn(busy_row(), row_of("get", 1.0, 2.0))
    heading = figure.get_suptitle()
    assert heading.splitlines() == [
        "raftctl bench of cluster shop: put, get",
        "1 in flight over 1 connection, values of 256B, 10 s each after 0.5 s of"
        " warm-up",
        "3 members of raftd 0.2.0, 2026-07-01 12:30:15 UTC",
    ]
    titles = [left.get_title(loc="left") for left, _ in panels]
    assert titles == ["put: 80 operations/s", "get: 0 operations/s, not proved"]


def test_what_was_stopped_and_what_went_wrong_is_said() -> None:
    row = row_of("put", 1.0, 2.0, 3.0, end_s=3.0)
    row.timeline.errors.update({"NO_LEADER": 3, "DEADLINE": 1, "X" * 80: 1})
    _, ((left, _),) = drawn(row)
    first, second = left.get_title(loc="left").splitlines()
    assert first == "put: 1 operations/s, stopped after 3.0 s"
    assert second.startswith("errors: 3 NO_LEADER, 1 DEADLINE, 1 XXXX")
    assert len(second) < 70


def test_short_pauses_are_drawn_only_if_there_was_no_longer_one() -> None:
    evenly = [n * 0.01 for n in range(1, 1000)]
    _, ((left, _),) = drawn(row_of("put", *(at for at in evenly if not 2 < at < 2.05)))
    assert bands_of(left) == [pytest.approx((2.0, 2.05))]
    some = [at for at in evenly if not (2 < at < 2.05 or 5 < at < 6 or 7 < at < 7.3)]
    _, ((left, _),) = drawn(row_of("put", *some))
    assert bands_of(left) == [pytest.approx((5.0, 6.0)), pytest.approx((7.0, 7.3))]
    # One operation after the other, each of half a second: no pauses, but one is marked
    _, ((left, _),) = drawn(row_of("put", *(n / 2 for n in range(1, 20)), span_s=0.5))
    assert len(bands_of(left)) == 1


def test_an_operation_later_than_the_load_is_still_on_the_picture() -> None:
    _, ((left, right),) = drawn(row_of("put", 700.0, span_s=700.0, end_s=700.0))
    assert bands_of(left) == [(0.0, 700.0)]
    assert left.get_xlim() == (0.0, 700.0)
    assert right.get_xlim()[1] > 700_000.0


@pytest.mark.parametrize("name", ["$x^{$", "a\x1b[31m\nb\x00", "群れ\U0001f40d", ""])
def test_whatever_the_cluster_is_called_it_can_be_drawn(name: str) -> None:
    status = cluster_of(member(1, cluster_name=name))
    figure = figure_of(_PLAN, status, [busy_row()], _WHEN)
    assert len(figure.get_suptitle().splitlines()) == 3
    assert rendered(figure, "png").startswith(_MAGIC[".png"])
    assert (name or "cccc") in figure.get_suptitle() or not name.isprintable()


def test_settings_of_the_users_own_change_nothing() -> None:
    import matplotlib as mpl  # noqa: PLC0415 - the one test that sets it

    with mpl.rc_context({"text.usetex": True, "axes.grid": False}):
        data = rendered(figure_of(_PLAN, _STATUS, [busy_row()], _WHEN), "png")
        assert mpl.rcParams["text.usetex"], "and they are the user's again"
    assert data.startswith(_MAGIC[".png"])


@pytest.mark.parametrize("suffix", _MAGIC)
def test_the_suffix_decides_and_nothing_else_is_left(
    tmp_path: Path, suffix: str
) -> None:
    picture = Picture(tmp_path / f"x{suffix}")
    picture.check(1)
    assert list(tmp_path.iterdir()) == [], "not before there is something to see"
    assert picture.draw(_PLAN, _STATUS, [busy_row()])
    assert [each.name for each in tmp_path.iterdir()] == [f"x{suffix}"]
    assert (tmp_path / f"x{suffix}").read_bytes().startswith(_MAGIC[suffix])


def test_a_file_that_is_there_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "kept" / "x.png"
    target.parent.mkdir()
    target.write_bytes(b"before")
    link = tmp_path / "link.png"
    link.symlink_to(target)
    picture = Picture(link)
    picture.check(1)
    assert not picture.draw(_PLAN, _STATUS, [row_of("put")]), "nothing was measured"
    with monkeypatch.context() as broken:
        broken.setattr(bench_figure, "rendered", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            picture.draw(_PLAN, _STATUS, [busy_row()])
    assert target.read_bytes() == b"before"
    assert picture.draw(_PLAN, _STATUS, [busy_row()])
    assert target.read_bytes().startswith(_MAGIC[".png"])
    assert link.is_symlink()
    assert [each.name for each in target.parent.iterdir()] == ["x.png"]


def test_a_folder_that_goes_meanwhile_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    picture = Picture(folder / "x.png")
    picture.check(1)
    folder.rmdir()
    with pytest.raises(Failure, match=r"the picture .*x\.png could not be") as failed:
        picture.draw(_PLAN, _STATUS, [busy_row()])
    assert failed.value.exit_code == ExitCode.ERROR


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("x.gif", "x.gif ends in none of .png, .svg, .pdf"),
        ("png", "png ends in none of .png, .svg, .pdf"),
        ("gone/x.png", "there is no folder "),
        ("folder.png", "folder.png is there, and is no ordinary file"),
        ("file.png/x.png", "there is no folder "),
        ("x" * 250 + ".png", ".png cannot be written: file name too long"),
        ("x" * 300 + ".png", ".png cannot be written: file name too long"),
        ("kept.png", "kept.png is there, and may not be written"),
    ],
)
def test_what_cannot_be_written_is_said_before_the_load(
    offline: Ctl,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    said: str,
) -> None:
    (tmp_path / "folder.png").mkdir()
    for name in ("file.png", "kept.png"):
        (tmp_path / name).write_bytes(b"before")
    access = os.access
    monkeypatch.setattr(  # whoever runs this may be allowed everything
        os,
        "access",
        lambda path, mode: (
            not (mode == os.W_OK and Path(path).name == "kept.png")
            and access(path, mode)
        ),
    )
    ran = offline("bench", "--plot", str(tmp_path / file))
    assert ran.code == ExitCode.USAGE
    assert ran.err.startswith("error: invalid value for '--plot': ")
    assert said in ran.err
    assert (ran.err.count("\n"), ran.out) == (1, b"")
    names = {each.name for each in tmp_path.iterdir()}
    assert names == {"folder.png", "file.png", "kept.png"}


def test_more_workloads_than_a_picture_holds_are_refused(offline: Ctl) -> None:
    ran = offline("bench", *["put"] * 21, "--plot", "x.png")
    assert ran.code == ExitCode.USAGE
    assert "21 workloads are too many for a picture; ask for 20 or fewer" in ran.err


def test_without_what_draws_it_says_how_to_get_it(
    offline: Ctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "raftctl.bench_figure")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    ran = offline("bench", "--plot", str(tmp_path / "x.png"))
    assert ran.code == ExitCode.USAGE
    assert "matplotlib, which is needed to draw, is not installed" in ran.err
    assert "pip install 'raftd[plot]'" in ran.err
    assert ran.err.count("\n") == 1


def test_what_draws_and_cannot_be_loaded_is_said(
    offline: Ctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "matplotlib"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise ValueError('no\\n' + 'such ' * 99)")
    for name in [each for each in sys.modules if each.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "raftctl.bench_figure")
    monkeypatch.syspath_prepend(tmp_path)
    ran = offline("bench", "--plot", str(tmp_path / "x.png"))
    assert ran.code == ExitCode.USAGE
    assert "matplotlib, which draws, cannot be loaded: no such such" in ran.err
    assert (ran.err.count("\n"), len(ran.err) < 400) == (1, True)


def test_nothing_that_draws_is_loaded_unless_it_is_asked_for() -> None:
    code = (
        "import sys, json, raftctl.main, raftctl.bench\n"
        "print(json.dumps([m for m in ('matplotlib', 'numpy') if m in sys.modules]))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE
    )
    assert json.loads(told.stdout) == []


def test_a_run_is_drawn_and_the_help_says_so(ctl: Ctl, tmp_path: Path) -> None:
    target = tmp_path / "x.svg"
    ran = run_short(ctl, "put", "job", "--plot", str(target))
    assert ran.code == ExitCode.OK, ran.err
    assert ran.err.endswith(f"the picture of it is {target}\n")
    assert target.read_bytes().startswith(_MAGIC[".svg"])
    assert "--plot FILE" in ctl("bench", "-h").text


def test_a_cluster_that_goes_meanwhile_leaves_a_picture(
    ctl: Ctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go(self: bench_workloads.Puts, client: aio.Client) -> None:
        raise Unavailable("nobody leads", reason="NO_LEADER")

    monkeypatch.setattr(bench_workloads.Puts, "verify", go)
    target = tmp_path / "x.png"
    ran = run_short(ctl, "put", "--plot", str(target))
    assert ran.code == ExitCode.UNAVAILABLE
    assert f"the picture of what was measured is {target}\nerror: " in ran.err
    assert target.read_bytes().startswith(_MAGIC[".png"])


def test_figures_that_are_wrong_are_not_drawn(
    ctl: Ctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def deny(self: bench_workloads.Puts, client: aio.Client) -> None:
        raise bench_workloads.WorkloadFailed("one too many")

    monkeypatch.setattr(bench_workloads.Puts, "verify", deny)
    ran = run_short(ctl, "put", "--plot", str(tmp_path / "x.png"))
    assert ran.code == ExitCode.ERROR
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), STOPS)
def test_stopped_by_a_signal_it_draws_what_was_measured(
    spawn: Spawn,
    node: Processes,
    tmp_path: Path,
    number: signal.Signals,
    code: ExitCode,
) -> None:
    prefix, target = f"bench/drawn/{number.name}", tmp_path / "x.png"
    flags = ("--seconds", "10m", "--warm-up", "0", "--prefix", prefix)
    run = spawn("bench", "put", *flags, "--plot", str(target), "-o", "json")
    # A task's fourth key: three of its operations were acknowledged.
    asyncio.run(until_there(node, f"{prefix}/put/0/3"))
    run.send_signal(number)
    out, err = run.communicate()
    assert (run.returncode, out) == (code, b"")
    said = err.decode()
    assert said.rstrip().endswith(f"the picture of what was measured is {target}")
    assert "Traceback" not in said
    assert target.read_bytes().startswith(_MAGIC[".png"])
    assert [each.name for each in tmp_path.iterdir()] == ["x.png"]
