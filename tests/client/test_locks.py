"""Locks, as the client handles them."""

from __future__ import annotations

import asyncio

import pytest

from raftclient import InvalidRequest, LockHeld, LockMode, aio
from raftpb.v1 import locks_pb2
from tests.client.fake_server import FakeCluster
from tests.client.fake_state import Act


async def test_a_block_takes_the_lock_and_gives_it_back(
    cluster: FakeCluster, client: aio.Client
) -> None:
    async with client.lock("x") as grant:
        assert cluster.state.lock_holders == {"x": grant.token}
        await client.put("a", "1", fences=[grant.fence()])
    assert not cluster.state.lock_holders
    (session,) = cluster.state.sessions
    (acquired,) = cluster.state.of_kind("acquire_lock")
    assert acquired.lease_id == session, "claims name their lease"
    assert not acquired.HasField("wait_ms"), "for ever"


async def test_each_lock_object_has_a_claimant_of_its_own(client: aio.Client) -> None:
    first, second = client.lock("x"), client.lock("x")
    assert first.claimant != second.claimant
    assert client.lock("x", claimant="me").claimant == "me"


async def test_a_lock_object_is_for_one_task_at_a_time(client: aio.Client) -> None:
    lock = client.lock("x")
    await lock.acquire()
    with pytest.raises(InvalidRequest, match="one for each task"):
        await lock.acquire()
    await lock.release()
    await lock.acquire()


async def test_a_lock_held_by_another_is_said_so(
    cluster: FakeCluster, client: aio.Client
) -> None:
    cluster.state.lock_holders["x"] = 1
    with pytest.raises(LockHeld):
        await client.lock("x", wait_s=0).acquire()


async def test_waiters_come_in_one_after_the_other(client: aio.Client) -> None:
    inside = 0
    most = 0

    async def work() -> int:
        nonlocal inside, most
        async with client.lock("x") as grant:
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1
            return grant.token

    tokens = await asyncio.gather(*(work() for _ in range(100)))
    assert most == 1
    assert len(set(tokens)) == 100


async def test_a_cancelled_wait_leaves_the_line(
    cluster: FakeCluster, client: aio.Client
) -> None:
    cluster.state.lock_holders["x"] = 1
    lock = client.lock("x")
    waiting = asyncio.create_task(lock.acquire())
    await cluster.until(lambda: cluster.state.lock_line)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await cluster.until(lambda: cluster.state.of_kind("cancel_acquire"))
    (cancel,) = cluster.state.of_kind("cancel_acquire")
    assert cancel.claimant == lock.claimant


async def test_a_grant_that_nobody_waits_for_any_more_is_given_back(
    cluster: FakeCluster, client: aio.Client
) -> None:
    await client.session()
    cluster.state.behave = lambda request: (
        Act.HOLD if request.HasField("acquire_lock") else Act.ANSWER
    )
    waiting = asyncio.create_task(client.lock("x").acquire())
    await cluster.until(lambda: cluster.held)
    waiting.cancel()
    await cluster.until(lambda: cluster.state.of_kind("cancel_acquire"))
    cluster.release_held()
    await cluster.until(lambda: cluster.state.of_kind("release_lock"))
    assert not cluster.state.lock_holders


async def test_a_long_wait_does_not_hold_up_other_writes(
    cluster: FakeCluster, client: aio.Client
) -> None:
    cluster.state.lock_holders["x"] = 1
    waiting = asyncio.create_task(client.lock("x").acquire())
    await cluster.until(lambda: cluster.state.lock_line)
    for _ in range(5):
        await asyncio.gather(*(client.put("a", "1") for _ in range(1000)))
    assert len(cluster.state.sessions) == 2, "the others went on in a second session"
    with cluster.state.changed:
        cluster.state.lock_line[0][1](cluster.state.next_revision())
    grant = await waiting
    assert grant.token == cluster.state.lock_holders["x"]


async def test_a_lock_says_how_it_wants_to_be_held(
    cluster: FakeCluster, client: aio.Client
) -> None:
    await client.lock("a", mode=LockMode.SHARED, delay_s=1.5, wait_s=0.0001).acquire()
    await client.lock("b", limit=3, lease=77, claimant="me").acquire()
    shared, counted = cluster.state.of_kind("acquire_lock")
    assert shared.mode == locks_pb2.LOCK_MODE_SHARED
    assert (shared.delay_ms, shared.wait_ms) == (1500, 1), "rounded up, never to a try"
    assert counted.mode == locks_pb2.LOCK_MODE_SEMAPHORE
    assert (counted.limit, counted.lease_id, counted.claimant) == (3, 77, "me")


async def test_a_lock_taken_elsewhere_is_released_by_its_token(
    cluster: FakeCluster, client: aio.Client
) -> None:
    cluster.state.lock_holders["x"] = 9
    await client.release_lock("x", 9)
    assert not cluster.state.lock_holders
