"""A session over its streams: what is sent again, where, what the caller hears."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from raftclient import (
    InvalidRequest,
    LimitExceeded,
    OutcomeUnknown,
    PreconditionFailed,
    Unavailable,
    aio,
)
from raftpb.v1.common_pb2 import Refusal
from raftpb.v1.sessions_pb2 import StreamRequest
from tests.client.deadlines import Deadlines
from tests.client.fake_server import BOTH, FakeCluster
from tests.client.fake_state import Act, refusal


def numbers(cluster: FakeCluster) -> list[int]:
    return [each.number for each in cluster.state.applied]


@BOTH
async def test_writes_are_numbered_from_one(
    cluster: FakeCluster, client: aio.Client
) -> None:
    for key in "abc":
        await client.put(key, "1")
    assert numbers(cluster) == [1, 2, 3]
    assert cluster.state.keys == {b"a": b"1", b"b": b"1", b"c": b"1"}


async def test_reads_alone_open_no_session(
    cluster: FakeCluster, client: aio.Client
) -> None:
    assert await client.get("a") is None
    assert not cluster.state.sessions
    await client.put("a", "1")
    found = await client.get("a")
    assert found is not None
    assert found.value == b"1"
    assert len(cluster.state.sessions) == 1


@BOTH
async def test_a_thousand_writes_share_few_messages(
    cluster: FakeCluster, client: aio.Client
) -> None:
    await client.put("first", "")
    before = len(cluster.messages)
    await asyncio.gather(*(client.put(f"k{n}", "") for n in range(1000)))
    assert sum(bool(each.requests) for each in cluster.messages[before:]) <= 4
    assert numbers(cluster) == list(range(1, 1002))


async def test_what_is_acknowledged_is_carried_to_the_server(
    cluster: FakeCluster, client: aio.Client
) -> None:
    for key in "abc":
        await client.put(key, "")
    (session,) = cluster.state.sessions.values()
    assert session.acknowledged == 2


@BOTH
async def test_a_write_whose_answer_was_lost_is_applied_once(
    cluster: FakeCluster, client: aio.Client
) -> None:
    acts = iter([Act.ANSWER, Act.APPLY_AND_CUT])
    cluster.state.behave = lambda request: next(acts, Act.ANSWER)
    assert await client.incr("n") == 1
    assert await client.incr("n") == 2
    assert await client.incr("n") == 3
    assert numbers(cluster) == [1, 2, 3]


@BOTH
async def test_unanswered_writes_are_sent_again_in_order_before_new_ones(
    cluster: FakeCluster, client: aio.Client
) -> None:
    await client.put("first", "")
    cluster.state.behave = lambda request: Act.HOLD
    old = [asyncio.create_task(client.put(f"old{n}", "")) for n in range(20)]
    await cluster.until(lambda: len(cluster.held) == 20)
    cluster.held.clear()
    cluster.state.behave = lambda request: Act.ANSWER
    before = len(cluster.messages)
    cluster.cut_streams()
    new = [asyncio.create_task(client.put(f"new{n}", "")) for n in range(5)]
    await asyncio.gather(*old, *new)
    again = [r.number for m in cluster.messages[before:] for r in m.requests]
    assert again == list(range(2, 27))
    kinds = [body.key[:3] for body in cluster.state.of_kind("put_key")[1:]]
    assert kinds == [b"old"] * 20 + [b"new"] * 5


async def test_a_follower_sends_the_client_to_the_leader(three: FakeCluster) -> None:
    three.leader = 3
    async with aio.connect(three.endpoints) as client:
        await client.put("a", "1")
        assert [node for node, _ in three.hellos][-1] == 3
        three.leader = 2
        three.cut_streams()
        await client.put("b", "1")
        assert [node for node, _ in three.hellos][-1] == 2
    assert numbers(three) == [1, 2]


async def test_own_endpoints_win_over_advertised_addresses(three: FakeCluster) -> None:
    three.leader = 3
    three.advertised = dict.fromkeys(three.nodes, "unreachable.invalid:1")
    async with aio.connect(three.endpoints) as client:
        await client.put("a", "1")
    assert three.hellos[-1][0] == 3


async def test_an_advertised_address_is_used_when_no_own_endpoint_leads(
    three: FakeCluster,
) -> None:
    three.leader = 2
    async with aio.connect(three.nodes[1].address) as client:
        await client.put("a", "1")
    assert [node for node, _ in three.hellos] == [1, 2]


async def test_a_leader_out_of_reach_is_relayed_to(three: FakeCluster) -> None:
    three.leader = 2
    three.advertised = {2: "127.0.0.1:1"}
    async with aio.connect(three.nodes[1].address) as client:
        await client.put("a", "1")
    assert [(node, hello.relay) for node, hello in three.hellos] == [
        (1, False),
        (1, True),
    ]


async def test_without_a_leader_calls_wait_until_there_is_one(
    three: FakeCluster,
) -> None:
    async with aio.connect(three.endpoints) as client:
        await client.put("a", "1")
        three.leader = 0
        before = len(three.hellos)
        three.cut_streams()
        waiting = asyncio.create_task(client.put("b", "1"))
        await three.until(lambda: len(three.hellos) >= before + 4)
        assert not waiting.done()
        three.leader = 2
        await waiting
    assert numbers(three) == [1, 2]


@BOTH
@pytest.mark.parametrize("reason", ["OVERLOADED", "NOT_LEADER", "SHUTTING_DOWN"])
async def test_a_refusal_for_now_is_retried_with_the_same_number(
    cluster: FakeCluster, client: aio.Client, reason: str
) -> None:
    seen = []

    def behave(request: StreamRequest) -> Act | Refusal:
        seen.append(request.number)
        return refusal(reason) if len(seen) < 4 else Act.ANSWER

    cluster.state.behave = behave
    await client.put("a", "1")
    assert seen == [1, 1, 1, 1]
    assert numbers(cluster) == [1]


async def test_lack_of_room_in_the_window_is_waited_for(
    cluster: FakeCluster, client: aio.Client
) -> None:
    acts = iter([refusal("TOO_MANY", limit_name="window_answers_max")])
    cluster.state.behave = lambda request: next(acts, Act.ANSWER)
    await client.put("a", "1")
    assert numbers(cluster) == [1]


async def test_a_refusal_for_good_is_raised_with_all_it_says(
    cluster: FakeCluster, client: aio.Client
) -> None:
    cluster.state.behave = lambda request: refusal("PRECONDITION", mod_rev="7")
    with pytest.raises(PreconditionFailed) as raised:
        await client.put("a", "1", if_mod_rev=3)
    assert raised.value.reason == "PRECONDITION"
    assert raised.value.applied == "no"
    assert raised.value.details == {"mod_rev": "7"}
    cluster.state.behave = lambda request: refusal("TOO_LARGE", limit="5")
    with pytest.raises(InvalidRequest):
        await client.put("a", "1")


async def test_a_deadline_before_anything_was_sent_means_not_applied(
    cluster: FakeCluster, client: aio.Client
) -> None:
    cluster.leader = 0
    with pytest.raises(Unavailable) as raised:
        await client.put("a", "1", timeout_s=0.2)
    assert raised.value.applied == "no"
    cluster.leader = 1
    await client.put("b", "1")
    assert list(cluster.state.keys) == [b"b"], "it never will be, either"


async def test_a_deadline_after_a_refusal_means_not_applied(
    cluster: FakeCluster, client: aio.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadlines = Deadlines(monkeypatch)
    refused = greeted = 0

    def behave(request: StreamRequest) -> Refusal:
        nonlocal refused, greeted
        refused += 1
        greeted = len(cluster.hellos)
        cluster.leader = 0  # so it cannot be sent again before the deadline
        return refusal("OVERLOADED")

    cluster.state.behave = behave
    putting = asyncio.create_task(client.put("a", "1"))
    # Who greets anew has heard the refusal.
    await cluster.until(lambda: greeted and len(cluster.hellos) > greeted)
    deadlines.pass_now()
    with pytest.raises(Unavailable) as raised:
        await putting
    assert raised.value.applied == "no"
    assert refused == 1


async def test_a_refusal_says_nothing_of_an_earlier_sending(
    cluster: FakeCluster, client: aio.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadlines = Deadlines(monkeypatch)
    acts = iter([Act.APPLY_AND_CUT])
    greeted = 0

    def behave(request: StreamRequest) -> Act | Refusal:
        nonlocal greeted
        act = next(acts, None)
        if act is None:
            greeted = len(cluster.hellos)
            cluster.leader = 0  # so it cannot be sent again before the deadline
        return act or refusal("OVERLOADED")

    cluster.state.behave = behave
    putting = asyncio.create_task(client.put("a", "1"))
    # Who greets anew has heard the refusal.
    await cluster.until(lambda: greeted and len(cluster.hellos) > greeted)
    deadlines.pass_now()
    with pytest.raises(OutcomeUnknown):
        await putting
    assert cluster.state.keys == {b"a": b"1"}


async def test_a_full_disk_says_nothing_of_an_earlier_sending(
    cluster: FakeCluster, client: aio.Client
) -> None:
    acts: Iterator[Act | Refusal] = iter([Act.APPLY_AND_CUT, refusal("DISK_FULL")])
    cluster.state.behave = lambda request: next(acts, Act.ANSWER)
    await client.put("a", "1")
    assert numbers(cluster) == [1], "asked for again, and found"
    cluster.state.behave = lambda request: refusal("DISK_FULL")
    with pytest.raises(LimitExceeded) as raised:
        await client.put("a", "2")
    assert raised.value.applied == "no"


@BOTH
async def test_a_deadline_after_sending_means_outcome_unknown(
    cluster: FakeCluster, client: aio.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadlines = Deadlines(monkeypatch)
    cluster.state.behave = lambda request: Act.HOLD
    putting = asyncio.create_task(client.put("a", "1"))
    await cluster.until(lambda: cluster.held)
    deadlines.pass_now()
    with pytest.raises(OutcomeUnknown) as raised:
        await putting
    assert raised.value.applied == "unknown"
    cluster.state.behave = lambda request: Act.ANSWER
    await client.put("b", "1")
    (session,) = cluster.state.sessions.values()
    assert session.acknowledged == 0, "the first number is still awaited"
    cluster.release_held()
    await client.put("c", "1")
    await client.put("d", "1")
    assert session.acknowledged >= 2
    assert sorted(cluster.state.keys) == [b"a", b"b", b"c", b"d"]


async def test_a_read_that_nobody_answers_is_unavailable(
    cluster: FakeCluster, client: aio.Client
) -> None:
    cluster.leader = 0
    with pytest.raises(Unavailable):
        await client.get("a", timeout_s=0.2)


async def test_a_stale_read_needs_no_leader(
    cluster: FakeCluster, client: aio.Client
) -> None:
    await client.put("a", "1")
    cluster.leader = 0
    found = await client.get("a", stale=True)
    assert found is not None
    assert (found.value, found.age_ms) == (b"1", 1234)


@BOTH
async def test_closing_says_goodbye_and_ends_what_waits(cluster: FakeCluster) -> None:
    client = aio.connect(cluster.endpoints)
    await client.put("a", "1")
    cluster.state.behave = lambda request: Act.HOLD
    waiting = asyncio.create_task(client.put("b", "1"))
    await cluster.until(lambda: cluster.held)
    await client.close()
    await client.close()
    with pytest.raises(OutcomeUnknown):
        await waiting
    with pytest.raises(Unavailable):
        await client.put("c", "1")
    assert not cluster.state.sessions
