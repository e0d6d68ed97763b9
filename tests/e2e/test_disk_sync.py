"""A disk whose syncs fail, hang, or are slow, under real nodes and real files.

The C library's sync calls are the node's own until the test orders otherwise. What
members decide is tested without any disk in tests/node/test_driver_faults.py, on every
machine.

Source: RELIABILITY.md rules 14 and 49, section 5 (fsync EIO, hung disk, slow disk).
"""

from __future__ import annotations

import asyncio
import re
from functools import partial

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
_TURNS = 5


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
    # What syncs first, an append, a fold or the mark of a checkpoint, is chance.
    what = r"the log cannot be written|the checkpoint at \d+ cannot be stored"
    assert re.match(
        rf"error: ({what}): Cannot (write|sync) {re.escape(str(log_db))}", told[0]
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


async def deposed(
    nodes: OnFaultyDisks, counts: Counts, order: str, reason: str
) -> tuple[int, str]:
    """Have a leader's disk do something until another leads, for a reason.

    A leader may be followed by another because it stood still as a process before its
    disk was noticed: on a busy machine, or while its loop itself waited for a small
    append. It says so when it goes on, and lets its log's thread append for a while;
    then it is the next one's turn.

    Returns:
        Whose disk does so still, and what it logged since it was told to.
    """
    for _ in range(_TURNS):
        await counts.go_on()
        leader = await asyncio.to_thread(leader_of, nodes)
        began = len(nodes.log(leader))
        nodes.order(leader, order)
        await other_leader(nodes, leader)
        await counts.go_on()
        log = nodes.log(leader)[began:]
        if reason in log:
            return leader, log
        nodes.order(leader, "")
        await eventually_async(
            partial(_has_stood_still, nodes, leader, began), f"node {leader} goes on"
        )
    pytest.fail(f"no leader of {_TURNS} logged: {reason}")


def _has_stood_still(nodes: OnFaultyDisks, node: int, began: int) -> bool:
    return "stood still" in nodes.log(node)[began:]


async def test_a_leader_whose_disk_hangs_is_followed_by_another(
    nodes: OnFaultyDisks,
) -> None:
    async with counting(nodes) as counts:
        hung, log = await deposed(
            nodes, counts, "hang", "unfit_to_lead reason=a log write takes"
        )
        nodes.order(hung, "")
        await counts.go_on()
        await eventually_async(
            lambda: "is_fit=True" in nodes.log(hung)[len(log) :],
            f"node {hung} is fit again",
        )
    await check_counts(nodes, counts)
    await asyncio.to_thread(wait_until_agreed, nodes)


async def test_a_leader_whose_disk_is_slow_hands_over(nodes: OnFaultyDisks) -> None:
    async with counting(nodes) as counts:
        slow, log = await deposed(
            nodes, counts, "slow 200", "reason=the disk is far slower than a follower's"
        )
        assert "step_down" not in log
        nodes.order(slow, "")
        await counts.go_on()
    await check_counts(nodes, counts)
    await asyncio.to_thread(wait_until_agreed, nodes)
