"""The benchmark's parts: what is counted, and that each proof finds one too many."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from cluster.processes import Processes
from raftclient import InvalidRequest, OutcomeUnknown, RaftError, Unavailable, aio
from raftctl import bench_loop
from raftctl.bench_loop import Latencies, drive
from raftctl.bench_timeline import Pause, Timeline
from raftctl.bench_workloads import (
    WORKLOADS,
    Gets,
    Increments,
    JobCycles,
    LockCycles,
    Puts,
    Workload,
    WorkloadFailed,
)

_START_S = 60.0


class _Scripted(Workload):
    """One task whose steps take what a script says, on a clock of its own."""

    def __init__(self, *steps: float | RaftError) -> None:
        super().__init__([_NOBODY], "scripted", 1)
        self.now_s = 100.0
        self._steps = iter(steps)

    async def step(self, task: int) -> None:
        found = next(self._steps)
        if isinstance(found, RaftError):
            raise found
        self.now_s += found

    async def verify(self, client: aio.Client) -> None:
        raise AssertionError("nothing to compare")


_NOBODY: aio.Client = object.__new__(aio.Client)


async def scripted(
    *steps: float | RaftError, warm_up_s: float = 10.0, measured_s: float = 10.0
) -> tuple[_Scripted, bench_loop.Load, list[float]]:
    workload = _Scripted(*steps)
    found: list[float] = []
    line = Timeline(measured_s)
    load = await drive(
        workload,
        warm_up_s=warm_up_s,
        measured_s=measured_s,
        record=found.append,
        timeline=line,
        clock=lambda: workload.now_s,
    )
    assert (line.operations, line.errors) == (load.operations, load.errors)
    assert line.pauses[0].length_s == load.pause_s
    assert line.rate == load.operations / line.lasted_s == load.operations / measured_s
    return workload, load, found


async def test_the_warm_up_and_what_ends_too_late_are_done_but_not_measured() -> None:
    workload, load, found = await scripted(4.0, 5.0, 2.0, 3.0, 5.0, 4.0)
    assert found == [2.0, 3.0, 5.0]
    assert load.operations == 3
    assert workload.done == [6]


async def test_the_pause_is_the_longest_time_without_an_acknowledgement() -> None:
    _, load, _ = await scripted(12.0, 1.0, 5.0, 2.0)
    assert load.pause_s == 5.0
    _, load, _ = await scripted(16.0, 1.0, 3.0)
    assert load.pause_s == 6.0, "from the beginning to the first"
    _, load, _ = await scripted(11.0, 100.0)
    assert load.pause_s == 100.0, "the last one counts, however late it is"


async def test_one_operation_counts_however_slow_the_machine() -> None:
    _, load, found = await scripted(500.0)
    assert (load.operations, found) == (1, [500.0])


async def test_errors_are_counted_and_the_task_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bench_loop, "_AFTER_ERROR_S", 0.0)
    refused = Unavailable("nobody leads", reason="NO_LEADER")
    unknown = OutcomeUnknown("no answer came", reason="DEADLINE")
    workload, load, found = await scripted(
        refused, unknown, refused, 15.0, refused, 15.0
    )
    assert load.errors == {"NO_LEADER": 3, "DEADLINE": 1}
    assert load.told_errors() == "3 NO_LEADER, 1 DEADLINE"
    assert (workload.done, workload.unsure) == ([2], [1])
    assert found == [15.0]


async def test_a_call_that_is_wrong_ends_it() -> None:
    with pytest.raises(InvalidRequest, match="mend it"):
        await scripted(1.0, InvalidRequest("mend it"))


def test_latencies_are_right_within_two_hundredths() -> None:
    chance = random.Random(5)
    spans = sorted(chance.lognormvariate(-6.0, 2.0) for _ in range(20_000))
    latencies = Latencies()
    for span_s in spans:
        latencies.add(span_s)
    for share in (0.0, 0.5, 0.9, 0.99, 0.999):
        exact_s = spans[int(share * len(spans))]
        assert latencies.quantile_s(share) == pytest.approx(exact_s, rel=0.02, abs=2e-6)
    assert latencies.quantile_s(1.0) == latencies.max_s == spans[-1]
    assert Latencies().quantile_s(0.5) == 0.0
    latencies.add(1e9)
    assert latencies.max_s == 1e9, "more than an hour"


def test_bars_hold_each_latency_once_and_are_equally_wide_on_a_logarithmic_axis() -> (
    None
):
    latencies = Latencies()
    for span_s in (0.001, 0.002, 0.002, 1.0):
        latencies.add(span_s)
    bars = latencies.bars()
    assert (bars.values[0], bars.values[-1], sum(bars.values)) == (0.25, 0.25, 1.0)
    (most,) = (n for n, value in enumerate(bars.values) if value == 0.5)
    assert bars.edges[0] <= 0.001 < bars.edges[1]
    assert bars.edges[most] <= 0.002 < bars.edges[most + 1]
    assert bars.edges[-2] <= 1.0 < bars.edges[-1]
    for low, high in itertools.pairwise(bars.edges):
        assert high / low == pytest.approx(2 ** (1 / 8), rel=1e-3)
    assert Latencies().bars().values == []


def timeline_of(measured_s: float, *at_s: float, end_s: float) -> Timeline:
    line = Timeline(measured_s)
    for each in at_s:
        line.acknowledge(each)
    line.end(end_s)
    return line


def test_rates_are_those_of_each_part_of_the_time() -> None:
    # 100 a second, 2 s of nothing, 50 a second
    times = [0.005 + n / 100 for n in range(400)] + [6.01 + n / 50 for n in range(200)]
    steps = timeline_of(10.0, *times, end_s=10.0).rates(60)
    assert steps.edges == pytest.approx(range(11))
    assert steps.values == pytest.approx([100] * 4 + [0] * 2 + [50] * 4)
    finer = timeline_of(10.0, *times, end_s=10.0).rates(1)
    assert len(finer.values) == 150, "no more than can be seen"


@pytest.mark.parametrize("end_s", [0.001, 0.5, 1.0, 1.234, 59.99])
def test_rates_of_a_run_that_was_stopped_are_of_what_is_over(end_s: float) -> None:
    count = 1000
    times = ((n + 0.5) * end_s / count for n in range(count))
    line = timeline_of(60.0, *times, end_s=end_s)
    steps = line.rates(20)
    assert (steps.edges[0], steps.edges[-1]) == (0.0, end_s)
    widths_s = [high - low for low, high in itertools.pairwise(steps.edges)]
    assert min(widths_s) >= widths_s[0] / 2, "the last step is no sliver"
    operations = sum(
        value * width_s for value, width_s in zip(steps.values, widths_s, strict=True)
    )
    assert operations == pytest.approx(count)
    assert line.rate == count / end_s


def test_the_longest_pauses_are_kept_and_no_more() -> None:
    chance = random.Random(7)
    gaps_s = [chance.expovariate(1.0) for _ in range(5000)]
    times = list(itertools.accumulate(gaps_s))
    line = timeline_of(6000.0, *times, end_s=times[-1])
    found = [each.length_s for each in line.pauses]
    assert found == pytest.approx(sorted(gaps_s, reverse=True)[:16])
    where = gaps_s.index(max(gaps_s))
    assert line.pauses[0].begin_s == pytest.approx(times[where - 1])


def test_what_was_stopped_before_it_was_measured_is_nothing() -> None:
    line = timeline_of(10.0, end_s=-3.0)
    assert (line.lasted_s, line.rate, line.operations) == (0.0, 0.0, 0)
    assert line.pauses[0] == Pause(0.0, 0.0)


async def test_a_load_that_is_cancelled_leaves_its_timeline_complete() -> None:
    workload = _Scripted(*[1.0] * 5)
    line = Timeline(100.0)
    step = workload.step

    async def step_or_hang(task: int) -> None:
        if workload.now_s == 103.0:
            workload.now_s = 110.0
            is_hanging.set()
            await asyncio.Event().wait()
        await step(task)

    workload.step = step_or_hang  # type: ignore[method-assign]  # the script ends so
    is_hanging = asyncio.Event()
    load = asyncio.create_task(
        drive(
            workload,
            warm_up_s=0.0,
            measured_s=100.0,
            record=lambda span_s: None,
            timeline=line,
            clock=lambda: workload.now_s,
        )
    )
    await is_hanging.wait()
    load.cancel()
    with pytest.raises(asyncio.CancelledError):
        await load
    assert (line.operations, line.lasted_s) == (3, 10.0)
    assert line.pauses[0] == Pause(7.0, 3.0)


async def _one_more_put(client: aio.Client, prefix: str) -> None:
    await client.put(f"{prefix}/0/0", b"v" * 256)


async def _one_more_key(client: aio.Client, prefix: str) -> None:
    await client.put(f"{prefix}/0/more", b"v" * 256)


async def _another_value(client: aio.Client, prefix: str) -> None:
    await client.delete(f"{prefix}/0/0")
    for _ in range(2):
        await client.put(f"{prefix}/0/0", b"w")


async def _one_put_less(client: aio.Client, prefix: str) -> None:
    await client.delete(f"{prefix}/0/1")


async def _one_get_key_less(client: aio.Client, prefix: str) -> None:
    await client.delete(f"{prefix}/0")


async def _one_more_sum(client: aio.Client, prefix: str) -> None:
    await client.incr(f"{prefix}/sum")


async def _one_lock_held(client: aio.Client, prefix: str) -> None:
    await client.lock(f"{prefix}/0").acquire()


async def _one_more_job(client: aio.Client, prefix: str) -> None:
    await client.queue(prefix).enqueue(b"")


async def _one_job_done(client: aio.Client, prefix: str) -> None:
    await client.queue(prefix).enqueue(b"")
    (job,) = await client.queue(prefix).reserve()
    await job.complete()


Change = Callable[[aio.Client, str], Awaitable[None]]
_ONE_TOO_MANY: list[tuple[type[Workload], Change]] = [
    (Puts, _one_more_put),
    (Increments, _one_more_sum),
    (LockCycles, _one_lock_held),
    (JobCycles, _one_more_job),
    (JobCycles, _one_job_done),
]
_WRONG: list[tuple[type[Workload], Change]] = [
    (Puts, _one_more_key),
    (Puts, _another_value),
    (Puts, _one_put_less),
    (Gets, _one_get_key_less),
]


async def stepped(make: type[Workload], client: aio.Client, prefix: str) -> Workload:
    """Do a few steps by hand, and prove them."""
    workload = make([client], prefix, 2)
    await workload.prepare()
    for task in (0, 1, 0):
        await workload.step(task)
        workload.done[task] += 1
    await workload.verify(client)
    return workload


@asynccontextmanager
async def changed(
    node: Processes, make: type[Workload], change: Change, prefix: str
) -> AsyncIterator[tuple[aio.Client, Workload]]:
    """Do a few steps, and then something that is none of them."""
    async with aio.connect(node.endpoints, timeout_s=_START_S) as client:
        workload = await stepped(make, client, prefix)
        await change(client, prefix)
        yield client, workload


@pytest.mark.parametrize(("make", "change"), _ONE_TOO_MANY)
async def test_one_too_many_is_found_unless_a_write_was_not_answered(
    node: Processes, make: type[Workload], change: Change
) -> None:
    prefix = f"parts/{change.__name__}"
    async with changed(node, make, change, prefix) as (client, workload):
        with pytest.raises(WorkloadFailed, match=prefix):
            await workload.verify(client)
        workload.failed(0, OutcomeUnknown("no answer came"))
        await workload.verify(client)


@pytest.mark.parametrize(
    ("make", "change"),
    # A release that was refused leaves the lock held.
    [each for each in _ONE_TOO_MANY if each[0] is not LockCycles],
)
async def test_what_was_refused_excuses_nothing(
    node: Processes, make: type[Workload], change: Change
) -> None:
    prefix = f"parts/refused{change.__name__}"
    async with changed(node, make, change, prefix) as (client, workload):
        workload.failed(0, Unavailable("nobody leads"))
        with pytest.raises(WorkloadFailed, match=prefix):
            await workload.verify(client)


@pytest.mark.parametrize(("make", "change"), _WRONG)
async def test_what_no_failed_call_explains_is_found(
    node: Processes, make: type[Workload], change: Change
) -> None:
    prefix = f"parts/{change.__name__}"
    async with changed(node, make, change, prefix) as (client, workload):
        workload.failed(0, OutcomeUnknown("no answer came"))
        with pytest.raises(WorkloadFailed, match=prefix):
            await workload.verify(client)


async def test_tasks_are_dealt_out_to_all_clients(node: Processes) -> None:
    async with (
        aio.connect(node.endpoints) as first,
        aio.connect(node.endpoints) as second,
    ):
        workload = WORKLOADS["put"]([first, second], "parts/dealt", 5)
        assert workload.clients == [first, second, first, second, first]
