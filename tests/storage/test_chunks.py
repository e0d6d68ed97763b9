"""Chunks: whatever rows go in come out, in order, in pieces of about 64 KiB."""

from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftd.storage.chunks import CHUNK_BYTES, Row, join, pack, unpack

rows_of_any_kind = st.lists(
    st.tuples(
        st.integers(min_value=0, max_value=255),
        st.binary(max_size=40),
        st.none() | st.binary(max_size=60) | st.just(b"x" * 30_000),
    ),
    max_size=40,
)


@given(rows_of_any_kind)
def test_unpacking_gives_back_the_packed_rows(rows: list[Row]) -> None:
    assert [row for chunk in pack(rows) for row in unpack(chunk)] == rows


@given(rows_of_any_kind)
def test_a_chunk_is_closed_by_the_row_that_fills_it(rows: list[Row]) -> None:
    chunks = list(pack(rows))
    for chunk in chunks:
        *before, _ = unpack(chunk)
        assert len(msgspec.msgpack.encode(before)) <= CHUNK_BYTES
    for chunk in chunks[:-1]:
        # The estimate of a row's headers is generous by some bytes a row.
        assert len(chunk) > CHUNK_BYTES - 16 * len(unpack(chunk))


@given(rows_of_any_kind)
def test_joining_encoded_rows_is_packing_them(rows: list[Row]) -> None:
    assert unpack(join([msgspec.msgpack.encode(row) for row in rows])) == rows


def test_packing_is_lazy_so_that_a_turn_of_the_loop_stays_short() -> None:
    taken = 0

    def rows() -> Iterator[Row]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield (1, number.to_bytes(4, "big"), b"v" * 1000)

    next(iter(pack(rows())))
    assert taken < 100


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x91\x93\x01\xa1k\xa1v", b"\x91\x92\x01\xc4\x01k"]
)
def test_bytes_that_hold_no_rows_are_refused(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        unpack(data)
