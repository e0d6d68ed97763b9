"""What peers say to each other, and how it is cut into frames.

A frame is a 4-byte length (big end first) and one msgpack array with a tag. The first
frame each way is ``Hello``, or ``Goodbye`` with the reason why not. Unknown tags,
surplus fields and lengths beyond the limit end the connection: a stranger is talking.

Source: DESIGN.md section 2; RELIABILITY.md rule 46.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from raftd.consensus.messages import Message
from raftd.sockets.cut import Cutter, FrameTooLong, framed
from raftd.storage.errors import BAD_BYTES

__all__ = [
    "FRAME_BYTES_MAX",
    "HELLO_BYTES_MAX",
    "OLD_VERSION",
    "PROTOCOL_VERSION",
    "Call",
    "Frame",
    "FrameError",
    "Frames",
    "Goodbye",
    "Hello",
    "Messages",
    "OldHello",
    "Removed",
    "Reply",
    "encode",
]

PROTOCOL_VERSION: Final = 2
OLD_VERSION: Final = 1

FRAME_BYTES_MAX: Final = 32 << 20
"""Above the largest append (one entry of a 4 MiB request, or 256 KiB of small ones)
and the largest forwarded request, with room."""

HELLO_BYTES_MAX: Final = 64 << 10
"""Of a frame from somebody who has not greeted yet."""


class FrameError(Exception):
    """What came is not a frame of ours; the connection is of no further use."""


class OldHello(
    msgspec.Struct,
    frozen=True,
    array_like=True,
    tag=1,
    tag_field="tag",
    forbid_unknown_fields=True,
):
    """Who is speaking, in version 1: its shape may not change.

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


class Hello(
    msgspec.Struct,
    frozen=True,
    array_like=True,
    tag=6,
    tag_field="tag",
    kw_only=True,
):
    """Who is speaking, in version 2.

    Attributes:
        version: Of this protocol.
        cluster_name: As configured.
        cluster_id: Empty before the cluster was formed or joined.
        node_id: Who I am.
        incarnation: Of my data directory.
        peers: Incarnations of the members that I know, empty for those that have not
            shown theirs.
        limits: Digest of the limits that decide what an entry means.
        expected: Whom I believe to be talking to; 0 in the answer.
        level: What my release can do; see ``raftd.node.roster``.
        release: Its version, for people.
        name: As configured; empty if I was not told.
        peer_address: Where I can be dialled; empty if I was not told.
        client_address: The same for clients.
        voters: Those before the first entry of the log; empty before I know them.
        origin: Digest of what my state was restored from; empty if from nothing.
        is_joining: I am blank and want to join, not to form a cluster.
    """

    version: int
    cluster_name: str
    cluster_id: bytes
    node_id: int
    incarnation: bytes
    peers: dict[int, bytes]
    limits: bytes = b""
    expected: int = 0
    level: int = 1
    release: str = ""
    name: str = ""
    peer_address: str = ""
    client_address: str = ""
    voters: tuple[int, ...] = ()
    origin: bytes = b""
    is_joining: bool = False


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


class Removed(
    msgspec.Struct,
    frozen=True,
    array_like=True,
    tag=7,
    tag_field="tag",
):
    """You are no member any more, and never will be again under this id: stop.

    Only said in version 2; one member's word is enough, as a removal is in the log.
    """

    sentence: str


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


Frame = OldHello | Hello | Goodbye | Removed | Messages | Call | Reply

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Frame)


def encode(frame: Frame) -> bytes:
    """Encode one frame with its length."""
    return framed(_encoder.encode(frame))


class Frames:
    """Cuts a byte stream into frames; give bytes in, take frames out."""

    __slots__ = ("_cutter",)

    def __init__(self, bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._cutter = Cutter(bytes_max)

    def limit(self, bytes_max: int) -> None:
        """Take no longer frames from here on."""
        self._cutter.bytes_max = bytes_max

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take in bytes and give out the frames that are complete.

        Raises:
            FrameError: Not ours; drop the connection.
        """
        try:
            for body in self._cutter.feed(data):
                yield _decode(body)
        except FrameTooLong as error:
            raise FrameError(str(error)) from error


def _decode(body: bytes | memoryview) -> Frame:
    try:
        frame: Frame = _decoder.decode(body)
    except BAD_BYTES as error:
        raise FrameError(f"a frame cannot be read: {error}") from error
    return frame
