"""A number that looks like chance and is the same on every member.

Source: the finalizer of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom
Number Generators, 2014).
"""

from typing import Final

__all__ = ["mix"]

_MASK: Final = (1 << 64) - 1
_STEP: Final = 0x9E3779B97F4A7C15


def mix(number: int, salt: int) -> int:
    """Return 64 bits that depend on every bit of both numbers."""
    bits = (number + (salt + 1) * _STEP) & _MASK
    bits = ((bits ^ bits >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    bits = ((bits ^ bits >> 27) * 0x94D049BB133111EB) & _MASK
    return bits ^ bits >> 31
