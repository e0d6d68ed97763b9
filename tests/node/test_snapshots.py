"""Snapshots between whole nodes: sent, broken off, resumed, installed, compared."""

from __future__ import annotations

import asyncio
from pathlib import Path

from raftd.node.node import Node
from raftd.node.service import WriteCall
from raftd.statemachine.schema.kv import KeyPut, PutKey
from tests.node.cluster import Cluster

_CUTTING = {
    "checkpoint_log_bytes": 65_536,
    "checkpoint_interval_ms": 600_000,
    "log_keep_bytes": 65_536,
}


async def _put(node: Node, key: bytes, value: bytes = b"v" * 2000) -> int:
    answered = await node.write(WriteCall(command=PutKey(key, value)), 10)
    assert isinstance(answered.answer, KeyPut), answered
    return answered.revision


async def _cut_beyond(cluster: Cluster, index: int) -> None:
    """Write until the leader's log begins behind an index."""
    leader = await cluster.leader()
    count = 0
    while leader.driver.replica.core.first_index <= index + 1:
        await _put(leader, b"k%d" % (count % 300))
        count += 1


async def test_a_follower_that_was_away_for_long_gets_a_snapshot(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path, **_CUTTING) as cluster:
        follower = await cluster.follower()
        node_id = follower.node_id
        await _put(await cluster.leader(), b"early", b"1")
        await cluster.applied_everywhere()
        index = follower.machine.applied_index
        await cluster.stop(node_id)
        await _cut_beyond(cluster, index)
        await cluster.start(node_id)
        async with asyncio.timeout(20):
            await cluster.applied_everywhere()
        again = cluster.node(node_id)
        leader = await cluster.leader()
        assert again.machine.kv.count_all == leader.machine.kv.count_all
        assert again.driver.replica.core.first_index > index + 1
