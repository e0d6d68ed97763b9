"""In which order faults happen, for how long, and in what worlds: from a seed alone.

A round is one world with a load, some slices, an ending and a judgement; a slice is a
fault, or a few at once, and its healing. Rounds go on for ever, each row of the matrix
in its turn; how many are run is a matter of time. So a round is repeated by its number,
whatever became of the others.

Source: RELIABILITY.md section 5 (the matrix; combined).
"""

from __future__ import annotations

import dataclasses
import math
import random
from typing import TYPE_CHECKING, Final

from tests.chaos.fault import Want

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.chaos.fault import Fault

__all__ = ["Pace", "Round", "Slice", "rounds_of"]

_LEAST_S: Final = 0.1
_OVERHEAD_S: Final = 3.0
_COMBINED: Final = 0.3
_KEEPS_LOG: Final = 0.6


@dataclasses.dataclass(frozen=True, slots=True)
class Pace:
    """How long things take.

    Attributes:
        fault_s: At most so long is a fault left, however long it may last.
        round_s: About so long do the slices of a round take.
    """

    fault_s: float
    round_s: float


@dataclasses.dataclass(frozen=True, slots=True)
class Slice:
    """Faults that begin one after the other and are healed together.

    Attributes:
        lasts_s: From the first injection to the healing, at least.
    """

    names: tuple[str, ...]
    lasts_s: float

    @property
    def name(self) -> str:
        """For people."""
        return "+".join(self.names)


@dataclasses.dataclass(frozen=True, slots=True)
class Round:
    """See the module.

    Attributes:
        keeps_log: Its nodes keep all of their log and make no checkpoints of their own
            accord; else they make many, and keep little log.
    """

    number: int
    size: int
    wants: frozenset[Want]
    keeps_log: bool
    slices: tuple[Slice, ...]


def rounds_of(
    seed: int,
    faults: Mapping[str, type[Fault]],
    sizes: Sequence[int],
    pace: Pace,
) -> Iterator[Round]:
    """Yield rounds for ever; the same for the same arguments.

    Args:
        seed: Of all that is drawn.
        faults: Those that are possible here.
        sizes: How many nodes, in turn.
        pace: How long things take.
    """
    rng = random.Random(f"{seed}/matrix")
    pending: list[str] = []
    number = passes = 0
    while True:
        if not pending:
            pending = _in_turns(faults, rng)
            passes += 1
        may_combine = passes > 1
        yield _next_round(
            number, sizes[number % len(sizes)], pending, faults, pace, rng, may_combine
        )
        number += 1


def _in_turns(faults: Mapping[str, type[Fault]], rng: random.Random) -> list[str]:
    """Return all names, one of each row, then the next of each row."""
    rows: dict[str, list[str]] = {}
    for name, kind in faults.items():
        rows.setdefault(kind.row, []).append(name)
    for names in rows.values():
        rng.shuffle(names)
    found = []
    while rows:
        turn = list(rows)
        rng.shuffle(turn)
        for row in turn:
            found.append(rows[row].pop())
            if not rows[row]:
                del rows[row]
    return found


def _next_round(
    number: int,
    size: int,
    pending: list[str],
    faults: Mapping[str, type[Fault]],
    pace: Pace,
    rng: random.Random,
    may_combine: bool,
) -> Round:
    wants = faults[pending[0]].wants
    keeps_log = not _wants_marks(pending[0], faults) and rng.random() < _KEEPS_LOG
    slices: list[Slice] = []
    used: set[str] = set()
    left_s = pace.round_s
    for name in list(pending):
        kind = faults[name]
        if left_s <= 0:
            break
        if not kind.wants <= wants or (keeps_log and _wants_marks(name, faults)):
            continue
        if kind.is_once and name in used:
            continue
        pending.remove(name)
        names = [name]
        used.add(name)
        if may_combine and kind.may_be_combined and rng.random() < _COMBINED:
            names += _companions(name, faults, wants, used, rng)
        used.update(names)
        lasts_s = max(_draw_s(faults[each], pace, rng) for each in names)
        slices.append(Slice(tuple(names), lasts_s))
        left_s -= lasts_s + _OVERHEAD_S
    return Round(number, size, wants, keeps_log, tuple(slices))


def _companions(
    name: str,
    faults: Mapping[str, type[Fault]],
    wants: frozenset[Want],
    used: set[str],
    rng: random.Random,
) -> list[str]:
    """Choose one to three faults to go with another."""
    possible = [
        other
        for other, kind in faults.items()
        if kind.may_be_combined
        and kind.wants <= wants
        and other != name
        and not (kind.is_once and other in used)
    ]
    return rng.sample(possible, min(len(possible), rng.randint(1, 3)))


def _draw_s(kind: type[Fault], pace: Pace, rng: random.Random) -> float:
    """Draw how long it lasts; short ones are as likely as long ones."""
    least_s, most_s = kind.lasts_s
    low_s = max(least_s, _LEAST_S)
    high_s = max(low_s, min(most_s, pace.fault_s))
    return math.exp(rng.uniform(math.log(low_s), math.log(high_s)))


def _wants_marks(name: str, faults: Mapping[str, type[Fault]]) -> bool:
    """Tell whether it needs nodes that make checkpoints and cut their log."""
    wants = faults[name].wants
    return (
        Want.SHORT_LOG in wants
        or Want.RELEASE_BEFORE in wants
        or "state" in name
        or "snapshot" in name
    )
