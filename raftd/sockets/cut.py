"""Frames on a byte stream: a length of 4 bytes, big end first, and so many bytes.

Source: DESIGN.md section 2; RELIABILITY.md rule 46.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
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

    __slots__ = ("_buffer", "_lone", "_start", "bytes_max")

    def __init__(self, bytes_max: int) -> None:
        self._buffer = bytearray()
        self._start = 0
        self._lone: memoryview | None = None
        self.bytes_max = bytes_max

    def put(self, data: bytes) -> None:
        """Take in bytes."""
        # Mostly it is just one: to look for it here takes 0.63 of the time.
        size = len(data) - _LENGTH.size
        if (
            not self._buffer
            and self._lone is None
            and 0 <= size <= self.bytes_max
            and _LENGTH.unpack_from(data)[0] == size
        ):
            self._lone = memoryview(data)[_LENGTH.size :]
            return
        lone, self._lone = self._lone, None
        if lone is not None:
            self._buffer += framed(bytes(lone))
        self._buffer += data

    def next(self) -> bytes | memoryview | None:
        """Give out the next body; None = it is not complete yet.

        Raises:
            FrameTooLong: It never will be; drop the connection.
        """
        lone = self._lone
        if lone is not None:
            self._lone = None
            return lone
        buffer, begin = self._buffer, self._start + _LENGTH.size
        if len(buffer) >= begin:
            (length,) = _LENGTH.unpack_from(buffer, self._start)
            if length > self.bytes_max:
                raise FrameTooLong(length, self.bytes_max)
            if len(buffer) >= begin + length:
                self._start = begin + length
                return bytes(memoryview(buffer)[begin : begin + length])
        del buffer[: self._start]
        self._start = 0
        return None

    def feed(self, data: bytes) -> Iterator[bytes | memoryview]:
        """Take in bytes and give out the bodies that are complete.

        Raises:
            FrameTooLong: While they are taken out; drop the connection.
        """
        self.put(data)
        while (body := self.next()) is not None:
            yield body

    def clear(self) -> None:
        """Forget what has come."""
        self._buffer = bytearray()
        self._start, self._lone = 0, None
