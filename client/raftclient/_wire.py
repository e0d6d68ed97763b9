"""How requests of a session stream become bytes.

A request is encoded once, with its tag and number, and kept as bytes until it is
answered: what is sent again after a reconnect is the same to the byte, and a message
of the stream is its requests joined.

Source: proto/raftpb/v1/sessions.proto; protobuf's encoding guide (a message is the
concatenation of its fields).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from raftpb.v1 import sessions_pb2

if TYPE_CHECKING:
    from raftpb.v1.sessions_pb2 import StreamRequest

__all__ = [
    "STREAM_METHOD",
    "acknowledged_field",
    "cancel_message",
    "decode_request",
    "encode_request",
    "keepalive_message",
]

_SERVICE: Final = sessions_pb2.DESCRIPTOR.services_by_name["SessionService"]
STREAM_METHOD: Final = f"/{_SERVICE.full_name}/StreamSession"

_LENGTH_DELIMITED: Final = 2
_FIELDS: Final = sessions_pb2.StreamSessionRequest.DESCRIPTOR.fields_by_name
_REQUEST_TAG: Final = _FIELDS["requests"].number << 3 | _LENGTH_DELIMITED
_TWO_BYTES: Final = tuple(bytes((_REQUEST_TAG, size)) for size in range(0x80))
_three_bytes: Final = struct.Struct("BBB").pack
_ACKNOWLEDGED_TAG: Final = bytes((_FIELDS["acknowledged"].number << 3,))


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_request(request: StreamRequest) -> bytes:
    """Return the request as one entry of ``StreamSessionRequest.requests``."""
    body = request.SerializeToString()
    size = len(body)
    # Most are short: not through ``_varint`` saves 0.2 to 0.4 us of each.
    if size < 0x80:
        return _TWO_BYTES[size] + body
    if size < 0x4000:
        return _three_bytes(_REQUEST_TAG, size & 0x7F | 0x80, size >> 7) + body
    return bytes((_REQUEST_TAG, *_varint(size))) + body


def decode_request(wire: bytes) -> StreamRequest:
    """Return the request that ``encode_request`` made these bytes of."""
    return sessions_pb2.StreamSessionRequest.FromString(wire).requests[0]


def acknowledged_field(number: int) -> bytes:
    """Return the field that says how far answers have been received."""
    return _ACKNOWLEDGED_TAG + _varint(number)


def keepalive_message(keepalive_id: int) -> bytes:
    """Return a message that asks for a sign of life and renews the session."""
    return sessions_pb2.StreamSessionRequest(
        keepalive=True, keepalive_id=keepalive_id
    ).SerializeToString()


def cancel_message(tag: int) -> bytes:
    """Return a message that ends the watch of a tag."""
    return sessions_pb2.StreamSessionRequest(cancel_tags=[tag]).SerializeToString()
