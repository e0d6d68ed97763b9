"""What peers say to each other, and how it is cut into frames.

A frame is a 4-byte length (big end first) and one msgpack array with a tag. The first
frame each way is ``Hello``, or ``Goodbye`` with the reason why not. Unknown tags,
surplus fields and lengths beyond the limit end the connection: a stranger is talking.

Source: DESIGN.md section 2; RELIABILITY.md rule 46.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from raftd.consensus.messages import Message

__all__ = [
    "FRAME_BYTES_MAX",
    "PROTOCOL_VERSION",
    "Call",
    "Frame",
    "FrameError",
    "Frames",
    "Goodbye",
    "Hello",
    "Messages",
    "Reply",
    "encode",
]

PROTOCOL_VERSION: Final = 1

FRAME_BYTES_MAX: Final = 32 << 20
"""Above the largest append (one entry of a 4 MiB request, or 256 KiB of small ones)
and the largest forwarded request, with room."""

_LENGTH: Final = struct.Struct(">I")


class FrameError(Exception):
    """What came is not a frame of ours; the connection is of no further use."""


class Hello(
    msgspec.Struct,
    frozen=True,
    array_like=True,
    tag=1,
    tag_field="tag",
    forbid_unknown_fields=True,
):
    """Who is speaking.

    Attributes:
        version: Of this protocol.
        cluster_name: As configured.
        cluster_id: Empty before the cluster was formed.
        node_id: Who I am.
        incarnation: Of my data directory.
        peers: Incarnations I know, my own included.
        limits: Digest of the limits that decide what an entry means.
        expected: Whom I believe to be talking to; 0 in the answer.
    """

    version: int
    cluster_name: str
    cluster_id: bytes
    node_id: int
    incarnation: bytes
    peers: dict[int, bytes]
    limits: bytes = b""
    expected: int = 0


class Goodbye(
    msgspec.Struct,
    frozen=True,
    array_like=True,
    tag=2,
    tag_field="tag",
    forbid_unknown_fields=True,
):
    """Why I will not talk to you.

    Attributes:
        is_final: You should stop, not try again.
    """

    sentence: str
    is_final: bool = False


class Messages(
    msgspec.Struct,
    frozen=True,
    array_like=True,
    tag=3,
    tag_field="tag",
    forbid_unknown_fields=True,
):
    """Messages of the core, in order."""

    messages: tuple[Message, ...]


class Call(
    msgspec.Struct,
    frozen=True,
    array_like=True,
    tag=4,
    tag_field="tag",
    forbid_unknown_fields=True,
):
    """A question of the node; opaque to the transport."""

    id: int
    body: bytes


class Reply(
    msgspec.Struct,
    frozen=True,
    array_like=True,
    tag=5,
    tag_field="tag",
    forbid_unknown_fields=True,
):
    """The answer to a call, on the connection the call came in on."""

    id: int
    body: bytes


Frame = Hello | Goodbye | Messages | Call | Reply

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Frame)


def encode(frame: Frame) -> bytes:
    """Encode one frame with its length."""
    body = _encoder.encode(frame)
    return _LENGTH.pack(len(body)) + body


class Frames:
    """Cuts a byte stream into frames; give bytes in, take frames out."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take in bytes and give out the frames that are complete.

        Raises:
            FrameError: Not ours; drop the connection.
        """
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if length > FRAME_BYTES_MAX:
                raise FrameError(
                    f"a frame of {length} bytes is over the limit of {FRAME_BYTES_MAX}"
                )
            end = start + _LENGTH.size + length
            if len(buffer) < end:
                break
            body = bytes(memoryview(buffer)[start + _LENGTH.size : end])
            start = end
            yield _decode(body)
        if start:
            del buffer[:start]


def _decode(body: bytes) -> Frame:
    try:
        frame: Frame = _decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise FrameError(f"a frame cannot be read: {error}") from error
    return frame
