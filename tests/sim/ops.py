"""What simulated clients do, and what they did: one operation each, and the sums."""

from __future__ import annotations

import dataclasses
from random import Random
from typing import Final

from raftd.node.read_queue import Query
from raftd.statemachine.schema.base import Fence
from raftd.statemachine.schema.entry import AnyCommand
from raftd.statemachine.schema.kv import IncrementKey, PutKey
from raftd.statemachine.schema.locks import AcquireLock
from tests.sim.model import LOCKS

__all__ = ["COUNTERS", "KEYS", "Op", "Tally", "draw_op"]

KEYS: Final = (b"a", b"b", b"c")
COUNTERS: Final = (b"n0", b"n1")


@dataclasses.dataclass(slots=True)
class Tally:
    """What all clients together did and know."""

    begun: int = 0
    answered: int = 0
    sessions: int = 0
    jobs: int = 0
    elected: int = 0
    floor: int = 0
    """The highest revision that any answered operation has shown."""
    counts: dict[bytes, int] = dataclasses.field(default_factory=dict)
    """Acknowledged increments."""


@dataclasses.dataclass(slots=True)
class Op:
    """One operation until it is answered; a read if there is no command."""

    tag: int
    number: int
    command: AnyCommand | None
    key: bytes
    floor: int
    sent_us: int
    """First sent: an answer may be that of the first attempt."""
    attempt: int = 0
    query: Query | None = None
    """What a read asks."""
    fences: tuple[Fence, ...] = ()


def draw_op(
    rng: Random, unique: bytes, claimant: str, session: int
) -> tuple[AnyCommand | None, bytes]:
    """Draw an operation and the key it is about; no command is a read.

    A client takes one lock at a time, or clients would wait for each other.
    """
    draw = rng.random()
    if draw < 0.3:
        key = rng.choice(KEYS)
        return PutKey(key, unique), key
    if draw < 0.5:
        key = rng.choice(COUNTERS)
        return IncrementKey(key, 1), key
    if draw < 0.85:
        return None, rng.choice(KEYS + COUNTERS)
    wait_ms = rng.choice([0, 500, None])
    return AcquireLock(rng.choice(LOCKS), session, claimant, wait_ms=wait_ms), b""
