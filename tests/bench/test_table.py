"""What is computed from runs and told of them: ratios, goals, tables, records."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from msgspec import structs

from tests.bench.__main__ import main
from tests.bench.goals import GOALS, Figure, figure_of, goal_of
from tests.bench.made_up import record_of, turn, turns
from tests.bench.peers.known import all_peers
from tests.bench.plot import svg_of
from tests.bench.record import RecordError, json_of, read_records
from tests.bench.report import report_of, run_table
from tests.bench.results import OURS, Comparison, Results, spread_of
from tests.bench.sections import SectionRow
from tests.bench.workloads import WORKLOADS


def test_a_ratio_is_taken_round_by_round_and_not_of_medians() -> None:
    results = Results(
        [
            *turns(OURS, "put-64", [100, 900, 500]),
            *turns("etcd", "put-64", [10, 300, 500]),
        ]
    )

    (comparison,) = results.comparisons()

    assert comparison.ratio.median == 3, "10, 3 and 1; the medians' is 500 / 300"
    assert (comparison.ratio.low, comparison.ratio.high) == (1, 10)
    assert (comparison.ours.median, comparison.theirs.median) == (500, 300)
    assert comparison.ratio.count == 3


def test_a_round_that_one_of_both_has_not_run_does_not_count() -> None:
    results = Results(
        [*turns(OURS, "put-64", [100, 200, 300]), turn("etcd", "put-64", 2, rate=150)]
    )

    (comparison,) = results.comparisons()

    assert (comparison.ratio.median, comparison.ratio.count) == (2, 1)
    assert comparison.ours.median == 300


def test_what_only_one_of_both_measures_is_not_compared() -> None:
    results = Results([*turns(OURS, "put-64", [1]), *turns("etcd", "put-1", [1])])

    assert results.comparisons() == []


def test_one_in_flight_is_compared_by_latency() -> None:
    results = Results(
        [
            turn(OURS, "put-1", 0, rate=7, p50_us=900),
            turn("etcd", "put-1", 0, rate=1, p50_us=1200),
        ]
    )

    (comparison,) = results.comparisons()

    assert comparison.figure is Figure.P50
    assert comparison.ratio.median == 0.75
    assert comparison.is_met is True


@pytest.mark.parametrize(
    ("measure", "peer", "ratio", "is_met"),
    [
        ("put-64", "etcd", 5.0, True),
        ("put-64", "etcd", 4.99, False),
        ("put-1", "etcd", 0.8, True),
        ("put-1", "etcd", 0.81, False),
        ("handover", "zookeeper", 0.51, False),
        ("job-64", "beanstalkd", 1.0, True),
        ("put-64", "redis", 0.1, None),
    ],
)
def test_a_goal_is_met_from_the_right_side(
    measure: str, peer: str, ratio: float, is_met: bool | None
) -> None:
    spread = spread_of([ratio])

    assert Comparison(measure, peer, spread, spread, spread).is_met is is_met


def test_goals_are_of_workloads_and_peers_that_there_are() -> None:
    measures = {spec.name for spec in WORKLOADS}
    peers = {peer.name: peer.measures for peer in all_peers()}

    assert len({(goal.measure, goal.peer) for goal in GOALS}) == len(GOALS)
    for goal in GOALS:
        assert goal.measure in measures
        assert goal.measure in peers[goal.peer], goal
        assert goal_of(goal.measure, goal.peer) is goal
    assert figure_of("job-64-connections") is Figure.RATE


def test_the_spread_of_an_even_number_is_between_both() -> None:
    spread = spread_of([4, 1, 3, 2])

    assert (spread.median, spread.low, spread.high, spread.count) == (2.5, 1, 4, 4)


def test_the_report_has_each_system_each_goal_and_what_was_left_out() -> None:
    made = [
        *turns(OURS, "put-64", [5000, 6000, 4000]),
        *turns("etcd", "put-64", [1000, 1000, 1000]),
        *turns(OURS, "get-64", [2000, 2000, 2000]),
        *turns("etcd", "get-64", [1000, 1000, 1000]),
        *turns("redis", "get-64", [500, 500, 500]),
    ]

    told = report_of(record_of(made, "zookeeper: install it"))

    lines = [" ".join(line.replace("|", " ").split()) for line in told.splitlines()]
    assert "put-64 raftd 5,000 4,000 - 6,000 0.20 1.80 11.0 1.0 2.0 4.0" in lines, (
        "processor time: of all, of client, leader, and the mean follower"
    )
    assert (
        "put-64 etcd op/s 5,000 4,000 - 6,000 1,000 1,000 - 1,000"
        " 5.00x 4.00 - 6.00 >= 5x met" in lines
    )
    assert any(line.startswith("get-64 etcd") and "MISSED" in line for line in lines)
    assert any(line.startswith("get-64 redis") and line.endswith("-") for line in lines)
    assert "* zookeeper: install it" in lines
    assert "Median of 3 rounds" in told
    assert "commit abc1234, no compiled core" in told


def test_a_single_server_is_told_where_a_leader_is() -> None:
    single = structs.replace(turn("redis", "put-64", 0), cpu_us={"server": 7.0})

    line = run_table(Results([turn(OURS, "put-64", 0), single])).splitlines()[-1]

    assert [cell.strip() for cell in line.split("|")[-5:-1]] == ["7.0", "-", "7.0", "-"]


def test_every_line_of_a_table_is_as_long_as_its_head() -> None:
    made = [*turns(OURS, "put-64", [123456, 7]), *turns("etcd", "put-64", [1, 1])]

    tables = report_of(record_of(made)).split("\n\n")[:2]

    for table in tables:
        assert len({len(line) for line in table.splitlines()}) == 1


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = [*turns(OURS, "put-64", [1, 2]), *turns("etcd", "put-64", [1, 1])]
    record = record_of(made, "zookeeper: install it")
    file = tmp_path / "bench.json"
    file.write_bytes(json_of(record))

    assert read_records([file]) == record
    (told,) = json.loads(file.read_bytes())["comparisons"]
    assert told["ratio"]["median"] == 1.5
    assert (told["goal"], told["is_met"]) == (">= 5x", False)


def test_rows_of_longer_parts_are_kept_and_told(tmp_path: Path) -> None:
    row = SectionRow("sizes", "per key", {"B": 612.0}, "<= 700 B", is_met=True)
    record = structs.replace(record_of([]), rows=(row,))
    file = tmp_path / "bench.json"
    file.write_bytes(json_of(record))

    assert read_records([file, file]).rows == (row, row)
    assert "per key" in report_of(record)
    assert "Median of" not in report_of(record), "there were no rates"


def test_records_read_as_one_never_share_a_round(tmp_path: Path) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file, theirs in zip(files, (10, 1000), strict=True):
        made = [*turns(OURS, "put-64", [100]), *turns("etcd", "put-64", [theirs])]
        record = record_of(made, "redis: install it")
        on = structs.replace(record.environment, commit=f"of {file.stem}")
        file.write_bytes(json_of(structs.replace(record, environment=on)))

    record = read_records(files)

    (comparison,) = Results(record.turns).comparisons()
    assert (comparison.ratio.low, comparison.ratio.high) == (0.1, 10)
    assert record.left_out == ("redis: install it",)
    assert record.environment.commit == "of a, of b"


def test_what_is_no_record_is_named(tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text("{}")

    with pytest.raises(RecordError, match=r"other\.json is no record"):
        read_records([file])
    with pytest.raises(RecordError, match=r"none\.json: No such file"):
        read_records([tmp_path / "none.json"])


def test_the_program_shows_records_and_draws_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [*turns(OURS, "put-64", [5, 6]), *turns("etcd", "put-64", [1, 1])]
    file, plot = tmp_path / "bench.json", tmp_path / "bench.svg"
    file.write_bytes(json_of(record_of(made)))

    assert main(["--show", str(file), "--plot", str(plot)]) == 0

    assert "5.50x" in capsys.readouterr().out
    assert "put-64 (op/s) / etcd" in plot.read_text()
    assert main(["--show", str(tmp_path / "none.json")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_document_gets_what_was_measured_and_keeps_the_rest(tmp_path: Path) -> None:
    made = [*turns(OURS, "put-64", [5, 6]), *turns("etcd", "put-64", [1, 1])]
    row = SectionRow("sizes", "per key", {"B": 612.0}, "<= 700 B", is_met=True)
    file, document = tmp_path / "bench.json", tmp_path / "performance.md"
    file.write_bytes(json_of(structs.replace(record_of(made), rows=(row,))))
    places = ("comparison", "sizes", "soak", "picture comparison")
    document.write_text(
        "# First\n"
        + "".join(f"<!-- {p} -->\nold {p}\n<!-- end of {p} -->\n" for p in places)
        + "last\n"
    )
    asked = ["--show", str(file), "--plot", str(tmp_path / "bench.svg")]

    for _ in range(2):
        assert main([*asked, "--into", str(document)]) == 0

    told = document.read_text()
    assert told.startswith("# First\n")
    assert told.endswith("last\n")
    assert told.count("| put-64") == 1
    assert "| per key |" in told
    assert "old soak" in told, "nothing was measured of it"
    assert "old sizes" not in told
    assert "![bench](bench.svg)" in told


def test_what_cannot_be_filled_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, document = tmp_path / "bench.json", tmp_path / "performance.md"
    file.write_bytes(json_of(record_of([])))
    document.write_text("no marks")

    assert main(["--show", str(file), "--into", str(document)]) == 2
    assert "has no place" in capsys.readouterr().err
    assert main(["--show", str(file), "--into", str(tmp_path / "none.md")]) == 2
    assert "No such file" in capsys.readouterr().err
    made = [*turns(OURS, "put-64", [5]), *turns("etcd", "put-64", [1])]
    file.write_bytes(json_of(record_of(made)))
    document = tmp_path / "docs" / "performance.md"
    document.parent.mkdir()
    document.write_text("<!-- runs -->\n<!-- end of runs -->\n")
    drawn = ["--show", str(file), "--plot", str(tmp_path / "bench.svg")]
    assert main([*drawn, "--into", str(document)]) == 2
    assert "is not below" in capsys.readouterr().err


def test_in_the_plot_better_is_to_the_right_whatever_is_compared() -> None:
    drawn = [("put-64", 2.0), ("put-1", 0.25), ("put-1", 4.0)]
    made = [
        Comparison(measure, "etcd", spread, spread, spread)
        for measure, spread in ((m, spread_of([ratio])) for m, ratio in drawn)
    ]

    bars = re.findall(
        r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', svg_of(made, "")
    )

    (rate, faster, slower) = [(float(x), float(x) + float(px)) for x, px in bars]
    assert rate[0] == faster[0], "both begin where the two are the same"
    assert faster[1] > rate[1], "a quarter of the time is better than twice the rate"
    assert slower[1] == pytest.approx(rate[0], abs=0.2), "four times as slow"
