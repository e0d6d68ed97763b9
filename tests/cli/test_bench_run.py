"""The benchmark while its cluster changes leaders or dies, in one process with it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from cluster.processes import Processes
from raftclient import OutcomeUnknown, PreconditionFailed, aio
from raftctl import bench_run
from raftctl.bench_run import Plan, Row, Said, run_plan, sweep
from raftctl.exit_codes import ExitCode, Failure

_START_S = 60.0


def plan_of(*workloads: str, measured_s: float) -> Plan:
    return Plan(workloads, "bench/run", 4, 1, 64, 0.0, measured_s)


async def test_it_goes_on_over_a_change_of_the_leader(tmp_path: Path) -> None:
    with Processes(tmp_path) as nodes:
        async with aio.connect(nodes.endpoints, timeout_s=_START_S) as client:
            await client.put("any", "1")  # by then there is a leader
            term = (await client.status()).raft_term
            changes: list[asyncio.Task[None]] = []

            async def change() -> None:
                # On a slow machine one comes too late, or its answer does.
                with contextlib.suppress(PreconditionFailed, OutcomeUnknown):
                    await client.cluster.transfer()

            rows: list[Row] = []
            await run_plan(
                client,
                plan_of("put", "incr", "lock", "job", measured_s=3.0),
                lambda: aio.connect(nodes.endpoints, timeout_s=_START_S),
                Said(
                    lambda name: changes.append(asyncio.create_task(change())),
                    lambda text: None,
                ),
                rows,
            )
            await asyncio.gather(*changes)
            assert (await client.status()).raft_term > term, "it changed"
            keys = [key.key async for key in client.range(prefix="")]
    assert [row.name for row in rows] == ["put", "incr", "lock", "job"]
    loads = [row.load for row in rows if row.load is not None]
    assert len(loads) == len(rows), "all are proved"
    for row, load in zip(rows, loads, strict=True):
        line = row.timeline
        assert 0 < load.operations == line.operations
        assert load.pause_s > 0.0
        assert load.pause_s == pytest.approx(line.pauses[0].length_s)
        assert line.errors == load.errors
    assert keys == [b"any"]


async def test_a_cluster_that_dies_is_said_and_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    rows: list[Row] = []
    with Processes(tmp_path, size=1) as nodes:
        async with aio.connect(nodes.endpoints, timeout_s=_START_S) as client:
            await client.put("any", "1")

            def die(name: str) -> None:
                nodes.kill(1)
                monkeypatch.setattr(bench_run, "_CALL_S", 0.2)

            with pytest.raises(Failure, match="no put was acknowledged") as failed:
                await run_plan(
                    client,
                    plan_of("put", measured_s=0.2),
                    lambda: aio.connect(nodes.endpoints, timeout_s=0.2),
                    Said(die, notes.append),
                    rows,
                )
    (row,) = rows
    assert (row.load, row.timeline.operations) == (None, 0)
    assert row.timeline.pauses[0].length_s == row.timeline.lasted_s == 0.2
    assert failed.value.exit_code == ExitCode.UNAVAILABLE
    assert notes[0] == "stopped; removing what was written under bench/run/"
    assert "raftctl del --prefix bench/run/" in notes[1]


async def test_a_sweep_removes_all_of_a_prefix_and_nothing_else(
    node: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_run, "_DELETE_KEYS_MAX", 2)
    async with aio.connect(node.endpoints, timeout_s=_START_S) as client:
        for number in range(5):
            await client.put(f"sweep/a/{number}", "1")
        await client.put("sweep/b", "1")
        await client.queue("sweep/a").enqueue("1")
        await client.queue("sweep/b").enqueue("1")
        await client.lock("sweep/a").acquire()
        kept = await client.lock("sweep/b").acquire()

        await sweep(client, "sweep/a")

        keys = [key.key async for key in client.range(prefix="sweep/")]
        queues = [queue.name async for queue in client.queues("sweep/")]
        locks = [lock.name async for lock in client.locks("sweep/")]
        assert keys == [b"sweep/b"]
        assert (queues, locks) == (["sweep/b"], ["sweep/b"])
        await kept.release()
