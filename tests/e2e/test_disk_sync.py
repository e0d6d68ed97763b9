"""A disk whose syncs fail, hang, or are slow, under real nodes and real files.

The C library's sync calls are the node's own until the test orders otherwise. What
members decide is tested without any disk in tests/node/test_driver_faults.py, on every
machine.

Source: RELIABILITY.md rules 14 and 49, section 5 (fsync EIO, hung disk, slow disk).
"""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.e2e.conftest import MakeNodes
from tests.e2e.counting import Counts, check_counts, counting
from tests.e2e.disks import OnFaultyDisks, needs_compiler
from tests.e2e.tools import (
    eventually_async,
    leader_of,
    status_of,
    wait_until_agreed,
    wait_until_serving,
)

pytestmark = [pytest.mark.e2e, needs_compiler]

FLAGS = ("--checkpoint-log-bytes", "65536", "--checkpoint-interval-ms", "1000")


@pytest.fixture
def nodes(make_nodes: MakeNodes) -> OnFaultyDisks:
    """Three nodes that serve, on disks that take orders."""
    made = make_nodes(*FLAGS, kind=OnFaultyDisks)
    assert isinstance(made, OnFaultyDisks)
    made.start()
    wait_until_serving(made)
    return made


async def other_leader(nodes: OnFaultyDisks, old: int) -> None:
    """Wait until the others follow one of them."""

    def look() -> bool:
        found = [status_of(nodes, n) for n in nodes.running if n != old]
        leaders = {status.leader if status else 0 for status in found}
        return len(leaders) == 1 and leaders.isdisjoint({0, old})

    await eventually_async(look, f"another than {old} leads")


async def fail_once(nodes: OnFaultyDisks, counts: Counts) -> None:
    """Fail a sync of the leader under load, and start it again."""
    leader = await asyncio.to_thread(leader_of, nodes)
    began = len(nodes.log(leader))
    nodes.order(leader, "fail")
    assert await asyncio.to_thread(nodes.wait, leader) == 1
    told = [
        line
        for line in nodes.log(leader)[began:].splitlines()
        if line.startswith("error: ")
    ]
    log_db = nodes.data_dir(leader) / "log.db"
    assert len(told) == 1
    # What syncs first, an append or the mark of a checkpoint, is chance.
    what = r"the log cannot be written|the checkpoint at \d+ cannot be stored"
    assert re.match(
        rf"error: ({what}): Cannot write {re.escape(str(log_db))}", told[0]
    ), told
    await counts.go_on()
    nodes.order(leader, "")
    nodes.start(leader)
    await asyncio.to_thread(wait_until_serving, nodes)
    await counts.go_on()


@pytest.mark.parametrize(
    "times",
    [
        1,
        pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
    ],
)
async def test_a_failed_sync_ends_the_leader_at_once_with_one_sentence(
    nodes: OnFaultyDisks, times: int
) -> None:
    async with counting(nodes) as counts:
        await counts.go_on()
        for _ in range(times):
            await fail_once(nodes, counts)
    await check_counts(nodes, counts)
    await asyncio.to_thread(wait_until_agreed, nodes)


async def test_a_leader_whose_disk_hangs_is_followed_by_another(
    nodes: OnFaultyDisks,
) -> None:
    async with counting(nodes) as counts:
        await counts.go_on()
        hung = await asyncio.to_thread(leader_of, nodes)
        nodes.order(hung, "hang")
        await other_leader(nodes, hung)
        await counts.go_on()
        assert "unfit_to_lead reason=a log write takes" in nodes.log(hung)
        nodes.order(hung, "")
        await counts.go_on()
        await eventually_async(
            lambda: "is_fit=True" in nodes.log(hung), f"node {hung} is fit again"
        )
    await check_counts(nodes, counts)
    await asyncio.to_thread(wait_until_agreed, nodes)


async def test_a_leader_whose_disk_is_slow_hands_over(nodes: OnFaultyDisks) -> None:
    async with counting(nodes) as counts:
        await counts.go_on()
        slow = await asyncio.to_thread(leader_of, nodes)
        nodes.order(slow, "slow 200")
        await other_leader(nodes, slow)
        assert "reason=the disk is far slower than a follower's" in nodes.log(slow)
        assert "step_down" not in nodes.log(slow)
        nodes.order(slow, "")
        await counts.go_on()
    await check_counts(nodes, counts)
    await asyncio.to_thread(wait_until_agreed, nodes)
