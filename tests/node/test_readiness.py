"""When a member may be counted on: caught up once, not while a snapshot comes in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from raftd.consensus.messages import Append
from raftd.consensus.types import Role
from raftd.node.driver import Driver
from raftd.node.node import Node
from raftd.node.refusals import DIVERGED
from raftd.storage.log_store import LogStore
from tests.node.cluster import IMPATIENT, Cluster
from tests.node.snapshot_tools import CUTTING, StageTap, leave_behind, put


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(tmp_path, **CUTTING) as made:
        yield made


@pytest.fixture
async def impatient(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(tmp_path, **CUTTING, **IMPATIENT) as made:
        yield made


async def _ready(node: Node) -> None:
    async with asyncio.timeout(30):
        while not node.readiness.is_ready:
            await node.leader_changed()


async def _leader_known(node: Node) -> None:
    while not node.leader:
        await node.leader_changed()


async def test_all_members_of_a_new_cluster_become_ready(cluster: Cluster) -> None:
    for node_id in (1, 2, 3):
        await _ready(cluster.node(node_id))


async def test_a_member_without_a_majority_is_not_ready(impatient: Cluster) -> None:
    cluster = impatient
    await put(await cluster.leader(), b"k")
    await cluster.stop()
    await cluster.start(1)
    node = cluster.node(1)
    core = node.driver.replica.core
    while core.role is Role.FOLLOWER:
        await cluster.passed_time()
    assert not node.readiness.is_ready
    await cluster.start(2)
    await _ready(node)


async def test_a_restarted_follower_is_ready_when_it_has_what_it_missed(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = await cluster.follower()
    node_id = follower.node_id
    await cluster.applied_everywhere()
    await cluster.stop(node_id)
    leader = await cluster.leader()
    for number in range(5):
        await put(leader, b"k%d" % number)
    missed = leader.driver.replica.core.commit_index
    receive = Driver.receive
    is_held = True

    def held(driver: Driver, messages: tuple[object, ...]) -> None:
        if is_held and driver.replica.core.node_id == node_id:
            messages = tuple(m for m in messages if not isinstance(m, Append))
        receive(driver, messages)  # type: ignore[arg-type]  # fewer of the same

    monkeypatch.setattr(Driver, "receive", held)
    await cluster.start(node_id)
    again = cluster.node(node_id)
    await _leader_known(again)
    # The leader has told how far it is: that answer is here, what it speaks of not.
    reads = again.driver.replica.reads
    while not reads._confirmed:  # noqa: SLF001  # nothing else tells
        await cluster.passed_time()
    assert again.machine.applied_index < missed
    assert not again.readiness.is_ready
    is_held = False
    await _ready(again)
    assert again.machine.applied_index >= missed


async def test_a_member_that_takes_in_a_snapshot_is_not_ready(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    node_id = await leave_behind(cluster)
    tap = StageTap(node_id, monkeypatch)
    tap.hold(0)
    resets = asyncio.Event()
    is_resetting = asyncio.Event()
    reset = LogStore.reset

    async def held(log: LogStore, *args: object) -> None:
        is_resetting.set()
        await resets.wait()
        await reset(log, *args)  # type: ignore[arg-type]  # passed on as they are

    monkeypatch.setattr(LogStore, "reset", held)
    await cluster.start(node_id)
    again = cluster.node(node_id)
    await tap.is_held.wait()
    assert again.leader
    assert not again.readiness.is_ready
    tap.go_on()
    await is_resetting.wait()
    # All of it is there to be read, but nothing of it is on the disk; what follows it
    # in the log, a mark perhaps, can be neither stored nor applied.
    assert again.machine.applied_index >= again.driver.replica.core.first_index - 1 > 1
    assert not again.readiness.is_ready
    resets.set()
    await _ready(again)
    assert again.machine.applied_index >= again.driver.replica.core.first_index - 1 > 1


async def test_a_live_member_that_is_offered_a_snapshot_is_ready_after_it(
    cluster: Cluster,
) -> None:
    node = await cluster.follower()
    await _ready(node)
    node.readiness.fall_behind()
    assert not node.readiness.is_ready
    await _ready(node)
    node.readiness.begin_install()
    assert not node.readiness.is_ready
    node.readiness.end_install()
    assert node.readiness.is_ready


async def test_once_ready_it_stays_so_but_for_alarms_and_leaders(
    impatient: Cluster,
) -> None:
    cluster = impatient
    node = await cluster.follower()
    await _ready(node)
    for other in [each for each in cluster.apps if each != node.node_id]:
        await cluster.stop(other)
    while node.leader:
        await node.leader_changed()
    assert not node.readiness.is_ready
    await cluster.start(*(each for each in (1, 2, 3) if each != node.node_id))
    await _leader_known(node)
    assert node.readiness.is_ready, "what it caught up with once is still here"
    node.refuse_writes(DIVERGED)
    assert not node.readiness.is_ready
