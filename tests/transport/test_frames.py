"""Frames: what is sent arrives, whatever the cuts; what is not ours ends the link."""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftd.consensus.messages import Heartbeat
from raftd.consensus.types import Index, NodeId, Term
from raftd.transport.frames import (
    FRAME_BYTES_MAX,
    Call,
    Frame,
    FrameError,
    Frames,
    Goodbye,
    Hello,
    Messages,
    OldHello,
    Removed,
    Reply,
    encode,
)

_OLD_HELLO = OldHello(1, "c", b"", 1, b"i" * 16, {1: b"i" * 16})
_HELLO = Hello(
    version=2,
    cluster_name="c",
    cluster_id=b"c" * 16,
    node_id=1,
    incarnation=b"i" * 16,
    peers={1: b"i" * 16, 2: b""},
    level=2,
    release="0.2.0",
    peer_address="h:7401",
    voters=(1,),
)
_HEARTBEAT = Heartbeat(NodeId(1), NodeId(2), Term(3), Index(4), 5)
_FRAMES: list[Frame] = [
    _OLD_HELLO,
    _HELLO,
    Goodbye("no", is_final=True),
    Removed("gone"),
    Messages((_HEARTBEAT,)),
    Call(7, b"question"),
    Reply(7, b"answer"),
]


@given(st.lists(st.integers(1, 40), max_size=60))
def test_frames_survive_any_cut_of_the_stream(cuts: list[int]) -> None:
    stream = b"".join(encode(frame) for frame in _FRAMES)
    frames, got, place = Frames(), [], 0
    for cut in [*cuts, len(stream)]:
        got += list(frames.feed(stream[place : place + cut]))
        place += cut
    assert got == _FRAMES


@given(st.binary(min_size=1, max_size=200))
def test_arbitrary_bytes_are_a_frame_or_an_error(body: bytes) -> None:
    frames = Frames()
    data = struct.pack(">I", len(body)) + body
    try:
        got = list(frames.feed(data))
    except FrameError:
        return
    assert [encode(frame) for frame in got], "a frame that is read can be written"


def test_a_frame_over_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(FrameError, match=str(FRAME_BYTES_MAX + 1)):
        list(Frames().feed(struct.pack(">I", FRAME_BYTES_MAX + 1)))


def test_the_shapes_of_version_1_are_those_of_the_release_before() -> None:
    """Bytes as that release wrote them."""
    mark = b"\xc4\x10" + b"i" * 16
    hello = (
        b"\x99\x01\x01\xa1c\xc4\x00\x01" + mark + b"\x81\x01" + mark + b"\xc4\x00\x00"
    )
    assert encode(_OLD_HELLO)[4:] == hello
    assert encode(Goodbye("no", is_final=True))[4:] == b"\x93\x02\xa2no\xc3"
    assert encode(Call(7, b"q"))[4:] == b"\x93\x04\x07\xc4\x01q"
    assert encode(Reply(7, b"a"))[4:] == b"\x93\x05\x07\xc4\x01a"
    assert (
        encode(Messages((_HEARTBEAT,)))[4:]
        == b"\x92\x03\x91\x96\x07\x01\x02\x03\x04\x05"
    )


def test_fields_that_a_later_release_adds_to_its_hello_are_read_past() -> None:
    fields = msgspec.msgpack.decode(encode(_HELLO)[4:])
    body = msgspec.msgpack.encode([*fields, "something new"])
    assert list(Frames().feed(struct.pack(">I", len(body)) + body)) == [_HELLO]


def test_a_field_too_many_in_a_hello_of_version_1_is_a_stranger() -> None:
    fields = msgspec.msgpack.decode(encode(_OLD_HELLO)[4:])
    body = msgspec.msgpack.encode([*fields, "something new"])
    with pytest.raises(FrameError):
        list(Frames().feed(struct.pack(">I", len(body)) + body))
