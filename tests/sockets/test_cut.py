"""Cutters: the same bodies whatever the pieces; a length over the limit is an error."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftd.sockets.cut import Cutter, FrameTooLong, framed

BODIES = st.lists(st.binary(max_size=40), max_size=12)
CUTS = st.lists(st.integers(0, 50), max_size=40)


def feed_into(got: list[bytes], cutter: Cutter, stream: bytes, cuts: list[int]) -> None:
    place = 0
    for cut in [*cuts, len(stream)]:
        got.extend(map(bytes, cutter.feed(stream[place : place + cut])))
        place += cut


def test_a_frame_is_its_length_and_its_body() -> None:
    assert framed(b"body") == b"\x00\x00\x00\x04body"
    assert framed(b"") == bytes(4)
    assert framed(bytes(70_000))[:4] == struct.pack(">I", 70_000)


@given(BODIES, CUTS)
def test_any_pieces_give_the_same_bodies(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(framed(body) for body in bodies)
    got: list[bytes] = []
    feed_into(got, Cutter(40), stream, cuts)
    assert got == bodies


@given(BODIES, st.lists(st.integers(0, 3), max_size=12))
def test_one_frame_at_a_time_or_some_of_them(
    bodies: list[bytes], counts: list[int]
) -> None:
    """Pieces that end where a frame does, as they mostly come."""
    cutter, place, got = Cutter(40), 0, []
    for count in [*counts, len(bodies)]:
        piece = b"".join(framed(body) for body in bodies[place : place + count])
        got += [bytes(body) for body in cutter.feed(piece)]
        place += count
    assert got == bodies


@given(BODIES, CUTS, st.integers(0, 39))
def test_a_longer_frame_is_refused_behind_those_before_it(
    bodies: list[bytes], cuts: list[int], limit: int
) -> None:
    stream = b"".join(framed(body) for body in bodies)
    short = 0
    while short < len(bodies) and len(bodies[short]) <= limit:
        short += 1
    got: list[bytes] = []
    if short == len(bodies):
        feed_into(got, Cutter(limit), stream, cuts)
    else:
        with pytest.raises(FrameTooLong) as caught:
            feed_into(got, Cutter(limit), stream, cuts)
        size = len(bodies[short])
        assert caught.value.size == size
        sentence = f"a frame of {size} bytes is over the limit of {limit}"
        assert str(caught.value) == sentence
    assert got == bodies[:short]


@pytest.mark.parametrize("size", [11, 1 << 24, 0xFFFF_FFFF])
def test_a_frame_over_the_limit_is_refused_before_its_body_is_there(size: int) -> None:
    head = struct.pack(">I", size)
    with pytest.raises(FrameTooLong):
        list(Cutter(10).feed(head))
    cutter = Cutter(10)
    assert list(cutter.feed(head[:3])) == []
    with pytest.raises(FrameTooLong):
        list(cutter.feed(head[3:]))


def test_a_whole_frame_over_the_limit_is_refused_too() -> None:
    with pytest.raises(FrameTooLong):
        list(Cutter(10).feed(framed(bytes(11))))
    assert [len(body) for body in Cutter(10).feed(framed(bytes(10)))] == [10]


def test_the_limit_may_change_between_frames() -> None:
    cutter = Cutter(2)
    assert [bytes(body) for body in cutter.feed(framed(b"ab"))] == [b"ab"]
    cutter.bytes_max = 3
    assert [bytes(body) for body in cutter.feed(framed(b"abc"))] == [b"abc"]
    got = []
    for body in cutter.feed(framed(b"abc") + framed(b"abcd")):
        got.append(bytes(body))
        cutter.bytes_max = 4
    assert got == [b"abc", b"abcd"]


def test_bodies_stay_as_they_are_when_more_is_fed() -> None:
    cutter = Cutter(100)
    (first,) = cutter.feed(framed(b"first"))
    (second,) = cutter.feed(framed(b"other") + b"\x00")
    assert list(cutter.feed(b"\x00\x00")) == []
    assert (bytes(first), bytes(second)) == (b"first", b"other")
    assert [bytes(body) for body in cutter.feed(b"\x01x")] == [b"x"]


def test_a_piece_that_looks_like_a_frame_may_be_within_one() -> None:
    cutter, inner = Cutter(100), framed(b"inner")
    assert list(cutter.feed(framed(inner)[:4])) == []
    assert [bytes(body) for body in cutter.feed(inner)] == [inner]
