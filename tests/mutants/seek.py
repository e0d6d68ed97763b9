"""Looking for planted bugs: how soon each is found, and that it is found at all.

Rules: a try that sees the bug is repeated without it, and must pass: what is found is
the bug, not the finder. All seeds are fixed, so that two runs of the same code find the
same. In the gate a bug is looked for from its first seed on (``first_seeds``), within a
fixed number of seeds; else from seed 1 on, until it was found a few times. What random
search misses within a minute and a half is looked for by a script.

Source: RELIABILITY.md section 6.
"""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Final

from tests.mutants.bug import FOUND, Bug, Finder, planted
from tests.mutants.first_seeds import FIRST_SEEDS

__all__ = ["GATE_SEEDS", "Sought", "freeze", "look", "seek", "seek_first"]

GATE_SEEDS: Final = 12
"""So many are tried in the gate, which finds a bug at the first as long as the draws of
its finder stay what they are."""
_FINDS: Final = 5
_CPU_S_MAX: Final = 90.0
_FREEZE_S: Final = 3.0


@dataclasses.dataclass(frozen=True, slots=True)
class Sought:
    """How looking for one bug went.

    Attributes:
        seeds: How many were tried.
        kind: Of the finder.
        is_random: Whether seeds make a difference to it.
        found: How often it was found.
        median_seeds: For one find, by the share of seeds that find it.
        cpu_s: Of all tries together.
        what: What the first find says.
        wrong: The same seed fails without the bug, and how; empty if it does not.
    """

    name: str
    kind: str
    is_random: bool
    seeds: int
    found: int
    median_seeds: int
    cpu_s: float
    what: str
    wrong: str = ""

    @property
    def is_good(self) -> bool:
        """Whether the bug is found, and only with the bug."""
        return self.found > 0 and not self.wrong


def look(bug: Bug, finder: Finder, seed: int) -> str | None:
    """Try one seed with the bug; return what was found, if anything."""
    try:
        with planted(bug):
            finder.run(seed)
    except FOUND as error:
        first_line = str(error).strip().splitlines()[:1]
        return f"{type(error).__name__}: {''.join(first_line)}"
    return None


def seek(bug: Bug, seeds_max: int) -> Sought:
    """Look from seed 1 on until it was found often enough to tell how soon."""
    sought = _seek(bug, bug.finder, range(1, 1 + seeds_max), _FINDS)
    if not sought.found and bug.script is not None:
        return _seek(bug, bug.script, range(1, 2), 1)
    return sought


def seek_first(bug: Bug) -> Sought:
    """Look as the gate does."""
    first = FIRST_SEEDS.get(bug.name, 1)
    return _seek(bug, bug.gate_finder, range(first, first + GATE_SEEDS), 1)


def _seek(bug: Bug, finder: Finder, seeds: range, finds: int) -> Sought:
    begin_s = time.process_time()
    hits: list[tuple[int, str]] = []
    tried = 0
    for seed in seeds if finder.is_random else seeds[:1]:
        tried += 1
        what = look(bug, finder, seed)
        if what is not None:
            hits.append((seed, what))
        if len(hits) == finds or time.process_time() - begin_s > _CPU_S_MAX:
            break
    cpu_s = time.process_time() - begin_s
    return Sought(
        bug.name,
        finder.kind,
        finder.is_random,
        tried,
        len(hits),
        _median(len(hits) / tried),
        cpu_s,
        hits[0][1] if hits else "",
        _fails_without(finder, hits[0][0]) if hits else "",
    )


def _median(share: float) -> int:
    """Return after how many seeds every other search has found it."""
    if not share:
        return 0
    return 1 if share > 1 / 2 else math.ceil(math.log(1 / 2) / math.log(1 - share))


def _fails_without(finder: Finder, seed: int) -> str:
    try:
        finder.run(seed)
    except FOUND as error:
        return f"seed {seed} fails without it: {error}"
    return ""


def freeze(bug: Bug, seeds_max: int) -> int:
    """Return the seed that finds a bug in the shortest time, 0 if none does."""
    finder = bug.gate_finder
    best, best_s, sought_s = 0, float("inf"), 0.0
    for seed in range(1, 1 + seeds_max):
        begin_s = time.process_time()
        what = look(bug, finder, seed)
        took_s = time.process_time() - begin_s
        sought_s += took_s
        if what is not None and took_s < best_s and not _fails_without(finder, seed):
            best, best_s = seed, took_s
        if best and sought_s > _FREEZE_S:
            break
    return best
