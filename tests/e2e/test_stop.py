"""SIGTERM and SIGINT: a node hands over, finishes what it has, and ends with code 0.

Source: RELIABILITY.md rule 55; DESIGN.md section 8.
"""

from __future__ import annotations

import asyncio
import signal

import pytest

from cluster.processes import Processes
from raftclient import aio
from tests.e2e.conftest import MakeNodes
from tests.e2e.tools import (
    eventually_async,
    leader_of,
    told_by,
    wait_until_serving,
)

pytestmark = pytest.mark.e2e

PATIENCE_S = 60.0


class Writer:
    """Counts without a pause, and remembers what was acknowledged."""

    def __init__(self, nodes: Processes) -> None:
        self._endpoints = nodes.endpoints
        self.count = 0
        self.is_over = False

    async def run(self) -> None:
        async with aio.connect(self._endpoints, timeout_s=PATIENCE_S) as client:
            while not self.is_over:
                counted = await client.incr("n")
                assert counted == self.count + 1
                self.count = counted

    async def go_on(self) -> None:
        wanted = self.count + 50
        await eventually_async(lambda: self.count >= wanted, "writes go on")


async def end_of(nodes: Processes, node_id: int) -> int:
    return await asyncio.to_thread(nodes.wait, node_id)


async def test_a_stopped_leader_hands_over_and_fails_no_write(
    make_nodes: MakeNodes,
) -> None:
    # Who leads when it is stopped led when it was looked for, on a busy machine too.
    nodes = make_nodes("--election-ms", "2000")
    nodes.start()
    await asyncio.to_thread(wait_until_serving, nodes)
    writer = Writer(nodes)
    async with asyncio.TaskGroup() as group:
        group.create_task(writer.run())
        for _ in nodes.ids:  # one after the other: a rolling restart of leaders
            await writer.go_on()
            leader = await asyncio.to_thread(leader_of, nodes)
            before = await asyncio.to_thread(told_by, nodes, leader)
            nodes.signal(leader, signal.SIGTERM)
            assert await end_of(nodes, leader) == 0
            log = nodes.log(leader)
            assert "hand_over to=" in log
            assert log.splitlines()[-1].endswith("stopped")
            now = await asyncio.to_thread(leader_of, nodes)
            after = await asyncio.to_thread(told_by, nodes, now)
            assert after.term > before.term, "another leads"
            await writer.go_on()
            nodes.start(leader)
            await asyncio.to_thread(wait_until_serving, nodes)
        writer.is_over = True
    async with aio.connect(nodes.endpoints, timeout_s=PATIENCE_S) as client:
        found = await client.get("n")
    assert found is not None
    assert int(found.value) == writer.count


@pytest.mark.parametrize(
    "signals",
    [
        [signal.SIGTERM, signal.SIGTERM],
        [signal.SIGINT],
        [signal.SIGINT, signal.SIGTERM, signal.SIGINT],
    ],
    ids=lambda signals: "-".join(each.name for each in signals),
)
def test_a_node_ends_cleanly_however_it_is_told(
    make_nodes: MakeNodes, signals: list[signal.Signals]
) -> None:
    nodes = make_nodes(size=1)
    nodes.start()
    wait_until_serving(nodes)
    for number in signals:
        nodes.signal(1, number)
    assert nodes.wait(1) == 0
    assert nodes.log(1).splitlines()[-1].endswith("stopped")


def test_a_node_that_waits_for_the_others_can_be_stopped(
    make_nodes: MakeNodes,
) -> None:
    nodes = make_nodes()
    nodes.start(1)
    while "waiting_for_members" not in nodes.log(1):
        assert nodes.running == [1]
    nodes.signal(1, signal.SIGTERM)
    assert nodes.wait(1) == 0
