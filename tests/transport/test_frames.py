"""Frames: what is sent arrives, whatever the cuts; what is not ours ends the link."""

from __future__ import annotations

import struct

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
    Reply,
    encode,
)

_HELLO = Hello(1, "c", b"", 1, b"i" * 16, {1: b"i" * 16})
_HEARTBEAT = Heartbeat(NodeId(1), NodeId(2), Term(3), Index(4), 5)
_FRAMES: list[Frame] = [
    _HELLO,
    Goodbye("no", is_final=True),
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
