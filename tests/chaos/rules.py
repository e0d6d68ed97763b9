"""What happens to packets from one leg of the router to another, as data.

Rules are for one direction. Several may hold for one pair at once, each set by somebody
of its own: together they do what they would do one after the other.

Source: RELIABILITY.md section 5 (partitions; loss, delay, jitter, reorder, duplicate;
connection resets).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Final

import msgspec

__all__ = ["CLIENTS", "OPEN", "Pair", "Rule", "merged"]

CLIENTS: Final = 0
"""The leg of the clients; nodes have their numbers."""

Pair = tuple[int, int]
"""From which leg to which."""


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """What happens to each packet of one direction.

    Attributes:
        block: It is lost.
        loss: It is lost with this probability.
        duplicate: It arrives twice with this probability.
        delay_ms: It arrives so much later.
        jitter_ms: And up to so much more: packets overtake each other.
        bytes_per_s: 0 = as many as there are; what does not fit waits, then is lost.
        reset: With this probability it is lost, and both ends of its connection are
            told that the connection is gone.
        is_reset_told_once: Only the end that it was for is told so.
    """

    block: bool = False
    loss: float = 0.0
    duplicate: float = 0.0
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    bytes_per_s: int = 0
    reset: float = 0.0
    is_reset_told_once: bool = False

    @property
    def is_open(self) -> bool:
        """Whether packets go through as they come."""
        return self == OPEN


OPEN: Final = Rule()


def merged(rules: Iterable[Rule]) -> Rule:
    """Return the rule that does what all of these do."""
    return functools.reduce(_both, rules, OPEN)


def _both(one: Rule, two: Rule) -> Rule:
    limits = [rule.bytes_per_s for rule in (one, two) if rule.bytes_per_s]
    return Rule(
        block=one.block or two.block,
        loss=_either(one.loss, two.loss),
        duplicate=_either(one.duplicate, two.duplicate),
        delay_ms=one.delay_ms + two.delay_ms,
        jitter_ms=one.jitter_ms + two.jitter_ms,
        bytes_per_s=min(limits, default=0),
        reset=_either(one.reset, two.reset),
        is_reset_told_once=one.is_reset_told_once or two.is_reset_told_once,
    )


def _either(p: float, q: float) -> float:
    return 1.0 - (1.0 - p) * (1.0 - q)
