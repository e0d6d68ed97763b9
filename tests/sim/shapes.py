"""The shapes of partitions: which links are cut, from whom to whom.

Rules: a shape gives the links of one direction; cut both ways they part a cluster as
its name says.

Source: RELIABILITY.md sections 5 and 6 (partitions).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

__all__ = ["SHAPES", "draw_shape"]

Pairs = list[tuple[int, int]]


def _isolate(_: Random, ids: Sequence[int], victim: int) -> Pairs:
    """One node is alone."""
    return [(victim, other) for other in ids if other != victim]


def _parts(rng: Random, ids: Sequence[int], _: int) -> Pairs:
    """Each node is on one of two sides, of sizes as it happens."""
    return _between(ids, [node for node in ids if rng.random() < 0.5])


def _sized(rng: Random, ids: Sequence[int], _: int) -> Pairs:
    """Each size of a side is as frequent as another."""
    side = list(ids)
    rng.shuffle(side)
    return _between(ids, side[: rng.randint(1, max(1, len(ids) - 1))])


def _ring(rng: Random, ids: Sequence[int], _: int) -> Pairs:
    """Each node reaches two others only, so that no two see the same majority."""
    order = list(ids)
    rng.shuffle(order)
    count = len(order)
    return [
        (order[at], order[other])
        for at in range(count)
        for other in range(count)
        if min((at - other) % count, (other - at) % count) > 1
    ]


def _bridge(rng: Random, ids: Sequence[int], victim: int) -> Pairs:
    """Two sides that do not reach each other; one node reaches both."""
    rest = [node for node in ids if node != victim]
    rng.shuffle(rest)
    return _between(rest, rest[: len(rest) // 2])


def _links(rng: Random, ids: Sequence[int], _: int) -> Pairs:
    """Any links."""
    return [(a, b) for a in ids for b in ids if a != b and rng.random() < 0.4]


def _between(ids: Sequence[int], side: Sequence[int]) -> Pairs:
    inside = dict.fromkeys(side)
    return [(a, b) for a in side for b in ids if b not in inside]


SHAPES: Final[dict[str, Callable[[Random, Sequence[int], int], Pairs]]] = {
    "bridge": _bridge,
    "isolate": _isolate,
    "links": _links,
    "parts": _parts,
    "ring": _ring,
    "sized": _sized,
}


def draw_shape(
    rng: Random, shapes: Sequence[str], ids: Sequence[int], victim: int
) -> tuple[str, Pairs]:
    """Draw a partition of one of these shapes, with a victim where one is special."""
    shape = rng.choice(shapes)
    return shape, SHAPES[shape](rng, ids, victim)
