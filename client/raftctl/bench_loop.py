"""Runs one workload for a while, and keeps figures that do not grow with the time.

Rules: a task starts its next operation when the last one has ended (a closed loop);
operations that end before the warm-up is over are proved but not measured. An error of
the cluster is counted and the task goes on, unless going on makes no sense.

Source: PERFORMANCE.md; ERRORS.md (which errors pass).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from raftclient import (
    Fenced,
    LeaseLost,
    LimitExceeded,
    OutcomeUnknown,
    RaftError,
    ReservationLost,
    Unavailable,
)
from raftctl.bench_timeline import Steps, Timeline
from raftctl.bench_workloads import Workload, WorkloadFailed

__all__ = ["Latencies", "Load", "drive", "worst"]

_PASSING: Final = (
    Fenced,
    LeaseLost,
    LimitExceeded,
    OutcomeUnknown,
    ReservationLost,
    Unavailable,
)
_AFTER_ERROR_S: Final = 0.1
"""So that a cluster that refuses everything is not asked as fast as it can refuse."""

_CLASSES_PER_DOUBLING: Final = 64
"""Each class is 1.1 % wide."""
_CLASS_MAX: Final = 32 * _CLASSES_PER_DOUBLING
"""Beyond an hour all is one."""
_CLASSES_PER_BAR: Final = 8
"""A bar is 9 % wide: enough of them to see two humps, few enough to fill."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a closed loop came to.

    Attributes:
        operations: That ended within the measured time.
        pause_s: The longest part of it in which no operation was acknowledged.
        errors: Of the warm-up too, by reason.
    """

    operations: int
    pause_s: float
    errors: Counter[str]

    def told_errors(self) -> str:
        """Write them for people, the most frequent first; empty if there were none."""
        return ", ".join(f"{n} {reason}" for reason, n in self.errors.most_common())


class Latencies:
    """Counts by logarithmic classes: as large after an hour as after a second."""

    def __init__(self) -> None:
        self._counts: Final = [0] * (_CLASS_MAX + 1)
        self.max_s = 0.0

    def add(self, span_s: float) -> None:
        """Count one."""
        number = int(math.log2(span_s * 1e6 + 1.0) * _CLASSES_PER_DOUBLING)
        self._counts[min(number, _CLASS_MAX)] += 1
        self.max_s = max(self.max_s, span_s)

    def quantile_s(self, share: float) -> float:
        """Return the span below which a share of them lies; 0 if there are none."""
        left = int(sum(self._counts) * share)
        for number, count in enumerate(self._counts):
            left -= count
            if left < 0:
                return min(_edge_s(number + 1), self.max_s)
        return self.max_s

    def bars(self) -> Steps:
        """Return which share of them took how many seconds, without empty ends.

        Bars are about equally wide on a logarithmic axis.
        """
        total = sum(self._counts)
        counts = [
            sum(self._counts[number : number + _CLASSES_PER_BAR])
            for number in range(0, _CLASS_MAX + 1, _CLASSES_PER_BAR)
        ]
        filled = [number for number, count in enumerate(counts) if count]
        if not filled:
            return Steps([0.0], [])
        first, end = filled[0], filled[-1] + 1
        edges = (_edge_s(number * _CLASSES_PER_BAR) for number in range(first, end + 1))
        return Steps(list(edges), [count / total for count in counts[first:end]])


def _edge_s(number: int) -> float:
    """Return the span at which a class begins."""
    return (math.exp2(number / _CLASSES_PER_DOUBLING) - 1.0) / 1e6


async def drive(
    workload: Workload,
    *,
    warm_up_s: float,
    measured_s: float,
    record: Callable[[float], None],
    timeline: Timeline | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Load:
    """Run a prepared workload with all its tasks.

    Args:
        workload: Its ``done`` is counted here, and it is told of errors.
        warm_up_s: Before the measurement begins.
        measured_s: How long it lasts; what runs then is awaited.
        record: Told the seconds of each operation that is measured.
        timeline: Told when each ended; complete also when this is cancelled.
        clock: In seconds; finer than a loop's own, which may tick in milliseconds.

    Raises:
        WorkloadFailed: An operation did something else than it should.
        RaftError: One that would come again and again.
    """
    begin_s = clock() + warm_up_s
    end_s = begin_s + measured_s
    last_s = begin_s
    pause_s = 0.0
    operations = 0
    errors: Counter[str] = Counter()

    async def run(task: int) -> None:
        nonlocal last_s, operations, pause_s
        done, step = workload.done, workload.step
        now_s = clock()
        while now_s < end_s:
            began_s = now_s
            try:
                took_s = await step(task)
            except _PASSING as error:
                workload.failed(task, error)
                errors[error.reason] += 1
                if timeline is not None:
                    timeline.errors[error.reason] += 1
                await asyncio.sleep(_AFTER_ERROR_S)
                now_s = clock()
                continue
            done[task] += 1
            now_s = clock()
            if now_s < begin_s:
                continue
            if now_s - last_s > pause_s:  # noqa: PLR1730 - max() takes four times as long
                pause_s = now_s - last_s
            last_s = now_s
            if timeline is not None:
                timeline.acknowledge(now_s - begin_s)
            # However slow the machine: one operation that ended counts.
            if now_s < end_s or not operations:
                operations += 1
                record(now_s - began_s if took_s is None else took_s)

    try:
        async with asyncio.TaskGroup() as group:
            for task in range(workload.tasks):
                group.create_task(run(task))
    except ExceptionGroup as failed:
        raise worst(failed) from None
    finally:
        if timeline is not None:
            timeline.end(clock() - begin_s)
    return Load(operations, max(pause_s, end_s - last_s), errors)


def worst(failed: ExceptionGroup[Exception]) -> Exception:
    """Return one of many for all: what was done wrong, else what was refused."""
    for kind in (WorkloadFailed, RaftError):
        found = failed.subgroup(kind)
        if found is not None:
            return found.exceptions[0]
    return failed
