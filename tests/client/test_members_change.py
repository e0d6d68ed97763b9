"""A client keeps up with members that come, go and move, whatever it is doing.

Source: docs/adr/0010; DESIGN.md section 7.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from raftclient import _endpoints, aio
from raftclient._endpoints import Endpoints, Members, Target
from raftpb.v1 import sessions_pb2
from tests.client.fake_server import FakeCluster
from tests.client.fake_state import refusal

ONE, OTHER = b"1" * 16, b"2" * 16


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set what the endpoints take for the time."""
    return lambda now_s: monkeypatch.setattr(_endpoints, "boottime_s", lambda: now_s)


# --- what is known ----------------------------------------------------------------


def test_a_newer_list_adds_moves_and_forgets() -> None:
    endpoints = Endpoints(["x:1"])
    endpoints.learn_members(Members({1: "x:1", 2: "y:1", 3: "z:1"}, 5, ONE))
    endpoints.learn_members(Members({1: "x:1", 3: "z:2", 4: "w:1"}, 6, ONE))
    assert endpoints.known() == ("x:1", "z:2", "w:1")


def test_an_older_list_is_not_believed() -> None:
    endpoints = Endpoints(["x:1"])
    endpoints.learn_members(Members({1: "x:1", 4: "w:1"}, 6, ONE))
    endpoints.learn_members(Members({1: "x:1", 2: "y:1"}, 5, ONE))
    assert endpoints.known() == ("x:1", "w:1")


def test_a_list_without_an_index_only_adds_who_has_not_left() -> None:
    endpoints = Endpoints(["x:1"])
    endpoints.learn_members(Members({1: "x:1", 2: "y:1"}, 5, ONE))
    endpoints.learn_members(Members({1: "x:1", 3: "z:1"}, 6, ONE))
    endpoints.learn_members(Members({2: "y:1", 4: "w:1", 5: ""}))
    assert endpoints.known() == ("x:1", "z:1", "w:1")


def test_another_cluster_begins_anew() -> None:
    endpoints = Endpoints(["x:1"])
    endpoints.learn_members(Members({1: "x:1", 2: "y:1"}, 500, ONE))
    endpoints.learn_members(Members({1: "x:1", 3: "z:1"}, 5, OTHER))
    assert endpoints.known() == ("x:1", "z:1")


def test_an_own_endpoint_of_a_member_that_left_is_kept_but_comes_last() -> None:
    endpoints = Endpoints(["x:1", "y:1"])
    endpoints.learn("x:1", 1, {})
    endpoints.learn_members(Members({1: "far:1", 2: "y:1"}, 5, ONE))
    endpoints.learn_members(Members({4: "w:1"}, 6, ONE))
    assert endpoints.known() == ("w:1", "x:1", "y:1")
    assert endpoints.pick() == Target("w:1")
    endpoints.failed("w:1")
    assert endpoints.pick() == Target("x:1")
    endpoints.learn("x:1", 4, {})
    endpoints.succeeded("x:1")
    assert endpoints.known() == ("x:1", "w:1", "y:1"), "another is behind it now"


def test_members_are_asked_for_when_no_list_came_for_long(
    set_clock: Callable[[float], None],
) -> None:
    set_clock(100.0)
    endpoints = Endpoints(["x:1"])
    assert not endpoints.wants_members(), "a client that ends soon need not ask"
    set_clock(100.0 + _endpoints.ASK_AGAIN_S)
    assert endpoints.wants_members()
    assert not endpoints.wants_members(), "once"
    set_clock(100.0 + 2 * _endpoints.ASK_AGAIN_S)
    endpoints.learn_members(Members({1: "x:1"}, 5, ONE))
    assert not endpoints.wants_members()


def test_a_failed_endpoint_is_a_reason_to_ask(
    set_clock: Callable[[float], None],
) -> None:
    set_clock(100.0)
    endpoints = Endpoints(["x:1"])
    set_clock(100.0 + _endpoints.ASK_AT_ONCE_S)
    assert not endpoints.wants_members()
    endpoints.failed("x:1")
    assert endpoints.wants_members()
    assert not endpoints.wants_members(), "once"


# --- a client ---------------------------------------------------------------------


@contextlib.asynccontextmanager
async def following(cluster: FakeCluster) -> AsyncIterator[aio.Client]:
    """A client that knows the first node only, and has a session and its stream."""
    async with aio.connect(cluster.nodes[1].address, timeout_s=30) as client:
        await client.put("first", "1")
        yield client


class Known:
    """Tells when a client knows exactly some addresses, whichever thread learns."""

    def __init__(self, patch: pytest.MonkeyPatch, *addresses: str) -> None:
        learn, self._is_so = Endpoints.learn_members, threading.Event()

        def learn_members(endpoints: Endpoints, members: Members) -> None:
            learn(endpoints, members)
            if endpoints.known() == addresses:
                self._is_so.set()

        patch.setattr(Endpoints, "learn_members", learn_members)

    async def wait(self) -> None:
        assert await asyncio.to_thread(self._is_so.wait, 60), "it never learnt them"


async def test_a_stream_follows_when_all_members_are_replaced(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = cluster.nodes[1], cluster.add(), cluster.add()
    cluster.advertised = {1: first.address}
    known = Known(monkeypatch, second.address, third.address, first.address)
    async with following(cluster) as client:
        cluster.have_members(1, 2, index=10)
        await client.get("settle")
        cluster.have_members(2, 3, index=20)
        await client.get("settle")
        cluster.leader = 3
        first.stop()
        assert await client.incr("n") == 1
        assert cluster.hellos[-1][0] == 3
        await known.wait()


async def test_an_end_that_names_the_heir_sends_the_client_there(
    cluster: FakeCluster,
) -> None:
    cluster.add()
    cluster.add()
    async with following(cluster) as client:
        cluster.have_members(2, 3, index=10)
        cluster.leader = 3
        (stream,) = cluster.nodes[1].streams
        stream.end(refusal("NOT_LEADER"))
        await client.incr("n")
        assert [node for node, _ in cluster.hellos] == [1, 3]


async def test_an_end_brings_the_members_along(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = cluster.add()
    known = Known(monkeypatch, cluster.nodes[1].address, second.address)
    async with following(cluster) as client:
        (stream,) = cluster.nodes[1].streams
        cluster.leader = 2
        cluster.advertised = {2: cluster.nodes[2].address}
        message = sessions_pb2.StreamSessionResponse(
            members=cluster.addresses(), members_index=10
        )
        message.end.refusal.CopyFrom(refusal("NO_LEADER"))
        stream.send(message)
        stream.end()
        await known.wait()
        cluster.nodes[1].stop()
        await client.incr("n")
        assert cluster.hellos[-1][0] == 2


async def test_unary_calls_alone_learn_who_the_members_are(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = cluster.add()
    cluster.have_members(1, 2, index=10)
    known = Known(monkeypatch, cluster.nodes[1].address, second.address)
    monkeypatch.setattr(_endpoints, "ASK_AGAIN_S", 0.0)
    async with aio.connect(cluster.nodes[1].address, timeout_s=30) as client:
        await client.status()
        await known.wait()
        cluster.nodes[1].stop()
        assert (await client.status()).node_id == 2


@pytest.mark.usefixtures("_often")
async def test_renewals_go_to_members_that_came_later(cluster: FakeCluster) -> None:
    first = cluster.nodes[1]
    async with aio.connect(first.address, ttl_s=20, timeout_s=30) as client:
        session = await client.session()
        cluster.add()
        cluster.leader = 2
        cluster.have_members(2, index=10)
        await client.put("settle", "1")
        first.stop()
        seen = len(cluster.state.renewals)
        await cluster.until(lambda: len(cluster.state.renewals) > seen + 4)
        session.check()


@pytest.mark.usefixtures("_often")
async def test_renewals_alone_learn_who_the_members_are(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stream has ended, and it has nothing to ask: only its session goes on."""
    first, second = cluster.nodes[1], cluster.add()
    cluster.advertised = {1: first.address}
    known = Known(monkeypatch, first.address, second.address)
    monkeypatch.setattr(_endpoints, "ASK_AGAIN_S", 0.0)
    async with aio.connect(first.address, ttl_s=20, timeout_s=30) as client:
        await client.put("first", "1")
        cluster.cut_streams()
        cluster.advertised = {1: first.address, 2: second.address}
        cluster.members_index = 10
        await known.wait()
        assert [node for node, _ in cluster.hellos] == [1]
        await first_is_replaced(cluster, client)


async def first_is_replaced(cluster: FakeCluster, client: aio.Client) -> None:
    """Take the only member that a client was told of away; it goes on."""
    cluster.leader = 2
    cluster.nodes[1].stop()
    assert await client.incr("n") == 1
