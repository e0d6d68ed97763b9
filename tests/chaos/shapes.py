"""Shapes of partitions: which directions between which legs are cut.

Source: RELIABILITY.md section 5 (symmetric, asymmetric, partial, ring, bridge).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from tests.chaos.rules import Pair, Rule

__all__ = ["CUT", "SHAPES", "both_ways", "cut_off", "in_whole_majorities"]

CUT: Final = Rule(block=True)

Shape = Callable[[Sequence[int], random.Random], Collection[Pair]]


def both_ways(ones: Collection[int], others: Collection[int]) -> list[Pair]:
    """Return all directions between two groups."""
    pairs = [*itertools.product(ones, others)]
    return [*pairs, *((b, a) for a, b in pairs)]


def cut_off(node: int, nodes: Collection[int]) -> list[Pair]:
    """Return all directions between a node and the others."""
    return both_ways([node], [n for n in nodes if n != node])


def in_whole_majorities(nodes: Sequence[int], cuts: Collection[Pair]) -> list[int]:
    """Return who belongs to a majority among whose members nothing is cut.

    There may be several, as around a bridge: which of them is led is left to them.
    """
    needed = len(nodes) // 2 + 1
    found: set[int] = set()
    for chosen in itertools.combinations(nodes, needed):
        if not any(pair in cuts for pair in itertools.permutations(chosen, 2)):
            found.update(chosen)
    return sorted(found)


def _symmetric(nodes: Sequence[int], rng: random.Random) -> list[Pair]:
    """A minority and the rest do not hear each other."""
    minority = rng.sample(nodes, rng.randint(1, max(1, (len(nodes) - 1) // 2)))
    return both_ways(minority, [n for n in nodes if n not in minority])


def _asymmetric(nodes: Sequence[int], rng: random.Random) -> list[Pair]:
    """Some hear others, who do not hear them."""
    some = rng.sample(nodes, rng.randint(1, len(nodes) - 1))
    return [(a, b) for a in some for b in nodes if b not in some]


def _partial(nodes: Sequence[int], rng: random.Random) -> list[Pair]:
    """Two do not hear each other; everybody else hears both."""
    one, other = rng.sample(nodes, 2)
    return both_ways([one], [other])


def _ring(nodes: Sequence[int], rng: random.Random) -> list[Pair]:
    """Each hears two neighbours; of three nodes, each hears only one."""
    order = rng.sample(nodes, len(nodes))
    after = dict(zip(order, [*order[1:], order[0]], strict=True))
    is_one_way = len(nodes) < 4
    return [
        (a, b)
        for a, b in itertools.permutations(nodes, 2)
        if after[a] != b and (is_one_way or after[b] != a)
    ]


def _bridge(nodes: Sequence[int], rng: random.Random) -> list[Pair]:
    """Two halves hear only one node in common."""
    _, *others = rng.sample(nodes, len(nodes))
    half = len(others) // 2
    return both_ways(others[:half], others[half:])


def _everybody(nodes: Sequence[int], rng: random.Random) -> list[Pair]:
    """Nobody hears anybody."""
    del rng
    return [*itertools.permutations(nodes, 2)]


SHAPES: Final[Mapping[str, Shape]] = MappingProxyType(
    {
        "symmetric": _symmetric,
        "asymmetric": _asymmetric,
        "partial": _partial,
        "ring": _ring,
        "bridge": _bridge,
        "everybody": _everybody,
    }
)
