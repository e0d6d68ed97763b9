"""Good bytes made bad: flipped, cut, doubled, spliced, lied about their length.

``bad(good)`` changes bytes that a codec made, so that decoders are reached past their
first byte; one time in five the bytes are anything at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hypothesis import strategies as st

__all__ = ["bad", "harmed"]

# Ends of length fields and heads of msgpack, protobuf and text alike.
_TELLING: Final = st.sampled_from(
    bytes.fromhex("00017f808f90919fa1bfc0c1c4c6cacfd3d9dbdcdddfe0feff")
)
_INSERTED: Final = st.one_of(
    st.binary(min_size=1, max_size=6),
    st.sampled_from(
        [
            b"\x91" * 3000,  # deeper than any stack
            b"\x81\xa1k" * 3000,
            b"\xdd\xff\xff\xff\xff",  # lengths of what is not there
            b"\xdb\xff\xff\xff\xff",
            b"\xc6\x7f\xff\xff\xff",
            b"\xa2\xff\xfe",  # no UTF-8
            b"\xcf" + b"\xff" * 8,  # the largest number
            b"\xd3\x80" + bytes(7),  # the smallest
            b"\xc0",
            b"\x0a" * 500,  # nested messages of protobuf
        ]
    ),
)


def harmed(draw: st.DrawFn, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Change bytes in one to three ways."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 6)):
            case 0 if data:
                bit = 1 << draw(st.integers(0, 7))
                at %= len(data)
                data = data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]
            case 1 if data:
                at %= len(data)
                data = data[:at] + bytes([draw(_TELLING)]) + data[at + 1 :]
            case 2:
                data = data[:at]
            case 3:
                end = draw(st.integers(at, len(data)))
                data = data[:end] + data[at:end] + data[end:]
            case 4:
                end = draw(st.integers(at, min(len(data), at + 8)))
                data = data[:at] + data[end:]
            case 5 if others:
                other = draw(st.sampled_from(others))
                data = data[:at] + other[draw(st.integers(0, len(other))) :]
            case _:
                data = data[:at] + draw(_INSERTED) + data[at:]
    return data


@st.composite
def bad(draw: st.DrawFn, good: st.SearchStrategy[bytes]) -> bytes:
    """Return bytes that are most often not what a decoder expects."""
    if draw(st.integers(0, 4)) == 4:
        return draw(st.one_of(st.binary(max_size=60), _INSERTED))
    data = draw(good)
    return harmed(draw, data, [draw(good)] if draw(st.booleans()) else ())
