"""Rows that checkpoints owe: by name, from a record, and when they change meanwhile."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec
import pytest

from raftd.statemachine.machine import Machine
from raftd.statemachine.rows import DIGEST_BYTES, OWED, Checkpoint, Row, Rows
from raftd.statemachine.tables import RowKey, Table, pack_key
from tests.statemachine.random_log import LIMITS, random_log

_NEVER = 1 << 60
_VERSIONS = int(Table.VERSIONS)
_JOBS = int(Table.JOBS)


class _State:
    """Rows as a module would encode them, and which were looked up."""

    def __init__(self) -> None:
        self.rows = Rows()
        self.found: dict[RowKey, bytes] = {}
        self.looked_up: list[RowKey] = []
        for table in (_VERSIONS, _JOBS):
            self.rows.register(table, self._look_up, lambda _, record: record.encode())

    def _look_up(self, table: int, key: RowKey) -> bytes | None:
        self.looked_up.append(key)
        return self.found.get(key)

    def take(self) -> Checkpoint:
        return self.rows.take(7, bytes(DIGEST_BYTES))


def test_a_row_made_from_a_record_is_not_looked_up() -> None:
    state = _State()
    state.rows.mark_as(_VERSIONS, b"made", "record")
    state.rows.mark_as(_VERSIONS, b"gone", None)
    state.rows.mark(_VERSIONS, b"other")
    assert {row[1]: row[2] for row in state.take().rows()} == {
        b"made": b"record",
        b"gone": None,
        b"other": None,
    }
    assert state.looked_up == [b"other"]


@pytest.mark.parametrize(
    ("change", "value"),
    [
        (lambda rows: rows.mark_as(_VERSIONS, b"k", "newer"), b"newer"),
        (lambda rows: rows.mark_as(_VERSIONS, b"k", None), None),
        (lambda rows: rows.mark_as(_VERSIONS, b"k", OWED), b"found"),
        (lambda _: None, b"older"),
    ],
    ids=["made again", "gone", "taken back", "as it was"],
)
def test_the_last_mark_of_a_record_counts(
    change: Callable[[Rows], None], value: bytes | None
) -> None:
    state = _State()
    state.found[b"k"] = b"found"
    state.rows.mark_as(_VERSIONS, b"k", "older")
    change(state.rows)
    assert list(state.take().rows()) == [(_VERSIONS, b"k", value)]


@pytest.mark.parametrize("owed", ["mark", "mark_as"])
def test_a_checkpoint_gives_rows_as_they_were_at_its_mark(owed: str) -> None:
    state = _State()
    state.found[b"k"] = b"old"
    if owed == "mark":
        state.rows.mark(_VERSIONS, b"k")
    else:
        state.rows.mark_as(_VERSIONS, b"k", "old")
    checkpoint = state.take()
    state.rows.mark_as(_VERSIONS, b"k", None)
    del state.found[b"k"]
    assert list(checkpoint.rows()) == [(_VERSIONS, b"k", b"old")]
    assert list(state.take().rows()) == [(_VERSIONS, b"k", None)]


@pytest.mark.parametrize(
    ("rows_max", "bytes_max", "counts"),
    [(2, _NEVER, [2, 2, 1]), (_NEVER, 1, [1, 1, 1, 1, 1]), (_NEVER, _NEVER, [5])],
    ids=["rows", "bytes", "all"],
)
def test_no_more_rows_are_taken_than_asked_for(
    rows_max: int, bytes_max: int, counts: list[int]
) -> None:
    state = _State()
    rows: list[Row] = []
    for number in range(5):
        table, key = (_VERSIONS, b"%d" % number) if number % 2 else (_JOBS, number)
        state.rows.mark_as(table, key, f"of {number}")
        rows.append((table, pack_key(key), b"of %d" % number))
    checkpoint = state.take()
    taken = []
    while not checkpoint.is_done:
        taken.append(checkpoint.take(rows_max, bytes_max))
    assert [len(each) for each in taken] == counts
    decode = msgspec.msgpack.Decoder(Row).decode
    assert sorted(decode(row) for each in taken for row in each) == sorted(rows)


def test_the_digest_is_that_of_the_rows_in_any_order() -> None:
    state = _State()
    for key in (b"a", b"b"):
        state.rows.mark_as(_VERSIONS, key, "x")
    checkpoint = state.take()
    checkpoint.finish()
    total = sum(
        int.from_bytes(hashlib.blake2b(row, digest_size=DIGEST_BYTES).digest(), "big")
        for row in (
            msgspec.msgpack.encode((_VERSIONS, b"a", b"x")),
            msgspec.msgpack.encode((_VERSIONS, b"b", b"x")),
        )
    )
    said = (total % (1 << 256)).to_bytes(DIGEST_BYTES, "big")
    whole = bytes(DIGEST_BYTES) + (7).to_bytes(8, "big") + said
    digest = hashlib.blake2b(whole, digest_size=DIGEST_BYTES).digest()
    assert checkpoint.digest == digest


@pytest.mark.parametrize("seed", range(4))
def test_rows_made_from_records_are_those_that_would_be_looked_up(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = Machine(LIMITS)
    monkeypatch.setattr(
        Rows, "mark_as", lambda rows, table, key, _: rows.mark(table, key)
    )
    plain = Machine(LIMITS)
    marks = 0
    for index, (payload, is_mark) in enumerate(random_log(seed, 300), start=1):
        assert quick.apply(index, payload) == plain.apply(index, payload)
        if is_mark:
            marks += 1
            mine, other = quick.take_checkpoint(), plain.take_checkpoint()
            assert sorted(mine.rows()) == sorted(other.rows())
            assert mine.digest == other.digest
    assert marks
