"""Networks that are cut, slow, lossy, or forget their connections.

A cut between nodes leaves clients in touch with all of them, or only with one side, as
is drawn. What a fault asserts of time and terms it asserts only where it was alone all
along: others may well be the reason that it does not hold.

Source: RELIABILITY.md section 5 (partitions; loss, delay, jitter, reorder, duplicate,
bandwidth; connection resets, half-open).
"""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, ClassVar, Final

from tests.chaos.fault import Broken, Fault, variant
from tests.chaos.rules import CLIENTS, Pair, Rule
from tests.chaos.shapes import CUT, SHAPES, both_ways, cut_off, in_whole_majorities

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from tests.chaos.world import Who, World

__all__ = ["NETWORK_FAULTS"]

_PARTITIONS: Final = "symmetric, asymmetric, partial, ring, bridge partitions"
_QUALITY: Final = "loss, delay, jitter, reorder, duplicate, bandwidth"
_RESETS: Final = "connection resets, half-open"
_ANSWERS_S: Final = 4.0
"""Four election timeouts: then a connected majority answers."""
_SETTLE_S: Final = 0.5
_LOSS_FOR_ALIVE: Final = 0.05
_ALIVE_S: Final = 15.0


class _OnNetwork(Fault):
    """Something about the network, taken back by one word."""

    _began_s = 0.0
    _was_alone = False

    def shape(self, world: World, rules: Mapping[Pair, Rule]) -> None:
        """Let rules hold from now on."""
        self._was_alone = not world.taken and not world.ground.is_shaped
        self._began_s = time.monotonic()
        world.ground.shape(self, rules)
        self.has_happened = bool(rules)

    def was_alone(self, world: World) -> bool:
        """Tell whether nothing else has gone on, as far as one can see."""
        return self._was_alone and not world.taken_by_others(self.name)

    def lasted_s(self) -> float:
        """How long rules have held."""
        return time.monotonic() - self._began_s

    async def heal(self, world: World) -> None:
        await asyncio.to_thread(world.ground.clear, self)


class _Partition(_OnNetwork):
    """Cut some directions between nodes."""

    row = _PARTITIONS
    lasts_s = (1.0, 20.0)
    shape_name: ClassVar[str]

    def __init__(self) -> None:
        self._majority: list[int] = []

    async def inject(self, world: World, rng: random.Random) -> None:
        nodes = [*world.members]
        if len(nodes) < 2:
            return
        cuts = [*SHAPES[self.shape_name](nodes, rng)]
        self._majority = in_whole_majorities(nodes, cuts)
        if self._majority and rng.random() < 0.5:
            away = [n for n in nodes if n not in self._majority]
            cuts += both_ways([CLIENTS], away)
        await asyncio.to_thread(self.shape, world, dict.fromkeys(cuts, CUT))

    async def heal(self, world: World) -> None:
        majority, self._majority = self._majority, []
        try:
            if majority and self.lasted_s() > _ANSWERS_S and self.was_alone(world):
                await asyncio.to_thread(_see_it_answer, world, majority)
        finally:
            await super().heal(world)


def _see_it_answer(world: World, majority: list[int]) -> None:
    if not world.has_leader_within(majority, _ANSWERS_S):
        raise Broken(f"most of nodes {majority} hear each other, and none leads them")


class _Isolate(_OnNetwork):
    """Cut one node off from all others; clients still reach it."""

    row = _PARTITIONS
    lasts_s = (2.0, 20.0)
    who: ClassVar[Who]
    _node: int | None = None
    _term = 0

    async def inject(self, world: World, rng: random.Random) -> None:
        node = await asyncio.to_thread(world.take, rng, self.who, self.name)
        if node is None:
            return
        cuts = cut_off(node, world.members)
        self._node = node
        await asyncio.to_thread(self.shape, world, dict.fromkeys(cuts, CUT))
        # What it had heard before that may still make it a candidate.
        await asyncio.sleep(_SETTLE_S)
        self._term = await asyncio.to_thread(_term_of, world, node)

    async def heal(self, world: World) -> None:
        node, self._node = self._node, None
        if node is None:
            return
        try:
            term = await asyncio.to_thread(_term_of, world, node)
        finally:
            await super().heal(world)
            world.give_back(node)
        if self._term and term > self._term:
            raise Broken(
                f"node {node} was alone and raised its term {self._term} to {term}"
            )


def _term_of(world: World, node: int) -> int:
    status = world.statuses([node]).get(node)
    return status.term if status is not None else 0


class _CutClients(_OnNetwork):
    """Cut the clients off from some of the nodes, or all."""

    name = "cut_clients"
    row = _PARTITIONS
    lasts_s = (1.0, 5.0)

    async def inject(self, world: World, rng: random.Random) -> None:
        nodes = rng.sample(world.members, rng.randint(1, len(world.members)))
        cuts = both_ways([CLIENTS], nodes)
        await asyncio.to_thread(self.shape, world, dict.fromkeys(cuts, CUT))


class _Quality(_OnNetwork):
    """Make all links, or those of one node, worse."""

    row = _QUALITY
    lasts_s = (5.0, 20.0)
    least: ClassVar[Rule]
    most: ClassVar[Rule]
    _rule = Rule()

    async def inject(self, world: World, rng: random.Random) -> None:
        self._rule = _between(self.least, self.most, rng)
        legs = [*world.members, *([CLIENTS] if rng.random() < 0.3 else [])]
        pairs = [*itertools.permutations(legs, 2)]
        if rng.random() < 0.5:
            one = rng.choice(world.members)
            pairs = [pair for pair in pairs if one in pair]
        await asyncio.to_thread(self.shape, world, dict.fromkeys(pairs, self._rule))

    async def heal(self, world: World) -> None:
        lost, self._rule = self._rule.loss, Rule()
        try:
            if 0 < lost <= _LOSS_FOR_ALIVE and self.was_alone(world):
                await asyncio.to_thread(_see_it_live, world)
        finally:
            await super().heal(world)


def _see_it_live(world: World) -> None:
    if not world.has_leader_within(world.members, _ALIVE_S):
        raise Broken("nobody leads although hardly a packet in twenty is lost")


def _between(least: Rule, most: Rule, rng: random.Random) -> Rule:
    """Draw each number between those of two rules."""
    return Rule(
        loss=rng.uniform(least.loss, most.loss),
        duplicate=rng.uniform(least.duplicate, most.duplicate),
        delay_ms=rng.uniform(least.delay_ms, most.delay_ms),
        jitter_ms=rng.uniform(least.jitter_ms, most.jitter_ms),
        bytes_per_s=rng.randint(least.bytes_per_s, most.bytes_per_s),
    )


class _Resets(_OnNetwork):
    """End connections, some or all, again and again."""

    name = "resets"
    row = _RESETS
    lasts_s = (2.0, 10.0)

    async def inject(self, world: World, rng: random.Random) -> None:
        legs = [CLIENTS, *world.members]
        pairs = itertools.permutations(legs, 2)
        rule = Rule(reset=rng.choice((0.005, 0.02, 0.1)))
        await asyncio.to_thread(self.shape, world, dict.fromkeys(pairs, rule))


class _ResetAll(_OnNetwork):
    """End every connection that says anything, for a moment."""

    name = "reset_all"
    row = _RESETS
    lasts_s = (0.2, 0.5)

    async def inject(self, world: World, rng: random.Random) -> None:
        del rng  # all of them
        pairs = itertools.permutations([CLIENTS, *world.members], 2)
        rule = Rule(reset=1.0)
        await asyncio.to_thread(self.shape, world, dict.fromkeys(pairs, rule))


class _HalfOpen(_OnNetwork):
    """End connections at one end, and let the other hear nothing of it."""

    name = "half_open"
    row = _RESETS
    lasts_s = (2.0, 15.0)

    async def inject(self, world: World, rng: random.Random) -> None:
        one = rng.choice(world.members)
        others = [n for n in world.members if n != one]
        told = Rule(reset=1.0, is_reset_told_once=True)
        rules = {(one, other): told for other in others}
        rules |= {(other, one): CUT for other in others}
        await asyncio.to_thread(self.shape, world, rules)


NETWORK_FAULTS: Final[tuple[type[Fault], ...]] = (
    *(variant(_Partition, f"partition_{name}", shape_name=name) for name in SHAPES),
    variant(_Isolate, "isolate_leader", who="leader"),
    variant(_Isolate, "isolate_follower", who="follower"),
    _CutClients,
    variant(_Quality, "loss_little", least=Rule(loss=0.01), most=Rule(loss=0.05)),
    variant(_Quality, "loss_much", least=Rule(loss=0.05), most=Rule(loss=0.5)),
    variant(_Quality, "delay", least=Rule(), most=Rule(delay_ms=250)),
    variant(
        _Quality,
        "reorder",
        least=Rule(jitter_ms=1),
        most=Rule(delay_ms=20, jitter_ms=250),
    ),
    variant(
        _Quality,
        "duplicate",
        least=Rule(duplicate=0.1),
        most=Rule(duplicate=0.9, jitter_ms=20),
    ),
    variant(
        _Quality,
        "bandwidth",
        least=Rule(bytes_per_s=16_000),
        most=Rule(bytes_per_s=500_000),
    ),
    *(_Resets, _ResetAll, _HalfOpen),
)
