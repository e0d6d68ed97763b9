"""The benchmark's parts: what is counted, and that each proof finds one too many."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest

from cluster.processes import Processes
from raftclient import InvalidRequest, OutcomeUnknown, RaftError, Unavailable, aio
from raftctl import bench_loop
from raftctl.bench_loop import Latencies, drive
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
    load = await drive(
        workload,
        warm_up_s=warm_up_s,
        measured_s=measured_s,
        record=found.append,
        clock=lambda: workload.now_s,
    )
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


@pytest.mark.parametrize(("make", "change"), _ONE_TOO_MANY)
async def test_one_too_many_is_found_unless_a_write_was_not_answered(
    node: Processes, make: type[Workload], change: Change
) -> None:
    prefix = f"parts/{change.__name__}"
    async with aio.connect(node.endpoints, timeout_s=_START_S) as client:
        workload = await stepped(make, client, prefix)
        await change(client, prefix)
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
    async with aio.connect(node.endpoints, timeout_s=_START_S) as client:
        workload = await stepped(make, client, prefix)
        await change(client, prefix)
        workload.failed(0, Unavailable("nobody leads"))
        with pytest.raises(WorkloadFailed, match=prefix):
            await workload.verify(client)


@pytest.mark.parametrize(("make", "change"), _WRONG)
async def test_what_no_failed_call_explains_is_found(
    node: Processes, make: type[Workload], change: Change
) -> None:
    prefix = f"parts/{change.__name__}"
    async with aio.connect(node.endpoints, timeout_s=_START_S) as client:
        workload = await stepped(make, client, prefix)
        await change(client, prefix)
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
