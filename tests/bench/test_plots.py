"""Pictures: valid, inside their frames, and with what was measured where it belongs."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from msgspec import structs

from tests.bench.failover import merge
from tests.bench.growth import curves_by_kind
from tests.bench.made_up import record_of, turns
from tests.bench.panels import Curve, Panel, svg_of_panels
from tests.bench.plots import draw, panels_of
from tests.bench.results import OURS
from tests.bench.sections import SectionRow
from tests.bench.svg import Axis, short

_FAILOVER = merge(
    [],
    [
        SectionRow("failover", f"{fault}: {name}", samples={"pause s": pauses})
        for fault in ("leader killed", "leader cut off")
        for name, pauses in (("raftd", [0.3, 0.1]), ("etcd", [1.0, 3.0, 2.0]))
    ],
)
_GROWTH = [
    SectionRow("growth, apply alone", "keys: put", {"1k us": 2.0, "1M us": 3.0}),
    *(
        SectionRow(
            "growth, cluster",
            f"{size} keys: put",
            {"1k us": 20.0, "us": 22.0, "ratio": 1.1, "p50 ratio": 0.9},
        )
        for size in ("10k", "1M")
    ),
]
_SOAK = [
    SectionRow(
        "soak",
        f"minute {number}",
        dict.fromkeys(
            (
                *("op/s", "p50 ms", "p99 ms", "leader MiB", "largest follower MiB"),
                *("client MiB", "log.db MiB", "state.db MiB"),
            ),
            100.0 + number,
        ),
    )
    for number in (1, 2, 3)
]


def test_a_record_has_a_picture_of_each_part_that_was_measured(tmp_path: Path) -> None:
    made = [*turns(OURS, "put-64", [5, 6]), *turns("etcd", "put-64", [1, 1])]
    rows = (*_FAILOVER, *_GROWTH, *_SOAK, SectionRow("sizes", "keys", {"B": 1.0}))
    record = structs.replace(record_of(made), rows=rows)

    written = draw(record, tmp_path / "bench.svg")

    assert [file.name for file in written] == [
        *("bench.svg", "bench-failover.svg", "bench-growth.svg", "bench-soak.svg"),
    ]
    for file in written:
        drawn = ElementTree.parse(file)  # noqa: S314 - written by the code under test
        _see_all_inside(drawn.getroot())
    assert draw(record_of([]), tmp_path / "none.svg") == []


def _see_all_inside(picture: ElementTree.Element) -> None:
    width, height = float(picture.attrib["width"]), float(picture.attrib["height"])
    for part in picture.iter():
        for name, value in part.attrib.items():
            if name in {"x", "x1", "x2"}:
                assert 0 <= float(value) <= width
            if name in {"y", "y1", "y2"}:
                assert 0 <= float(value) <= height
        for x, y in re.findall(r"([\d.]+),([\d.]+)", part.attrib.get("points", "")):
            assert float(x) <= width
            assert float(y) <= height


def test_a_share_of_the_runs_grows_to_all_of_them() -> None:
    killed, cut = panels_of(_FAILOVER)["failover"]

    ours, theirs = killed.curves
    assert (ours.name, theirs.name) == ("raftd", "etcd")
    assert ours.points == [(0, 0), (0.1, 0), (0.1, 0.5), (0.3, 0.5), (0.3, 1.0)]
    assert theirs.points[-1] == (3.0, 1.0)
    assert cut.title.startswith("leader cut off")


def test_curves_of_growth_begin_at_one_and_have_every_size() -> None:
    curves = curves_by_kind(_GROWTH)["keys"]

    assert sorted(curves.values()) == [
        [(1000, 1.0), (10_000, 0.9), (1_000_000, 0.9)],
        [(1000, 1.0), (10_000, 1.1), (1_000_000, 1.1)],
        [(1000, 1.0), (1_000_000, 1.5)],
    ]


def test_higher_values_are_higher_up_and_later_ones_to_the_right() -> None:
    drawn = svg_of_panels(
        [Panel("one", "minutes", [Curve("grows", [(1, 5), (2, 10)])])], ""
    )

    (first, *_) = re.findall(r'<polyline points="([^"]+)"', drawn)
    (x1, y1), (x2, y2) = [map(float, point.split(",")) for point in first.split()]
    assert x1 < x2
    assert y1 > y2, "upwards is less in a picture"


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis(0.0, 1.1, 0, 100), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (Axis(0.0, 5500.0, 0, 100), [0, 1000, 2000, 3000, 4000, 5000]),
        (Axis(1000, 1e6, 0, 100, is_log=True), [1e3, 1e4, 1e5, 1e6]),
        (Axis(0.4, 6.0, 0, 100, is_log=True), [0.5, 1, 2, 5]),
    ],
)
def test_an_axis_has_a_few_round_values(axis: Axis, ticks: list[float]) -> None:
    assert axis.ticks() == pytest.approx(ticks)


def test_numbers_are_short() -> None:
    assert [short(n) for n in (0, 0.5, 12, 1000, 2500, 1e6)] == [
        *("0", "0.5", "12", "1k", "2.5k", "1M"),
    ]
