"""Histories as files: what is written is read, and a broken line is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.checkers.history import HistoryError, as_bytes, as_text, load, save
from tests.checkers.logbook import read_log
from tests.checkers.parts import Filter
from tests.checkers.recorder import Recorder
from tests.checkers.records import Meta
from tests.checkers.synthetic import synthesize

if TYPE_CHECKING:
    from pathlib import Path


META = '{"kind":"meta","made_by":"x"}'


@pytest.mark.parametrize(
    "data", [b"", b"plain", "grün".encode(), b"\xff\x00", b"b64:", b"b64:/w=="]
)
def test_bytes_go_through_text_unchanged(data: bytes) -> None:
    assert as_bytes(as_text(data)) == data


def test_different_bytes_are_different_texts() -> None:
    assert as_text(b"\xff") != as_text(as_text(b"\xff").encode())


def test_text_that_only_looks_like_base64_is_an_error() -> None:
    with pytest.raises(ValueError, match="not base64"):
        as_bytes("b64:?")


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history = synthesize(1, seconds=1.0)
    save(history, path)
    assert list(load(path).records()) == list(history.records())


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([], r":1 is missing: the file is empty"),
        (['{"kind":"meta","made_by":"x"}', "{"], r":2 is no record: "),
        (
            ['{"kind":"meta","made_by":"x"}', '{"kind":"op"}'],
            r":2 is no record: .*`id`",
        ),
        (['{"kind":"meta","made_by":"x","color":1}'], r":1 is no record: .*`color`"),
        (['{"kind":"meta","made_by":"x"}'] * 2, r":2 begins a second history"),
        (
            ['{"kind":"entry","index":1,"term":1}'],
            r":1 must say what made the history",
        ),
    ],
)
def test_a_broken_line_is_named(
    tmp_path: Path, lines: list[str], sentence: str
) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(HistoryError, match=rf"broken\.jsonl{sentence}"):
        load(path)


def test_a_missing_file_is_an_error_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="cannot be read: No such file"):
        load(tmp_path / "nothing.jsonl")


def test_what_nothing_ended_is_unknown_and_what_is_believed_lasts_until_now() -> None:
    clock = iter(range(1, 100))
    recorder = Recorder(lambda: next(clock), Meta(made_by="test"))
    done = recorder.begin("a", "put", {"key": "k", "value": "1"})
    cut = recorder.begin("b", "put", {"key": "k", "value": "2"})
    recorder.sent(cut, 5, 7, {"lease": 9})
    recorder.end(done, "ok", revision=3, answer={"mod_rev": 3}, session=4, number=1)
    recorder.believe("lock", "l", "a", "a-1", 8)
    recorder.watching("w", Filter(start="k"), 1)
    history = recorder.history()
    first, second = history.ops
    assert (first.outcome, first.call_us, first.return_us) == ("ok", 1, 3)
    assert (second.outcome, second.return_us) == ("unknown", None)
    assert (second.session, second.number) == (5, 7)
    assert second.args == {"key": "k", "value": "2", "lease": 9}
    (belief,) = history.beliefs
    assert belief.until_us > belief.from_us
    assert [seen.what for seen in history.seen] == ["began"]


def test_a_log_with_a_gap_is_no_evidence() -> None:
    with pytest.raises(HistoryError, match="entry 3 where 2 must be"):
        list(read_log([(1, 1, b""), (3, 1, b"")]))
