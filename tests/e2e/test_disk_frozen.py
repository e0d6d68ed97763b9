"""A file system that is frozen under a leader: nothing that touches it comes back.

Unlike a sync that hangs, this holds up whatever looks at the files, in a state that no
signal ends. It is minutes of work in all, and needs root: the same decisions are tested
without either in test_disk_sync.py and tests/node/test_driver_faults.py.

Source: RELIABILITY.md section 5 (hung disk).
"""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from tests.e2e.conftest import MakeNodes
from tests.e2e.counting import check_counts, counting
from tests.e2e.disks import OnFreezingDisks, needs_loop_devices
from tests.e2e.tools import (
    eventually_async,
    leader_of,
    status_of,
    wait_until_agreed,
    wait_until_serving,
)

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    needs_loop_devices,
]

ROUNDS = 3


async def test_frozen_leaders_are_followed_by_others_and_come_back(
    make_nodes: MakeNodes,
) -> None:
    nodes = make_nodes(
        *("--ballast-bytes", str(1 << 20)),
        *("--checkpoint-log-bytes", "65536", "--checkpoint-interval-ms", "1000"),
        kind=OnFreezingDisks,
    )
    assert isinstance(nodes, OnFreezingDisks)
    nodes.start()
    await asyncio.to_thread(wait_until_serving, nodes)
    async with counting(nodes) as counts:
        for _ in range(ROUNDS):
            await counts.go_on()
            frozen = await asyncio.to_thread(leader_of, nodes)
            await asyncio.to_thread(nodes.freeze, frozen)
            try:
                await eventually_async(
                    partial(follows_another, nodes, frozen), f"{frozen} leads no more"
                )
                await counts.go_on()
            finally:
                await asyncio.to_thread(nodes.thaw, frozen)
            await eventually_async(
                partial(is_caught_up, nodes, frozen),
                f"node {frozen} has caught up",
            )
    await check_counts(nodes, counts)
    await asyncio.to_thread(wait_until_agreed, nodes)


def follows_another(nodes: OnFreezingDisks, node_id: int) -> bool:
    """Ask it: it answers although its disk does not."""
    status = status_of(nodes, node_id)
    return status is not None and status.leader not in {0, node_id}


def is_caught_up(nodes: OnFreezingDisks, node_id: int) -> bool:
    found = {n: status_of(nodes, n) for n in nodes.ids}
    mine = found.pop(node_id)
    others = [status.commit_index for status in found.values() if status is not None]
    # They count on meanwhile: what is a moment old will do.
    return mine is not None and mine.applied_index + 1000 > max(others, default=0)
