"""What a command costs the state machine alone, from a thousand things to a million.

Processor time of ``apply`` in this process: no disk, no network and no other process,
so it is exact where rates are not, and shows which part of a growing cost is ours.

Rules: one state grows through all sizes; at each, every probe runs in several rounds
and the least is told, since whatever else the machine did only adds to it. The
collector is set as a node sets it. What an entry took at the most is told as well: a
pause that comes once in a thousand entries is no part of a least.

Source: PERFORMANCE.md (a million against a thousand <= 1.2x).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from tests.bench.fill import Filler, Kind
from tests.bench.growth_probes import PROBES, Probe, watch_wake_us
from tests.bench.sections import Say, SectionRow

__all__ = [
    "ALONE",
    "measure_kind",
    "measure_watches",
    "name_of_size",
    "size_of_name",
    "tuned_gc",
]

ALONE: Final = "growth, apply alone"
_ROUNDS: Final = 5
_WARM_UP_ROUNDS: Final = 2
_PUBLICATIONS: Final = 20
_GC_THRESHOLDS: Final = (50_000, 20, 100)
"""A node's own; see ``raftd.server.main``."""


def name_of_size(size: int) -> str:
    """Return a size as people write it."""
    for unit, text in ((1_000_000, "M"), (1000, "k")):
        if size >= unit and size % unit == 0:
            return f"{size // unit}{text}"
    return f"{size / 1000:g}k" if size >= 1000 else str(size)


def size_of_name(text: str) -> int:
    """Return the size that was written so."""
    units = {"M": 1_000_000, "k": 1000}
    unit = units.get(text[-1], 1)
    return round(float(text.rstrip("Mk")) * unit)


@contextmanager
def tuned_gc() -> Iterator[None]:
    """Set the cyclic garbage collector as a node does when it serves."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def measure_kind(
    kind: Kind, sizes: Sequence[int], say: Say, rounds: int = _ROUNDS
) -> list[SectionRow]:
    """Grow one state through the sizes; returns a row for each probe."""
    filler = Filler()
    probes = [probe for probe in PROBES if probe.kind is kind]
    costs_us: dict[str, list[float]] = {probe.name: [] for probe in probes}
    pauses_ms: list[float] = []
    with tuned_gc():
        for size in sizes:
            say(f"apply alone: {name_of_size(size)} {kind}")
            filler.fill(kind, size)
            filler.settle()
            for probe in probes:
                filler.apply_ns_max = 0
                costs_us[probe.name].append(_least_us(filler, probe, size, rounds))
                pauses_ms.append(filler.apply_ns_max / 1e6)
            assert filler.found(kind) == size, "a probe leaves what it found"
    last = pauses_ms[-len(probes) :]
    return [
        _row(kind, probe.name, sizes, costs_us[probe.name], pause_ms)
        for probe, pause_ms in zip(probes, last, strict=True)
    ]


def _least_us(filler: Filler, probe: Probe, size: int, rounds: int) -> float:
    found = []
    for turn in range(_WARM_UP_ROUNDS + rounds):
        # Rounds count on from size to size: a key or claimant is made once.
        timed = probe.run(filler, size, turn + len(str(size)) * 1000)
        found.append(timed.ns / timed.operations / 1000)
    return min(found[_WARM_UP_ROUNDS:])


def _row(
    kind: Kind, name: str, sizes: Sequence[int], costs_us: list[float], pause_ms: float
) -> SectionRow:
    ratio = costs_us[-1] / costs_us[0]
    return SectionRow(
        ALONE,
        f"{kind}: {name}",
        {
            f"{name_of_size(size)} us": cost
            for size, cost in zip(sizes, costs_us, strict=True)
        }
        | {"last/first": ratio, "longest entry ms": pause_ms},
        note=f"{name_of_size(sizes[-1])} is the most: see docs"
        if sizes[-1] < 1_000_000
        else "",
    )


def measure_watches(sizes: Sequence[int], say: Say) -> SectionRow:
    """Measure what one event of one key costs a member with so many watches."""
    costs_us = []
    for size in sizes:
        say(f"apply alone: {name_of_size(size)} watches")
        costs_us.append(min(watch_wake_us(size, _PUBLICATIONS) for _ in range(_ROUNDS)))
    figures = {
        f"{name_of_size(size)} us": cost
        for size, cost in zip(sizes, costs_us, strict=True)
    }
    return SectionRow(
        ALONE,
        "watches: an event of one key",
        figures | {"last/first": costs_us[-1] / costs_us[0]},
    )
