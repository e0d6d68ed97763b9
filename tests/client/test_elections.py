"""Elections, as the client handles them."""

from __future__ import annotations

import asyncio

import pytest

from raftclient import Fenced, aio
from raftpb.v1 import elections_pb2
from tests.client.fake_server import FakeCluster
from tests.client.fake_state import Act


async def test_leadership_that_went_to_another_is_lost(
    cluster: FakeCluster, client: aio.Client
) -> None:
    leadership = await client.election("e").campaign("me")
    await cluster.until(lambda: cluster.watches)
    transferred = elections_pb2.ElectionEvent(
        revision=900, leader=elections_pb2.Leadership(epoch=leadership.epoch + 1)
    )
    news = elections_pb2.ObserveElectionResponse(revision=900, events=[transferred])

    async def lead() -> None:
        async with leadership:
            cluster.push(0, observe_election=news)
            await asyncio.Event().wait()

    with pytest.raises(Fenced):
        await lead()
    assert not cluster.state.of_kind("resign")


async def test_leaving_a_leadership_resigns(
    cluster: FakeCluster, client: aio.Client
) -> None:
    async with await client.election("e").campaign("me") as leadership:
        await leadership.proclaim("still me")
        assert leadership.fence().epoch == leadership.epoch
    (resigned,) = cluster.state.of_kind("resign")
    assert resigned.epoch == leadership.epoch


async def test_a_win_that_nobody_waits_for_any_more_is_given_back(
    cluster: FakeCluster, client: aio.Client
) -> None:
    await client.session()
    cluster.state.behave = lambda request: (
        Act.HOLD if request.HasField("campaign") else Act.ANSWER
    )
    standing = asyncio.create_task(client.election("e").campaign("me"))
    await cluster.until(lambda: cluster.held)
    standing.cancel()
    await cluster.until(lambda: cluster.state.of_kind("withdraw_campaign"))
    cluster.release_held()
    await cluster.until(lambda: cluster.state.of_kind("resign"))


async def test_observers_see_every_transition_and_nobody(
    cluster: FakeCluster, client: aio.Client
) -> None:
    async with client.observe("e") as feed:
        await cluster.until(lambda: cluster.watches)
        won = elections_pb2.ElectionEvent(
            revision=5, leader=elections_pb2.Leadership(epoch=5, value=b"me")
        )
        gone = elections_pb2.ElectionEvent(revision=8)
        news = elections_pb2.ObserveElectionResponse(revision=8, events=[won, gone])
        cluster.push(0, observe_election=news)
        first, second = await anext(feed), await anext(feed)
        assert first.leader is not None
        assert (first.leader.epoch, first.leader.value) == (5, b"me")
        assert second.leader is None
        cluster.cut_streams()
        await cluster.until(lambda: len(cluster.watches) == 2)
        assert cluster.watches[1][1].observe_election.from_rev == 9


async def test_an_observer_of_an_empty_cluster_is_told_nothing_twice(
    cluster: FakeCluster, client: aio.Client
) -> None:
    async with client.observe("e") as feed:
        await cluster.until(lambda: cluster.watches)
        nobody = elections_pb2.ElectionEvent(revision=0)
        news = elections_pb2.ObserveElectionResponse(revision=0, events=[nobody])
        cluster.push(0, observe_election=news)
        assert (await anext(feed)).leader is None
        cluster.cut_streams()
        await cluster.until(lambda: len(cluster.watches) == 2)
        assert cluster.watches[1][1].observe_election.from_rev == 1
