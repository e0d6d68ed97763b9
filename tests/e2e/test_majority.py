"""Two of three nodes down: writes wait and say truly how they end; stale reads work.

A write that no leader took ends as not applied (exit code 6), one that a leader took
and could not replicate as outcome unknown (7). When one node returns everything goes
on by itself, in the same client.

Source: SEMANTICS.md section 0; ERRORS.md, rows NO_LEADER and SESSION_UNKNOWN.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import raftclient
from cluster.processes import Processes
from raftclient import aio
from tests.e2e.tools import eventually_async, leader_of, status_of, wait_until_serving

pytestmark = pytest.mark.e2e

SHORT_S = 2.0
PATIENCE_S = 60.0


@pytest.fixture
async def client(nodes: Processes) -> AsyncIterator[aio.Client]:
    """A client with an open session; all nodes know that n is 1."""
    # The ttl outlives the outage on the client's own clock, too.
    async with aio.connect(nodes.endpoints, ttl_s=120, timeout_s=PATIENCE_S) as client:
        revision = (await client.put("n", "1")).revision
        for node_id in nodes.ids:  # a follower hears of a commit a little later
            async with aio.connect(nodes.endpoint(node_id)) as near:
                found = await near.get("n", stale=True, min_revision=revision)
                assert found is not None
        yield client


async def followers_of(nodes: Processes) -> list[int]:
    leader = await asyncio.to_thread(leader_of, nodes)
    return [node_id for node_id in nodes.ids if node_id != leader]


async def leave_one_follower(nodes: Processes, client: aio.Client) -> int:
    """Kill the leader and a follower; wait until the client, too, has noticed."""
    survivor, _ = await followers_of(nodes)
    for node_id in set(nodes.ids) - {survivor}:
        nodes.kill(node_id)
    await eventually_async(
        lambda: (status := status_of(nodes, survivor)) and status.leader == 0,
        "the last node gives its leader up",
    )
    with pytest.raises(raftclient.Unavailable):
        await client.get("n", timeout_s=0.2)
    return survivor


async def test_a_write_that_no_leader_took_ends_as_not_applied(
    nodes: Processes, client: aio.Client
) -> None:
    await leave_one_follower(nodes, client)
    with pytest.raises(raftclient.Unavailable) as caught:
        await client.incr("n", timeout_s=SHORT_S)
    assert (caught.value.applied, caught.value.exit_code) == ("no", 6)
    nodes.start(*sorted(set(nodes.ids) - set(nodes.running)))
    assert await client.incr("n") == 2, "what was not applied never is"


async def ask_a_leader_left_alone(
    nodes: Processes, client: aio.Client
) -> tuple[raftclient.RaftError, list[int]]:
    """Kill the followers, and write; returns how that ended, and who was killed."""
    lost = await followers_of(nodes)
    for node_id in lost:
        nodes.kill(node_id)
    with pytest.raises((raftclient.OutcomeUnknown, raftclient.Unavailable)) as caught:
        await client.incr("n", timeout_s=SHORT_S)
    return caught.value, lost


async def test_a_write_that_a_leader_took_ends_as_unknown(
    nodes: Processes, client: aio.Client
) -> None:
    caught, lost = await ask_a_leader_left_alone(nodes, client)
    while caught.applied == "no":
        # On a busy machine the leader may have given up before it was asked.
        nodes.start(*lost)
        await asyncio.to_thread(wait_until_serving, nodes)
        caught, lost = await ask_a_leader_left_alone(nodes, client)
    assert (caught.applied, caught.exit_code) == ("unknown", 7)
    nodes.start(lost[0])
    # The entry is in the old leader's log: it may have been committed meanwhile.
    assert await client.incr("n") in {2, 3}


async def test_stale_reads_work_and_tell_their_age(
    nodes: Processes, client: aio.Client
) -> None:
    survivor = await leave_one_follower(nodes, client)
    first = await client.get("n", stale=True)
    assert first is not None
    assert first.value == b"1"
    assert first.age_ms > 0, "a stale read says how old it may be"

    async with aio.connect(nodes.endpoint(survivor)) as other:
        with pytest.raises(raftclient.Unavailable) as caught:
            await other.get("n", timeout_s=SHORT_S)
        assert caught.value.exit_code == 6
        # Each vain election is over in two seconds; the age knows nothing of them.
        age_ms = 0
        while age_ms < 3000:
            keys = other.range(prefix="n", stale=True)
            assert [kv.value async for kv in keys] == [b"1"]
            assert keys.age_ms >= age_ms, "without a leader the age only grows"
            age_ms = keys.age_ms
            await asyncio.sleep(0.1)


async def test_all_goes_on_by_itself_when_a_node_returns(
    nodes: Processes, client: aio.Client
) -> None:
    grant = await client.lock("held").acquire()
    feed = client.watch(key="n")
    survivor = await leave_one_follower(nodes, client)
    async with asyncio.TaskGroup() as group:
        counts = [group.create_task(client.incr("n")) for _ in range(20)]
        read = group.create_task(client.get("held"))
        seen = group.create_task(anext(feed))
        done, _ = await asyncio.wait([*counts, read], timeout=SHORT_S)
        assert not done, "nothing is acknowledged by one node of three"
        nodes.start(next(node_id for node_id in nodes.ids if node_id != survivor))
    assert sorted(count.result() for count in counts) == list(range(2, 22))
    assert seen.result().value == b"2"
    grant.check()
    info = await client.lock_info("held")
    assert [holder.token for holder in info.holders] == [grant.token]
    feed.close()
