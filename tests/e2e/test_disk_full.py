"""A real disk that fills up under a node, and gets room again, while clients count.

Nothing is lost or doubled, and no node is started again. What members decide is tested
without any disk in tests/node/test_driver_faults.py, on every machine.

Source: RELIABILITY.md rule 51, section 5 (full disk).
"""

from __future__ import annotations

import asyncio

import pytest

import raftclient
from tests.e2e.conftest import MakeNodes
from tests.e2e.counting import Counts, check_counts, counting
from tests.e2e.disks import BALLAST_FLAGS, OnSmallDisks, needs_namespaces
from tests.e2e.tools import (
    eventually,
    eventually_async,
    leader_of,
    status_of,
    told_by,
    wait_until_agreed,
    wait_until_serving,
)

pytestmark = [pytest.mark.e2e, needs_namespaces]

FLAGS = (
    *BALLAST_FLAGS,
    *("--checkpoint-log-bytes", "65536", "--checkpoint-interval-ms", "1000"),
)


def small(make_nodes: MakeNodes, size: int = 3) -> OnSmallDisks:
    nodes = make_nodes(*FLAGS, size=size, kind=OnSmallDisks)
    assert isinstance(nodes, OnSmallDisks)
    nodes.start()
    wait_until_serving(nodes)
    return nodes


def is_full(nodes: OnSmallDisks, node_id: int) -> bool | None:
    status = status_of(nodes, node_id)
    return None if status is None else status.is_disk_full


async def fill_until_noticed(nodes: OnSmallDisks, node_id: int) -> None:
    """Fill a disk under load, until the node has run out of room."""
    ballast = nodes.disk(node_id) / "ballast"
    await eventually_async(ballast.exists, "the ballast is there")
    await asyncio.to_thread(nodes.fill, node_id)
    await eventually_async(
        lambda: "disk_full" in nodes.log(node_id), f"node {node_id} is out of room"
    )
    await eventually_async(lambda: not ballast.exists(), "the ballast is given free")


async def wait_until_roomy(nodes: OnSmallDisks, node_id: int) -> None:
    nodes.free(node_id)
    await asyncio.to_thread(
        eventually, lambda: is_full(nodes, node_id) is False, "there is room again"
    )
    assert (nodes.disk(node_id) / "ballast").exists()


async def one_round(nodes: OnSmallDisks, counts: Counts, *, is_leader: bool) -> None:
    """Fill one member's disk under load, go on without it, and give it room again."""
    leader = await asyncio.to_thread(leader_of, nodes)
    victim = leader if is_leader else leader % 3 + 1
    await fill_until_noticed(nodes, victim)
    await counts.go_on()
    now = await asyncio.to_thread(leader_of, nodes)
    assert now != victim, "a member with a full disk does not lead"
    status = await asyncio.to_thread(told_by, nodes, victim)
    assert status.is_disk_full
    assert status.trouble_reason == "DISK_FULL"
    await counts.go_on()
    after = await asyncio.to_thread(told_by, nodes, victim)
    # None but the empty ones with which leaders begin.
    began = 1 + after.term - status.term
    assert after.last_index <= status.last_index + began, "it takes no entries"
    await wait_until_roomy(nodes, victim)
    await asyncio.to_thread(wait_until_caught_up, nodes, victim)


@pytest.mark.parametrize(
    "run", [0, *(pytest.param(run, marks=pytest.mark.slow) for run in range(1, 10))]
)
async def test_a_full_leader_hands_over_and_a_full_follower_waits(
    make_nodes: MakeNodes, run: int
) -> None:
    del run  # each has disks of its own: what is written again needs no new room
    nodes = await asyncio.to_thread(small, make_nodes)
    async with counting(nodes) as counts:
        await counts.go_on()
        await one_round(nodes, counts, is_leader=True)
        await one_round(nodes, counts, is_leader=False)
    assert not counts.sentences or hand_over_failed(nodes), (
        "nobody is refused while others have room and take over"
    )
    await check_counts(nodes, counts)
    await asyncio.to_thread(agree, nodes)


def hand_over_failed(nodes: OnSmallDisks) -> bool:
    """Tell whether somebody had to try twice, as on a very busy machine."""
    return any(nodes.log(node_id).count("hand_over to=") > 1 for node_id in nodes.ids)


def wait_until_caught_up(nodes: OnSmallDisks, node_id: int) -> None:
    leader = told_by(nodes, leader_of(nodes))

    def look() -> bool:
        status = status_of(nodes, node_id)
        return status is not None and status.applied_index >= leader.commit_index

    eventually(look, f"node {node_id} has caught up")


def agree(nodes: OnSmallDisks) -> None:
    with raftclient.connect(nodes.endpoints, timeout_s=60) as client:
        client.put("last", b"")
    wait_until_agreed(nodes)


async def test_a_lone_node_refuses_writes_goes_on_reading_and_goes_on(
    make_nodes: MakeNodes,
) -> None:
    nodes = await asyncio.to_thread(small, make_nodes, 1)
    async with counting(nodes) as counts:
        await counts.go_on()
        await fill_until_noticed(nodes, 1)
        await refusals(counts, 20)
        (sentence,) = counts.sentences
        assert "disk" in sentence
        assert "full" in sentence
        stopped_at = await come_to_rest(counts)
        await asyncio.to_thread(read_all, nodes, counts)
        assert counts.total == stopped_at
        await wait_until_roomy(nodes, 1)
        await counts.go_on()
    await check_counts(nodes, counts)


async def refusals(counts: Counts, wanted: int) -> None:
    await eventually_async(lambda: counts.sentences.total() >= wanted, "refusals")


async def come_to_rest(counts: Counts) -> int:
    """Wait until nothing is counted any more: what was taken in is carried out."""
    while True:
        total, refused = counts.total, counts.sentences.total()
        await refusals(counts, refused + 20)
        if counts.total == total:
            return total


def read_all(nodes: OnSmallDisks, counts: Counts) -> None:
    with raftclient.connect(nodes.endpoints, timeout_s=60) as client:
        for name, count in counts.counts.items():
            found = client.get(f"counts/{name}")
            assert found is not None
            assert int(found.value) == count
