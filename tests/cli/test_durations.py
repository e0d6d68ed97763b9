"""Durations are read and written as people write them."""

from __future__ import annotations

import pytest

from raftctl.durations import format_ms, parse_duration_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5.0),
        ("5s", 5.0),
        ("0", 0.0),
        ("500ms", 0.5),
        ("2m", 120.0),
        ("1.5h", 5400.0),
        ("1h30m", 5400.0),
        ("7d", 604_800.0),
        (" 2M ", 120.0),
    ],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "s", "5x", "-5", "5 s s", "1h 30", "nan", "inf", "1e3", "\u0665s", "9" * 50],
)
def test_what_is_no_duration_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration"):
        parse_duration_s(text)


@pytest.mark.parametrize(
    ("span_ms", "text"),
    [
        (0, "0ms"),
        (999, "999ms"),
        (1500, "1.5s"),
        (30_000, "30s"),
        (90_000, "1m30s"),
        (3_600_000, "1h"),
        (3_600_500, "1h"),
        (90_061_000, "1d1h"),
    ],
)
def test_a_span_is_written_in_its_two_largest_units(span_ms: int, text: str) -> None:
    assert format_ms(span_ms) == text
