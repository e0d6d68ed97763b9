"""What becomes of unanswered writes when their session is over."""

from __future__ import annotations

import asyncio

import pytest

from raftclient import LeaseLost, OutcomeUnknown, _held, aio
from raftclient._clock import boottime_s
from tests.client.deadlines import fly
from tests.client.fake_server import FakeCluster
from tests.client.fake_state import Act
from tests.workload.tap import TappedClient, noting


async def test_later_calls_get_a_new_session(
    cluster: FakeCluster, client: aio.Client
) -> None:
    await client.put("a", "1")
    cluster.state.expire_all()
    cluster.cut_streams()
    await client.put("b", "1")
    first, second = (each.session_id for each in cluster.state.applied)
    assert first != second
    assert len({hello.session_key for _, hello in cluster.hellos}) == 2


async def test_a_write_applied_before_the_end_gets_its_first_answer(
    cluster: FakeCluster, client: aio.Client
) -> None:
    await client.put("a", "1")
    cluster.state.behave = lambda request: Act.HOLD
    waiting = asyncio.create_task(client.put("b", "2"))
    await cluster.until(lambda: cluster.held)
    with cluster.state.changed:
        stream, request = cluster.held.pop()
        stream.apply(request, is_silent=True)
        cluster.state.expire_all()
        revision = cluster.state.revision
        cluster.state.behave = lambda request: Act.ANSWER
    cluster.cut_streams()
    assert (await waiting).revision == revision
    assert [body.key for body in cluster.state.of_kind("put_key")] == [b"a", b"b"]
    (asked,) = cluster.nodes[1].unary_calls
    assert asked.write.number == 2


@pytest.mark.parametrize("is_room_made", [True, False])
async def test_a_full_disk_says_nothing_of_a_write_before_the_end(
    cluster: FakeCluster, client: aio.Client, is_room_made: bool
) -> None:
    await client.put("a", "1")
    cluster.state.behave = lambda request: Act.HOLD
    waiting = asyncio.create_task(client.put("b", "2", timeout_s=60))
    await cluster.until(lambda: cluster.held)
    with cluster.state.changed:
        stream, request = cluster.held.pop()
        stream.apply(request, is_silent=True)
        cluster.state.expire_all()
        cluster.state.full_keys.add(b"b")
    cluster.cut_streams()
    await cluster.until(lambda: len(cluster.nodes[1].unary_calls) > 1)
    if is_room_made:
        cluster.state.full_keys.clear()
        await waiting
    else:
        fly(60)
        with pytest.raises(OutcomeUnknown):
            await waiting
    assert [body.key for body in cluster.state.of_kind("put_key")] == [b"a", b"b"]


async def test_a_first_answer_found_later_says_its_revision(
    cluster: FakeCluster,
) -> None:
    async with TappedClient(cluster.endpoints) as client:
        await client.put("a", "1")
        cluster.state.behave = lambda request: Act.HOLD
        with noting() as note:
            waiting = asyncio.create_task(client.put("b", "2"))
        await cluster.until(lambda: cluster.held)
        with cluster.state.changed:
            stream, request = cluster.held.pop()
            stream.apply(request, is_silent=True)
            (session,) = cluster.state.sessions.values()
            session.answers[request.number].put_key.header.revision = 777
            cluster.state.expire_all()
            cluster.state.behave = lambda request: Act.ANSWER
        cluster.cut_streams()
        await waiting
    assert note.revision == 777


async def test_a_claim_that_was_asked_for_before_the_end_may_have_been_granted(
    cluster: FakeCluster, client: aio.Client
) -> None:
    """It ended with the session; that it never was would be another thing to say."""
    await client.session()
    cluster.state.behave = lambda request: Act.HOLD
    waiting = asyncio.create_task(client.lock("reports").acquire())
    await cluster.until(lambda: cluster.held)
    cluster.state.expire_all()
    cluster.cut_streams()
    with pytest.raises(LeaseLost) as raised:
        await waiting
    assert raised.value.applied == "unknown"


async def test_a_write_never_applied_is_made_anew_in_the_next_session(
    cluster: FakeCluster, client: aio.Client
) -> None:
    await client.put("a", "1")
    cluster.state.behave = lambda request: Act.HOLD
    waiting = asyncio.create_task(client.put("b", "2"))
    await cluster.until(lambda: cluster.held)
    with cluster.state.changed:
        cluster.state.expire_all()
        cluster.state.behave = lambda request: Act.ANSWER
    cluster.cut_streams()
    await waiting
    first, second = cluster.state.applied
    assert (second.number, second.body.key) == (1, b"b")
    assert first.session_id != second.session_id


async def test_a_write_made_anew_is_not_taken_for_one_that_was_given_up(
    cluster: FakeCluster, client: aio.Client
) -> None:
    """The search for first answers ends while the new write is on its way."""
    await client.put("a", "1")
    cluster.state.behave = lambda request: Act.HOLD
    cluster.state.leaderless_keys.add(b"slow")
    anew = asyncio.create_task(client.put("anew", "1"))
    slow = asyncio.create_task(client.put("slow", "1"))
    await cluster.until(lambda: len(cluster.held) == 2)
    cluster.state.expire_all()
    cluster.cut_streams()
    await cluster.until(lambda: len(cluster.held) == 3)
    cluster.state.leaderless_keys.clear()
    await cluster.until(lambda: len(cluster.held) == 4)
    assert not anew.done()
    cluster.release_held()
    await asyncio.gather(anew, slow)


async def test_a_forgotten_session_means_outcome_unknown(
    cluster: FakeCluster, client: aio.Client
) -> None:
    await client.put("a", "1")
    cluster.state.behave = lambda request: Act.HOLD
    waiting = asyncio.create_task(client.put("b", "2"))
    await cluster.until(lambda: cluster.held)
    with cluster.state.changed:
        cluster.state.forget_all()
        cluster.state.behave = lambda request: Act.ANSWER
    cluster.cut_streams()
    with pytest.raises(OutcomeUnknown) as raised:
        await waiting
    assert raised.value.reason == "SESSION_UNKNOWN"
    await client.put("c", "3")


async def test_watches_go_on_in_the_next_session(
    cluster: FakeCluster, client: aio.Client
) -> None:
    await client.put("a", "1")
    async with client.watch(prefix=""):
        await cluster.until(lambda: len(cluster.watches) == 1)
        cluster.state.expire_all()
        cluster.cut_streams()
        await client.put("b", "1")
        # Once without a session, perhaps, and then with the new one.
        await cluster.until(lambda: len(cluster.watches) >= 2)
    assert len(cluster.state.sessions) == 2


async def test_a_loss_that_a_call_notices_brings_one_new_session(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes on by itself, here a watch, opens it before the call could."""
    late_s = 0.0
    monkeypatch.setattr(_held, "boottime_s", lambda: boottime_s() + late_s)
    async with aio.connect(cluster.endpoints) as client:
        await client.put("a", "1")
        (old,) = cluster.state.sessions
        async with client.watch(key="a"):
            await cluster.until(lambda: cluster.watches)
            late_s = 1000.0
            opening = asyncio.create_task(client.session())
            await asyncio.sleep(0)
            late_s = 0.0
            await opening
            await client.put("b", "1")
            assert len(cluster.state.sessions) == 2
    assert [*cluster.state.sessions] == [old], "all others are closed"
