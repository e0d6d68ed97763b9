"""Frames on a byte stream: a length of 4 bytes, big end first, and so many bytes.

Source: DESIGN.md section 2; RELIABILITY.md rule 46.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final

__all__ = ["Cutter", "FrameTooLong", "framed"]

_LENGTH: Final = struct.Struct(">I")


class FrameTooLong(Exception):
    """A frame announced more bytes than are taken; nothing behind it can be read."""

    def __init__(self, size: int, bytes_max: int) -> None:
        super().__init__(f"a frame of {size} bytes is over the limit of {bytes_max}")
        self.size = size


def framed(body: bytes) -> bytes:
    """Put the length in front."""
    return _LENGTH.pack(len(body)) + body


class Cutter:
    """Cuts a byte stream into the bodies of its frames.

    Attributes:
        bytes_max: Of a body; may be changed between any two.
    """

    __slots__ = ("_buffer", "bytes_max")

    def __init__(self, bytes_max: int) -> None:
        self._buffer = bytearray()
        self.bytes_max = bytes_max

    def feed(self, data: bytes) -> Iterable[bytes | memoryview]:
        """Take in bytes and give out the bodies that are complete.

        Raises:
            FrameTooLong: While they are taken out; drop the connection.
        """
        # Mostly it is just one: to look for it here takes 0.63 of the time.
        size = len(data) - _LENGTH.size
        if (
            not self._buffer
            and 0 <= size <= self.bytes_max
            and _LENGTH.unpack_from(data)[0] == size
        ):
            return (memoryview(data)[_LENGTH.size :],)
        return self._cut(data)

    def _cut(self, data: bytes) -> Iterator[bytes]:
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if length > self.bytes_max:
                raise FrameTooLong(length, self.bytes_max)
            end = start + _LENGTH.size + length
            if len(buffer) < end:
                break
            body = bytes(memoryview(buffer)[start + _LENGTH.size : end])
            start = end
            yield body
        if start:
            del buffer[:start]
