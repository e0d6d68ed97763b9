"""Output is aligned for people and stable for scripts."""

from __future__ import annotations

import datetime
import json

import pytest

from raftclient import JobState, LockMode
from raftctl.options import OutputFormat
from raftctl.output import Output, plain, printable

ROWS = [{"name": "a", "count": 1}, {"name": "long", "count": 100}]
COLUMNS = {"name": "NAME", "count": "COUNT"}


def test_bytes_are_text_where_they_are_utf8_and_base64_elsewhere() -> None:
    assert plain("é".encode()) == "é"
    assert plain(b"\xff\x00") == {"b64": "/wA="}


def test_times_are_iso_8601_in_utc() -> None:
    zone = datetime.timezone(datetime.timedelta(hours=2))
    moment = datetime.datetime(2030, 1, 2, 3, 4, 5, tzinfo=zone)
    assert plain(moment) == "2030-01-02T01:04:05Z"


def test_enums_and_nested_values_are_plain() -> None:
    value = {"mode": LockMode.SHARED, "states": (JobState.DONE, b"x")}
    assert plain(value) == {"mode": "shared", "states": ["DONE", "x"]}


def test_nothing_printed_can_steer_a_terminal() -> None:
    assert printable(b"\x1b[2J\xff") == "\\x1b[2J\\xff"
    assert printable("a\x9bb\x07") == "a\\x9bb\\x07"


def test_a_table_is_aligned_with_numbers_to_the_right(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Output(OutputFormat.HUMAN).rows(ROWS, columns=COLUMNS, value="name")
    assert capsys.readouterr().out == "NAME  COUNT\na         1\nlong    100\n"


def test_a_list_is_an_array_in_json_and_lines_in_jsonl(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Output(OutputFormat.JSON).rows(ROWS, columns=COLUMNS, value="name")
    assert json.loads(capsys.readouterr().out) == ROWS
    Output(OutputFormat.JSONL).rows(ROWS, columns=COLUMNS, value="name")
    assert [json.loads(x) for x in capsys.readouterr().out.splitlines()] == ROWS
    Output(OutputFormat.VALUE).rows(ROWS, columns=COLUMNS, value="name")
    assert capsys.readouterr().out == "a\nlong\n"


def test_an_item_of_a_stream_is_one_line_of_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for output in (OutputFormat.JSON, OutputFormat.JSONL):
        Output(output).event({"n": 1, "text": "a\nb"}, value=1, text="one")
        assert capsys.readouterr().out == '{"n":1,"text":"a\\nb"}\n'
    Output(OutputFormat.HUMAN).event({"n": 1}, value=1, text="one")
    assert capsys.readouterr().out == "one\n"


def test_a_value_is_its_exact_bytes_for_scripts(
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    Output(OutputFormat.VALUE).payload({}, b"\xff\n\x00")
    assert capsysbinary.readouterr().out == b"\xff\n\x00"
    Output(OutputFormat.HUMAN).payload({}, b"text")
    assert capsysbinary.readouterr().out == b"text\n"


def test_notes_go_to_people_only_and_to_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Output(OutputFormat.JSON).note("hello")
    Output(OutputFormat.HUMAN).note("hello")
    assert capsys.readouterr() == ("", "hello\n")
