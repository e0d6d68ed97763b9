"""Claims on time: kept while the caller blocks, lost at a local deadline, and told."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import pytest

from raftclient import LeaseLost, aio
from raftclient._clock import boottime_s, margin_s
from raftclient._guard import BodyGuard
from raftclient._held import Claim, Held
from raftclient.errors import Unavailable
from raftclient.locks import Grant
from tests.client.fake_server import FakeCluster

TTL_S = 1.0
KEPT_S = 20.0
"""Of what must not be lost: long beside any moment in which this process stands still.
"""
BLOCKED_S = 2.5
"""The same, of what a test outlives."""


async def test_a_session_is_kept_while_its_loop_is_blocked(
    cluster: FakeCluster,
) -> None:
    async with aio.connect(cluster.endpoints, ttl_s=BLOCKED_S) as client:
        session = await client.session()
        begun_s = boottime_s()
        cluster.state.until(lambda: boottime_s() - begun_s > 1.2 * BLOCKED_S)
        cluster.state.until(lambda: len(cluster.state.renewals) >= 5)
        session.check()
        await client.put("a", "1")
    assert len(set(cluster.state.renewals)) == 1


async def test_the_holder_is_told_before_the_ttl_ends_though_its_loop_is_blocked(
    cluster: FakeCluster,
) -> None:
    told = threading.Event()
    cluster.state.renews = False
    async with aio.connect(cluster.endpoints, ttl_s=TTL_S) as client:
        session = await client.session()
        granted_s = boottime_s()
        session.on_lost(told.set)
        assert told.wait(60), "the keeper calls, not the loop"
        assert session.held.deadline_s <= granted_s + TTL_S - margin_s(TTL_S)
        assert session.is_lost
        with pytest.raises(LeaseLost):
            session.check()
        with pytest.raises(LeaseLost):
            session.fence()


@pytest.mark.usefixtures("_often")
async def test_losing_a_lock_cancels_the_body_and_raises_lease_lost(
    cluster: FakeCluster,
) -> None:
    cancelled = False

    async def hold(client: aio.Client) -> None:
        nonlocal cancelled
        async with client.lock("x"):
            cluster.state.expire_all()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled = True
                raise

    async with aio.connect(cluster.endpoints, ttl_s=KEPT_S) as client:
        with pytest.raises(LeaseLost):
            await hold(client)
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling(), "the cancellation ended with the block"
    assert cancelled


async def test_a_body_that_ends_after_the_loss_still_hears_of_it(
    cluster: FakeCluster,
) -> None:
    told = threading.Event()

    async def hold(client: aio.Client) -> None:
        async with client.lock("x", on_lost=told.set) as grant:
            cluster.state.renews = False
            assert told.wait(60)
            with pytest.raises(LeaseLost):
                grant.fence()

    async with aio.connect(cluster.endpoints, ttl_s=TTL_S) as client:
        with pytest.raises(LeaseLost):
            await hold(client)


@pytest.mark.usefixtures("_often")
async def test_the_bodys_own_error_wins_over_the_loss(cluster: FakeCluster) -> None:
    told = threading.Event()

    async def hold(client: aio.Client) -> None:
        async with client.lock("x", on_lost=told.set):
            cluster.state.expire_all()
            assert told.wait(60)
            raise KeyError

    async with aio.connect(cluster.endpoints, ttl_s=KEPT_S) as client:
        with pytest.raises(KeyError):
            await hold(client)


@pytest.mark.usefixtures("_often")
async def test_a_lock_waited_for_ends_with_the_session(cluster: FakeCluster) -> None:
    cluster.state.lock_holders["x"] = 1
    async with aio.connect(cluster.endpoints, ttl_s=KEPT_S) as client:
        waiting = asyncio.create_task(client.lock("x").acquire())
        await cluster.until(lambda: cluster.state.lock_line)
        cluster.state.expire_all()
        with pytest.raises(LeaseLost):
            await waiting


async def test_all_calls_that_are_part_of_a_lease_end_with_it_and_no_others(
    cluster: FakeCluster,
) -> None:
    cluster.state.lock_holders.update(a=1, b=1, c=1)

    async def lose_a_lease(
        client: aio.Client, waiting: list[asyncio.Task[Grant]]
    ) -> None:
        line = cluster.state.lock_line
        before = len(line)
        async with client.lease(TTL_S) as lease:
            for name in "ab":
                acquire = client.lock(name, lease=lease).acquire()
                waiting.append(asyncio.create_task(acquire))
            await cluster.until(lambda: len(line) == before + 2)
            cluster.state.renews = False
            await asyncio.Event().wait()

    async with aio.connect(cluster.endpoints) as client:
        other = asyncio.create_task(client.lock("c").acquire())
        await cluster.until(lambda: cluster.state.lock_line)
        for _ in range(2):  # the second lease is another one
            waiting: list[asyncio.Task[Grant]] = []
            with pytest.raises(LeaseLost):
                await lose_a_lease(client, waiting)
            cluster.state.renews = True
            for task in waiting:
                with pytest.raises(LeaseLost) as raised:
                    await task
                assert raised.value.applied == "unknown"
        assert not other.done()
        other.cancel()


async def test_a_claim_that_was_given_back_leaves_nothing_to_collect() -> None:
    """Not even cycles: a collection in the midst of many calls stops them all."""
    parent = Held("the session", 1, 60_000, boottime_s())
    claim = Claim("the lock", parent)
    guard = BodyGuard(claim, asyncio.get_running_loop())
    assert guard.leave(None) is None
    claim.give_back()
    left_claim, left_guard = weakref.ref(claim), weakref.ref(guard)
    gc.disable()
    try:
        del claim, guard
        assert (left_claim(), left_guard()) == (None, None)
    finally:
        gc.enable()


@pytest.mark.usefixtures("_often")
async def test_renewals_go_to_the_next_endpoint_when_one_is_down(
    three: FakeCluster,
) -> None:
    async with aio.connect(three.endpoints, ttl_s=KEPT_S) as client:
        session = await client.session()
        three.leader = 2
        three.nodes[1].stop()
        count = len(three.state.renewals)
        await three.until(lambda: len(three.state.renewals) > count + 3)
        session.check()


@pytest.mark.usefixtures("_often")
async def test_a_session_that_the_cluster_ended_is_lost_at_the_next_renewal(
    cluster: FakeCluster,
) -> None:
    told = threading.Event()
    async with aio.connect(cluster.endpoints, ttl_s=KEPT_S) as client:
        session = await client.session()
        session.on_lost(told.set)
        cluster.state.expire_all()
        assert told.wait(60)
        assert cluster.state.renewals
        again = await client.session()
        assert again.lease_id != session.lease_id


@pytest.mark.usefixtures("_often")
async def test_a_lease_is_granted_renewed_and_revoked(cluster: FakeCluster) -> None:
    async with aio.connect(cluster.endpoints) as client:
        async with client.lease(KEPT_S) as lease:
            await cluster.until(
                lambda: cluster.state.renewals.count(lease.lease_id) > 2
            )
            await client.put("a", "1", lease=lease)
        (put,) = cluster.state.of_kind("put_key")
        assert put.lease_id == lease.lease_id
        (revoked,) = cluster.state.of_kind("revoke_lease")
        assert revoked.lease_id == lease.lease_id
        with pytest.raises(LeaseLost):
            await client.put("a", "1", lease=lease)


async def test_a_lease_that_is_not_renewed_is_lost(cluster: FakeCluster) -> None:
    async def hold(client: aio.Client) -> None:
        async with client.lease(TTL_S) as lease:
            assert lease.remaining_s <= TTL_S - margin_s(TTL_S)
            await asyncio.Event().wait()

    async with aio.connect(cluster.endpoints) as client:
        cluster.state.renews = False
        with pytest.raises(LeaseLost):
            await hold(client)
        assert not cluster.state.of_kind("revoke_lease")


def test_what_was_lost_stays_lost_whatever_answer_comes_late() -> None:
    held = Held("the lease", 7, 1000, boottime_s() - 2)
    assert held.is_lost()
    held.renew(boottime_s(), 60_000)
    assert held.is_lost()
    assert held.remaining_s == 0.0


def test_the_deadline_counts_from_the_sending_less_a_margin() -> None:
    held = Held("the lease", 7, 10_000, 100.0)
    assert held.deadline_s == 109.0
    held.renew(105.0, 10_000)
    assert held.deadline_s == 114.0
    held.renew(101.0, 10_000)
    assert held.deadline_s == 114.0, "an older answer takes nothing away"
    assert margin_s(0.5) == 0.1


def test_a_claim_is_lost_with_what_it_hangs_on_and_tells_once() -> None:
    parent = Held("the session", 1, 60_000, boottime_s())
    claim = Claim("the lock", parent)
    told: list[str] = []
    claim.on_lost(lambda: told.append("claim"))
    parent.lose(LeaseLost("gone"))
    parent.lose(LeaseLost("gone again"))
    assert told == ["claim"]
    assert claim.is_lost()
    claim.on_lost(lambda: told.append("late"))
    assert told == ["claim", "late"], "who comes late is told at once"
    assert claim.error() is not claim.error(), "each raise has its own traceback"


def test_a_claim_given_back_tells_nobody() -> None:
    parent = Held("the session", 1, 60_000, boottime_s())
    claim = Claim("the lock", parent)
    told: list[str] = []
    claim.on_lost(lambda: told.append("claim"))
    claim.give_back()
    parent.lose(Unavailable("gone"))
    assert not told
    with pytest.raises(LeaseLost):
        claim.check()
